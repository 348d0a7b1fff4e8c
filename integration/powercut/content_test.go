package powercut

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/strongroom-backup/strongroom/dedup"
)

type block [dedup.BlockSize]byte

// content is what a disk should hold: never changed, so that models of earlier
// moments can share it.
type content struct {
	size   int64
	blocks map[int64]*block // those that are not zero
	maybe  []maybe          // writes of which it is not known how much was done
}

// maybe is a write without an answer; data nil stands for zeros.
type maybe struct {
	off, n int64
	data   []byte
}

func (c content) clone() content {
	c.blocks = maps.Clone(c.blocks)
	if c.blocks == nil {
		c.blocks = map[int64]*block{}
	}
	c.maybe = slices.Clone(c.maybe)
	return c
}

func (c content) resized(size int64) content {
	c.size = size
	return c
}

// written is c with p at off; nil p stands for n zeros.
func (c content) written(p []byte, off, n int64) content {
	c = c.settled(off, n)
	if p == nil {
		c.zero(off, n)
		return c
	}
	for len(p) > 0 {
		i, in := off/dedup.BlockSize, off%dedup.BlockSize
		b := new(block)
		if old := c.blocks[i]; old != nil {
			*b = *old
		}
		m := copy(b[in:], p)
		c.put(i, b)
		p, off = p[m:], off+int64(m)
	}
	return c
}

func (c content) put(i int64, b *block) {
	if *b == (block{}) {
		delete(c.blocks, i)
		return
	}
	c.blocks[i] = b
}

func (c content) zero(off, n int64) {
	for i, old := range c.blocks {
		start := i * dedup.BlockSize
		from, to := max(off, start), min(off+n, start+dedup.BlockSize)
		if from < to {
			b := *old
			clear(b[from-start : to-start])
			c.put(i, &b)
		}
	}
}

// unsure is c where a write of p may have been done in part.
func (c content) unsure(p []byte, off, n int64) content {
	c = c.clone()
	c.maybe = append(c.maybe, maybe{off: off, n: n, data: p})
	return c
}

// settled is a copy of c where nothing about [off, off+n) is unsure.
func (c content) settled(off, n int64) content {
	old := c.maybe
	c = c.clone()
	c.maybe = nil
	for _, m := range old {
		c.maybe = append(c.maybe, m.cut(m.off, off)...)
		c.maybe = append(c.maybe, m.cut(off+n, m.off+m.n)...)
	}
	return c
}

// cut is the part of m in [from, to).
func (m maybe) cut(from, to int64) []maybe {
	from, to = max(from, m.off), min(to, m.off+m.n)
	if from >= to {
		return nil
	}
	out := maybe{off: from, n: to - from}
	if m.data != nil {
		out.data = m.data[from-m.off : to-m.off]
	}
	return []maybe{out}
}

func (m maybe) at(pos int64) (b byte, ok bool) {
	if pos < m.off || pos >= m.off+m.n {
		return 0, false
	}
	if m.data == nil {
		return 0, true
	}
	return m.data[pos-m.off], true
}

// reader is what disks and images share.
type reader interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(off, n int64, yield func(length int64, zero bool) bool) error
}

// check compares every byte of r with c.
func (c content) check(r reader) error {
	if r.Size() != c.size {
		return fmt.Errorf("size is %d, want %d", r.Size(), c.size)
	}
	holes, err := c.holes(r)
	if err != nil {
		return err
	}
	for _, i := range c.interesting(holes) {
		if err := c.checkBlock(r, i, holes); err != nil {
			return err
		}
	}
	return nil
}

// holes are the blocks r calls zero.
func (c content) holes(r reader) (holes func(block int64) bool, err error) {
	type span struct{ from, to int64 }
	var data []span
	off := int64(0)
	err = r.Extents(0, c.size, func(n int64, zero bool) bool {
		if !zero {
			data = append(data, span{off / dedup.BlockSize, (off + n + dedup.BlockSize - 1) / dedup.BlockSize})
		}
		off += n
		return true
	})
	if err == nil && off != c.size {
		err = fmt.Errorf("extents cover %d of %d bytes", off, c.size)
	}
	return func(i int64) bool {
		return !slices.ContainsFunc(data, func(s span) bool { return i >= s.from && i < s.to })
	}, err
}

// interesting are the blocks that may hold anything but zeros, by the model or
// by the extents.
func (c content) interesting(hole func(int64) bool) (list []int64) {
	for i := int64(0); i*dedup.BlockSize < c.size; i++ {
		if c.blocks[i] != nil || !hole(i) || slices.ContainsFunc(c.maybe, func(m maybe) bool {
			return m.data != nil && m.off < (i+1)*dedup.BlockSize && m.off+m.n > i*dedup.BlockSize
		}) {
			list = append(list, i)
		}
	}
	return list
}

func (c content) checkBlock(r reader, i int64, hole func(int64) bool) error {
	start := i * dedup.BlockSize
	got := make([]byte, min(dedup.BlockSize, c.size-start))
	if _, err := r.ReadAt(got, start); err != nil {
		return fmt.Errorf("read block %d: %w", i, err)
	}
	want := c.blocks[i]
	if want == nil {
		want = new(block)
	}
	if hole(i) && slices.ContainsFunc(got, func(b byte) bool { return b != 0 }) {
		return fmt.Errorf("block %d is called a hole and has data", i)
	}
	if bytes.Equal(got, want[:len(got)]) {
		return nil
	}
	for j, b := range got {
		if b != want[j] && !c.mayBe(start+int64(j), b) {
			return fmt.Errorf("block %d, byte %d: %#x, want %#x", i, j, b, want[j])
		}
	}
	return nil
}

func (c content) mayBe(pos int64, b byte) bool {
	return slices.ContainsFunc(c.maybe, func(m maybe) bool {
		x, ok := m.at(pos)
		return ok && x == b
	})
}
