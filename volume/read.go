package volume

import (
	"io"

	"github.com/strongroom-backup/strongroom/dedup"
)

// ReadAt fills p with the disk's present content: what the session wrote over
// what its parent has.
func (x *Disk) ReadAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, int64(len(p)), x.Size()); err != nil || len(p) == 0 {
		return 0, err
	}
	op, err := x.d.enter()
	if err != nil {
		return 0, err
	}
	defer x.d.leave(op)
	if err := x.d.read(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// patchedBlock is a block of a read with raw extents over it.
type patchedBlock struct {
	index int // of the block in the read
	list  []patch
	raw   io.ReaderAt // the journal the extents are in
}

func (d *disk) read(p []byte, off int64) error {
	first := off / dedup.BlockSize
	list := make([]dedup.Addr, (off+int64(len(p))-1)/dedup.BlockSize-first+1)
	patched, err := d.resolve(first, list)
	if err != nil {
		return err
	}
	if err := d.s.m.readBlocks(p, off, list, 0); err != nil {
		return err
	}
	for _, b := range patched {
		start := (first+int64(b.index))*dedup.BlockSize - off // of the block in p
		from, to := max(start, 0), min(start+dedup.BlockSize, int64(len(p)))
		if err := d.overlay(p[from:to], from-start, b.list, b.raw); err != nil {
			return err
		}
	}
	return nil
}

// resolve finds where blocks from first on lie. Patches are only ever appended
// to the slices it returns, so they may be used without the lock.
func (d *disk) resolve(first int64, list []dedup.Addr) (patched []patchedBlock, err error) {
	for done := 0; done < len(list); {
		block := first + int64(done)
		index, in := block/dedup.ChunkBlocks, int(block%dedup.ChunkBlocks)
		n := min(len(list)-done, dedup.ChunkBlocks-in)
		over, err := d.locate(index, in, list[done:done+n])
		if err != nil {
			return nil, err
		}
		for _, p := range over {
			p.index += done
			patched = append(patched, p)
		}
		done += n
	}
	return patched, nil
}

// locate finds where some blocks of a chunk lie, from its block in on, and the
// patches over them. The journal that has their bytes may be replaced
// (rewrite.go); it is not closed before the operation ends.
func (d *disk) locate(index int64, in int, list []dedup.Addr) (patched []patchedBlock, err error) {
	under, err := d.s.m.cache.get(d.base.number(index))
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.here(); err != nil {
		return nil, err
	}
	c := d.chunks[uint32(index)]
	if c == nil {
		copy(list, under[in:])
		return nil, nil
	}
	a := c.blocks
	if a == nil {
		if a, err = d.load(c); err != nil {
			return nil, err
		}
	}
	for i := range list {
		list[i] = a[in+i]
		if list[i] == inherit {
			list[i] = under[in+i]
		}
		if l := c.patches[uint16(in+i)]; l != nil {
			patched = append(patched, patchedBlock{i, l, d.journal.file})
		}
	}
	return patched, nil
}

// view is a chunk as it reads now: addresses with the base filled in, to be
// read only, and which of its blocks have patches over them.
func (d *disk) view(index int64) (a *addrs, patched []uint16, err error) {
	under, err := d.s.m.cache.get(d.base.number(index))
	if err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.here(); err != nil {
		return nil, nil, err
	}
	c := d.chunks[uint32(index)]
	if c == nil {
		return under, nil, nil
	}
	if c.spill == spillZero {
		return &zeroAddrs, nil, nil
	}
	if a, err = d.load(c); err != nil {
		return nil, nil, err
	}
	for i := range a {
		if a[i] == inherit {
			a[i] = under[i]
		}
	}
	for b := range c.patches {
		patched = append(patched, b)
	}
	return a, patched, nil
}

// readBlocks fills p, which begins at byte off of a disk, from the blocks that
// hold it: list[first] is the block of off. What else is in list lies around it.
func (m *Manager) readBlocks(p []byte, off int64, list []dedup.Addr, first int) error {
	if in := int(off % dedup.BlockSize); in != 0 || len(p) < dedup.BlockSize {
		n := min(len(p), dedup.BlockSize-in)
		if err := m.blocks.ReadBytes(list[first], in, p[:n]); err != nil {
			return err
		}
		p, first = p[n:], first+1
	}
	if whole := len(p) / dedup.BlockSize; whole > 0 {
		if err := m.blocks.ReadWithin(list, first, first+whole, p[:whole*dedup.BlockSize]); err != nil {
			return err
		}
		p, first = p[whole*dedup.BlockSize:], first+whole
	}
	if len(p) == 0 {
		return nil
	}
	return m.blocks.ReadBytes(list[first], 0, p)
}

// Extents tells which parts of [off, off+n) are zero without reading data. A
// part that is not known to be zero is called data.
func (x *Disk) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	if err := checkRange(off, n, x.Size()); err != nil {
		return err
	}
	op, err := x.d.enter()
	if err != nil {
		return err
	}
	defer x.d.leave(op)
	return extents(off, n, yield, x.d.present)
}

// present is a chunk's addresses, with some for blocks written in part.
func (d *disk) present(index int64) (*addrs, error) {
	a, patched, err := d.view(index)
	for _, b := range patched {
		a[b] = 1 // any address but zero's; a is a copy, since the chunk was touched
	}
	return a, err
}

// extents walks [off, off+n) chunk by chunk and yields maximal extents.
func extents(off, n int64, yield func(int64, bool) bool, view func(int64) (*addrs, error)) error {
	var length int64
	var zero bool
	for end := off + n; off < end; {
		a, err := view(off / dedup.ChunkSize)
		if err != nil {
			return err
		}
		for stop := min(end, (off/dedup.ChunkSize+1)*dedup.ChunkSize); off < stop; {
			step := stop - off
			if a != &zeroAddrs {
				step = min(step, dedup.BlockSize-off%dedup.BlockSize)
			}
			z := a[off/dedup.BlockSize%dedup.ChunkBlocks] == 0
			if z != zero && length > 0 {
				if !yield(length, zero) {
					return nil
				}
				length = 0
			}
			zero, length, off = z, length+step, off+step
		}
	}
	if length > 0 {
		yield(length, zero)
	}
	return nil
}
