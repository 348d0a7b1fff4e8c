package bitrot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// kind is a way to spoil bytes.
type kind string

const (
	flip      kind = "flip"      // one bit
	zero      kind = "zero"      // a sector of 512 bytes
	truncate  kind = "truncate"  // the file ends here
	garbage   kind = "garbage"   // bytes behind the end of the file
	swap      kind = "swap"      // two units of one class, or two files
	duplicate kind = "duplicate" // a unit twice, or a file in the place of another
	stale     kind = "stale"     // the file as it once was
	remove    kind = "delete"    // the file is gone
)

var (
	unitKinds = []kind{flip, zero, truncate, swap, duplicate}
	fileKinds = []kind{garbage, swap, duplicate, stale, remove}
)

// cell is one damage: files and what became of them, nil for gone.
type cell struct {
	place
	kind  kind
	what  string
	files map[string][]byte
}

func (c *cell) String() string {
	return fmt.Sprintf("%s world, %s × %s: %s, %s", c.w.name, c.class, c.kind, c.file, c.what)
}

// spoil makes a damage of a kind to p, or to p and one of the others of its
// class. It returns nil when that is not possible or would change nothing.
func (p place) spoil(k kind, others []place, rng *rand.Rand) *cell {
	c := &cell{place: p, kind: k, files: map[string][]byte{}}
	old := p.w.files[p.file]
	whole := p.class == kindOf(p.file)+" file"
	switch {
	case whole && (k == swap || k == duplicate):
		c.twoFiles(others, rng)
	case whole:
		c.wholeFile(old, rng)
	default:
		c.part(bytes.Clone(old), others, rng)
	}
	for name, data := range c.files {
		if data != nil && bytes.Equal(data, p.w.files[name]) {
			delete(c.files, name)
		}
	}
	if len(c.files) == 0 {
		return nil
	}
	return c
}

func (c *cell) wholeFile(old []byte, rng *rand.Rand) {
	switch c.kind {
	case garbage:
		more := make([]byte, 1+rng.IntN(2000))
		if rng.IntN(3) > 0 { // else zeros
			for i := range more {
				more[i] = byte(rng.Uint32())
			}
		}
		c.files[c.file], c.what = append(bytes.Clone(old), more...), fmt.Sprintf("%d bytes behind the end", len(more))
	case stale:
		if was := c.w.stale[c.file]; was != nil {
			c.files[c.file], c.what = was, fmt.Sprintf("as it was with %d bytes", len(was))
		}
	case remove:
		c.files[c.file], c.what = nil, "gone"
	}
}

func (c *cell) twoFiles(others []place, rng *rand.Rand) {
	o := others[rng.IntN(len(others))]
	if o.w != c.w || o.file == c.file {
		return
	}
	c.files[c.file], c.what = c.w.files[o.file], "in its place "+o.file
	if c.kind == swap {
		c.files[o.file] = c.w.files[c.file]
	}
}

func (c *cell) part(b []byte, others []place, rng *rand.Rand) {
	at := c.off + rng.Int64N(c.len)
	switch c.kind {
	case flip:
		bit := rng.IntN(8)
		b[at] ^= 1 << bit
		c.files[c.file], c.what = b, fmt.Sprintf("bit %d of byte %d (%d of the unit)", bit, at, at-c.off)
	case zero:
		sector := at &^ 511
		clear(b[sector:min(sector+512, int64(len(b)))])
		c.files[c.file], c.what = b, fmt.Sprintf("sector at %d", sector)
	case truncate:
		c.files[c.file], c.what = b[:at], fmt.Sprintf("to %d bytes", at)
	case duplicate:
		c.files[c.file], c.what = slices.Insert(b, int(c.end()), b[c.off:c.end()]...), fmt.Sprintf("%d bytes at %d", c.len, c.off)
	case swap:
		o := others[rng.IntN(len(others))]
		if o.w != c.w || o.file != c.file || o.off == c.off {
			return
		}
		x, y := c.unit, o.unit
		if x.off > y.off {
			x, y = y, x
		}
		c.files[c.file] = slices.Concat(b[:x.off], b[y.off:y.end()], b[x.end():y.off], b[x.off:x.end()], b[y.end():])
		c.what = fmt.Sprintf("%d bytes at %d and %d at %d", x.len, x.off, y.len, y.off)
	}
}

// apply is the world after the damage.
func (c *cell) apply() (*crashfs.FS, error) {
	fs := c.w.fs.Kill()
	for name, data := range c.files {
		var err error
		if data == nil {
			err = fs.Remove(name)
		} else {
			err = write(fs, name, data)
		}
		if err != nil {
			return nil, err
		}
	}
	return fs, nil
}
