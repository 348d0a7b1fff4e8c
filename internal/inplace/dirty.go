package inplace

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Dirty is what may differ between a target and a point of its VM. All of it is
// believed.
type Dirty struct {
	Ranges *Ranges
	Size   int64 // of the disk that was mapped; 0 when the map does not tell
	End    int64 // of the last range, as it was told
}

func newDirty() *Dirty { return &Dirty{Ranges: NewRanges(sizeMax)} }

func (d *Dirty) add(off, n int64) {
	d.Ranges.Add(off, n)
	d.End = max(d.End, off+n)
}

// checkRange refuses ranges of disks that cannot be.
func checkRange(off, n int64) error {
	if off < 0 || n < 0 || off > sizeMax || n > sizeMax-off {
		return fmt.Errorf("%d bytes at %d lie on no disk", n, off)
	}
	return nil
}

// ParseDirty reads what changed, in one of three forms:
//
//	[{"offset":0,"length":65536,"type":1,"description":"dirty"}, …]  nbdinfo --json --map=qemu:dirty-bitmap:…
//	[{"start":0,"length":65536,"dirty":true,"zero":false}, …]        imageio, extents?context=dirty
//	65536 131072                                                     lines, OFFSET LENGTH, of what is dirty
//
// The JSON forms tell of each byte of the disk whether it is dirty, in order;
// whatever else they are is refused, as is a file without anything. Errors wrap
// ErrDirty and name the entry. Memory is bounded.
func ParseDirty(r io.Reader) (*Dirty, error) {
	limited := &io.LimitedReader{R: r, N: dirtyFileMax}
	in := bufio.NewReaderSize(limited, dirtyEntryMax)
	d, err := parseDirty(in)
	if err == nil && limited.N == 0 {
		err = fmt.Errorf("it has more than %d bytes", int64(dirtyFileMax))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDirty, err)
	}
	return d, nil
}

func parseDirty(in *bufio.Reader) (*Dirty, error) {
	for {
		c, err := in.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("it is empty; a line \"0 0\" says that nothing changed")
		case err != nil:
			return nil, err
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			continue
		}
		in.UnreadByte()
		if c == '[' {
			return parseMap(in)
		}
		return parseLines(in)
	}
}

func parseLines(in *bufio.Reader) (*Dirty, error) {
	d := newDirty()
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n') // at most dirtyEntryMax
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if err != nil && len(line) > 0 {
			return nil, fmt.Errorf("line %d does not end with a newline: is the file whole?", number)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			off, n, bad := parseLine(string(line))
			if bad != nil {
				return nil, fmt.Errorf("line %d: %w", number, bad)
			}
			d.add(off, n)
		}
		if err != nil {
			return d, nil
		}
	}
}

func parseLine(line string) (off, n int64, err error) {
	words := strings.Fields(line)
	if len(words) != 2 {
		return 0, 0, fmt.Errorf("%.80q: want OFFSET LENGTH, in bytes", strings.TrimSpace(line))
	}
	if off, err = strconv.ParseInt(words[0], 10, 64); err == nil {
		n, err = strconv.ParseInt(words[1], 10, 64)
	}
	if err != nil {
		return 0, 0, err
	}
	return off, n, checkRange(off, n)
}

// entry is an extent of either kind of map.
type entry struct {
	Offset *int64 `json:"offset"`
	Start  *int64 `json:"start"`
	Length *int64 `json:"length"`

	Type        *int64  `json:"type"`
	Description *string `json:"description"`

	Dirty *bool `json:"dirty"`
	Zero  *bool `json:"zero"`
	Hole  *bool `json:"hole"`
}

// read tells what the entry says.
func (e *entry) read() (off, n int64, dirty bool, err error) {
	switch {
	case e.Length == nil:
		return 0, 0, false, errors.New("it has no length")
	case e.Offset != nil && e.Start == nil && e.Type != nil && e.Description != nil && e.Dirty == nil && e.Zero == nil && e.Hole == nil:
		// Of another context, or of one that nbdinfo does not know, the words are others.
		if *e.Description != "dirty" && *e.Description != "clean" || (*e.Type != 0) != (*e.Description == "dirty") {
			return 0, 0, false, fmt.Errorf("type %d is %.40q: a map of a dirty bitmap has \"clean\" (0) and \"dirty\" (1) only", *e.Type, *e.Description)
		}
		return *e.Offset, *e.Length, *e.Type != 0, nil
	case e.Start != nil && e.Offset == nil && e.Dirty != nil && e.Type == nil && e.Description == nil:
		return *e.Start, *e.Length, *e.Dirty, nil
	}
	return 0, 0, false, errors.New("it is neither of nbdinfo's map (offset, length, type, description) nor of imageio's dirty extents (start, length, dirty)")
}

// thrifty lets each entry of a map have so many bytes.
type thrifty struct {
	r    io.Reader
	left int
}

var errLong = errors.New("it is too long")

func (t *thrifty) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, errLong
	}
	n, err := t.r.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, err
}

func parseMap(in *bufio.Reader) (*Dirty, error) {
	t := &thrifty{r: in, left: dirtyEntryMax}
	dec := json.NewDecoder(t)
	dec.DisallowUnknownFields()
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	d := newDirty()
	for number := 1; ; number++ {
		t.left = dirtyEntryMax
		if !dec.More() {
			break
		}
		if err := d.entry(dec); err != nil {
			return nil, fmt.Errorf("entry %d: %w", number, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	t.left = dirtyEntryMax
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the map")
	}
	if d.Size == 0 {
		return nil, errors.New("the map is empty")
	}
	return d, nil
}

// entry reads the next entry; Size is how far the map has come.
func (d *Dirty) entry(dec *json.Decoder) error {
	var e entry
	if err := dec.Decode(&e); err != nil {
		return err
	}
	off, n, dirty, err := e.read()
	if err == nil {
		err = checkRange(off, n)
	}
	switch {
	case err != nil:
		return err
	case off != d.Size || n == 0:
		return fmt.Errorf("%d bytes at %d: the map must go on at %d; it tells of all bytes, in order", n, off, d.Size)
	}
	d.Size += n
	if dirty {
		d.add(off, n)
	}
	return nil
}

// BitmapContext is the NBD metadata context of a dirty bitmap of QEMU, and of
// what has changed since a point on our own exports ("since-" and the point).
func BitmapContext(name string) string { return "qemu:dirty-bitmap:" + name }

// ReadBitmap reads a dirty bitmap from a QEMU process that exports it.
func ReadBitmap(ctx context.Context, uri, name string) (*Dirty, error) {
	to, err := nbdclient.ParseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDirty, err)
	}
	to.Contexts = []string{BitmapContext(name)}
	conn, err := nbdclient.Dial(ctx, to)
	var none *nbdclient.NoContextError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("%w: %s does not offer the bitmap %s: %w; export it with bitmaps=%s (block-export-add) or --bitmap=%s (qemu-nbd)",
			ErrDirty, uri, name, err, name, name)
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	d := newDirty()
	if err := d.AddChanges(conn, to.Contexts[0]); err != nil {
		return nil, err
	}
	d.Size = conn.Size()
	return d, nil
}

// AddChanges adds what a context of an export says to have changed.
func (d *Dirty) AddChanges(conn *nbdclient.Conn, context string) error {
	return conn.Status(context, 0, conn.Size(), func(off, n int64, flags uint32) error {
		if flags != 0 {
			d.Ranges.Add(off, n)
		}
		return nil
	})
}
