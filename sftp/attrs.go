package sftp

import (
	"fmt"
	"io/fs"
	"math"
	"time"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// wireAttrs is what clients are told of a file. Owners do not exist here; they
// are told as 0, because clients that get none make some up.
func wireAttrs(a Attr) sshfx.Attributes {
	return sshfx.Attributes{
		Flags:       sshfx.AttrSize | sshfx.AttrUIDGID | sshfx.AttrPermissions | sshfx.AttrACModTime,
		Size:        uint64(max(a.Size, 0)),
		Permissions: wireMode(a.Mode),
		ATime:       wireTime(a.AccessTime),
		MTime:       wireTime(a.ModTime),
	}
}

func wireMode(m fs.FileMode) sshfx.FileMode {
	kind := sshfx.ModeRegular
	if m.IsDir() {
		kind = sshfx.ModeDir
	}
	return kind | sshfx.FileMode(m.Perm())
}

// wireTime is seconds since 1970 in 32 bits; the protocol has no others.
func wireTime(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// longName is the line that clients print as it is, like ls -l:
//
//	-rw-r--r--    1 0        0            1048576 Nov 20 19:33 disk.qcow2
func longName(name string, a Attr, now time.Time) string {
	format := "Jan _2 15:04"
	if age := now.Sub(a.ModTime); age > 182*24*time.Hour || age < -24*time.Hour {
		format = "Jan _2  2006"
	}
	kind := "-"
	if a.Mode.IsDir() {
		kind = "d"
	}
	return fmt.Sprintf("%s%s %4d %-8d %-8d %12d %s %s", kind, a.Mode.Perm().String()[1:], max(a.Links, 1), 0, 0, a.Size,
		a.ModTime.UTC().Format(format), name)
}

// parseAttrs reads ATTRS:
//
//	flags (4) | size (8) | uid (4) gid (4) | permissions (4) | atime (4) mtime (4) | count (4) (name, data)…
//
// each part only when its flag is set. The codec's own reader is not used: it
// makes room for as many extended attributes as the client says there are.
func parseAttrs(b *sshfx.Buffer) (a sshfx.Attributes, err error) {
	a.Flags = b.ConsumeUint32()
	if a.HasSize() {
		a.Size = b.ConsumeUint64()
	}
	if a.HasUserGroup() {
		a.UID, a.GID = b.ConsumeUint32(), b.ConsumeUint32()
	}
	if a.HasPermissions() {
		a.Permissions = sshfx.FileMode(b.ConsumeUint32())
	}
	if a.HasACModTime() {
		a.ATime, a.MTime = b.ConsumeUint32(), b.ConsumeUint32()
	}
	if a.HasExtended() {
		for n := b.ConsumeUint32(); n > 0 && b.Err == nil; n-- {
			b.ConsumeBytes() // no name is known
			b.ConsumeBytes()
		}
	}
	return a, b.Err
}

// changes is what SETSTAT asks for. Owners and access times are not kept and
// quietly left alone.
func changes(a sshfx.Attributes) (c Changes, err error) {
	if a.HasSize() {
		if a.Size > math.MaxInt64 {
			return c, fmt.Errorf("%w: a size of %d bytes", fs.ErrInvalid, a.Size)
		}
		size := int64(a.Size)
		c.Size = &size
	}
	if a.HasPermissions() {
		mode := fs.FileMode(a.Permissions.Perm())
		c.Mode = &mode
	}
	if a.HasACModTime() {
		t := time.Unix(int64(a.MTime), 0)
		c.ModTime = &t
	}
	return c, nil
}

// isNone says that nothing is to be changed.
func (c Changes) isNone() bool { return c.Size == nil && c.Mode == nil && c.ModTime == nil }
