package life

import (
	"bytes"
	"fmt"
	"maps"

	"github.com/strongroom-backup/strongroom/dedup"
)

type block [dedup.BlockSize]byte

// content is what a disk holds: its size and the blocks that are not zeros.
// Blocks are never changed, only replaced.
type content struct {
	size   int64
	blocks map[int64]*block
}

func (c content) clone() content { return content{c.size, maps.Clone(c.blocks)} }

// resized is a copy with another, larger size.
func (c content) resized(size int64) content {
	n := content{size, maps.Clone(c.blocks)}
	if n.blocks == nil {
		n.blocks = map[int64]*block{}
	}
	return n
}

func (c content) write(p []byte, off int64) {
	for len(p) > 0 {
		i, in := off/dedup.BlockSize, off%dedup.BlockSize
		b := new(block)
		if old := c.blocks[i]; old != nil {
			*b = *old
		}
		n := copy(b[in:], p)
		c.put(i, b)
		p, off = p[n:], off+int64(n)
	}
}

func (c content) put(i int64, b *block) {
	if *b == (block{}) {
		delete(c.blocks, i)
	} else {
		c.blocks[i] = b
	}
}

func (c content) zero(off, n int64) {
	for i := range c.blocks {
		start := i * dedup.BlockSize
		from, to := max(off, start), min(off+n, start+dedup.BlockSize)
		if from < to {
			b := *c.blocks[i]
			clear(b[from-start : to-start])
			c.put(i, &b)
		}
	}
}

// reader is a disk of a session or an image.
type reader interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(off, n int64, yield func(length int64, zero bool) bool) error
}

// check compares every byte: what r calls zeros by looking at the model, the
// rest by reading it.
func (c content) check(r reader) error {
	if r.Size() != c.size {
		return fmt.Errorf("size is %d, want %d", r.Size(), c.size)
	}
	type span struct{ off, n int64 }
	var data []span
	off, seen := int64(0), 0
	err := r.Extents(0, c.size, func(n int64, zero bool) bool {
		if !zero {
			data = append(data, span{off, n})
		}
		off += n
		return true
	})
	if err != nil || off != c.size {
		return fmt.Errorf("extents cover %d of %d bytes: %v", off, c.size, err)
	}
	for _, s := range data {
		n, err := c.checkData(r, s.off, s.n)
		if err != nil {
			return err
		}
		seen += n
	}
	if seen != len(c.blocks) {
		return fmt.Errorf("%d blocks have data, but %d should", seen, len(c.blocks))
	}
	return nil
}

// checkData reads a part that may have data, and counts the blocks that have.
func (c content) checkData(r reader, off, n int64) (seen int, err error) {
	if off%dedup.BlockSize != 0 {
		return 0, fmt.Errorf("data begins at %d, within a block", off)
	}
	var none block
	p := make([]byte, min(n, 16*dedup.BlockSize))
	for end := off + n; off < end; {
		p = p[:min(int64(len(p)), end-off)]
		if _, err := r.ReadAt(p, off); err != nil {
			return seen, fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
		}
		for at := 0; at < len(p); at += dedup.BlockSize {
			got := p[at:min(at+dedup.BlockSize, len(p))]
			i := (off + int64(at)) / dedup.BlockSize
			want := c.blocks[i]
			if want == nil {
				want = &none
			} else {
				seen++
			}
			if !bytes.Equal(got, want[:len(got)]) {
				return seen, fmt.Errorf("block %d is not what was written", i)
			}
		}
		off += int64(len(p))
	}
	return seen, nil
}
