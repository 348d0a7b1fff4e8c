package volume

import (
	"fmt"
	"sync"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Disk is a session's disk, writable. It implements the NBD device.
type Disk struct{ d *disk }

// VM is the virtual machine the disk belongs to.
func (x *Disk) VM() string { return x.d.s.file.VM }

// Name is the disk's name.
func (x *Disk) Name() string { return x.d.spec.Disk }

// Session is the id of the session the disk belongs to.
func (x *Disk) Session() string { return x.d.s.file.ID }

// Size is the disk's size in bytes.
func (x *Disk) Size() int64 { return x.d.spec.Size }

// Close gives the handle back. The session goes on.
func (x *Disk) Close() error { return nil }

// enter begins an operation; leave, with what enter returned, ends it.
func (d *disk) enter() (parity, error) {
	d.s.gate.RLock()
	err := d.s.working()
	if err == nil && d.gone {
		err = fmt.Errorf("%w: %s of session %s was dropped", ErrClosed, d.what(), d.s.file.ID)
	}
	if err != nil {
		d.s.gate.RUnlock()
		return 0, err
	}
	return d.s.m.epochs.enter(), nil
}

func (d *disk) leave(op parity) {
	d.s.m.epochs.leave(op)
	d.s.gate.RUnlock()
}

// WriteAt stores p. When it returns nil the data survives a crash of the
// server, and Flush makes it survive a power cut. p is not kept.
func (x *Disk) WriteAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, int64(len(p)), x.Size()); err != nil || len(p) == 0 {
		return 0, err
	}
	op, err := x.d.enter()
	if err != nil {
		return 0, err
	}
	defer x.d.leave(op)
	if err := x.d.write(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero makes [off, off+n) read as zeros, at the price of one journal record.
func (x *Disk) Zero(off, n int64) error {
	if err := checkRange(off, n, x.Size()); err != nil || n == 0 {
		return err
	}
	op, err := x.d.enter()
	if err != nil {
		return err
	}
	defer x.d.leave(op)
	d := x.d
	return d.log(func() error {
		d.total.zeroed += n
		return d.logZero(off, n, false)
	})
}

// logZero logs and applies that a range is zero; sent says that it came as data.
func (d *disk) logZero(off, n int64, sent bool) error {
	if err := d.journal.appendZero(off, n, sent); err != nil {
		return err
	}
	if err := d.applyZero(off, n); err != nil {
		return err
	}
	return d.settle()
}

// Flush returns when everything acknowledged before, on any disk of the
// session, survives a power cut.
func (x *Disk) Flush() error {
	op, err := x.d.enter()
	if err != nil {
		return err
	}
	defer x.d.leave(op)
	return x.d.s.flush(x.d.s.maps())
}

// span is a byte range of the disk.
type span struct{ off, end int64 }

// split cuts [off, end) into whole blocks [first, last) and what is less than a
// block before and after them. A disk's last block counts as whole when the
// range reaches the disk's end.
func split(off, end, size int64) (head, tail span, first, last int64) {
	first, last = (off+dedup.BlockSize-1)/dedup.BlockSize, end/dedup.BlockSize
	if end == size {
		last = (size + dedup.BlockSize - 1) / dedup.BlockSize
	}
	if first > last {
		return span{off, end}, span{}, first, first
	}
	return span{off, min(first*dedup.BlockSize, end)}, span{min(last*dedup.BlockSize, end), end}, first, last
}

var blockBuffers = sync.Pool{New: func() any { return new([dedup.BlockSize]byte) }}

// write stores the whole blocks of p on the caller's time, beside other writes,
// and then logs where they lie.
func (d *disk) write(p []byte, off int64) error {
	head, tail, first, last := split(off, off+int64(len(p)), d.spec.Size)
	var runs []mapped
	var c counts
	if last > first {
		var err error
		if runs, c, err = d.put(p[first*dedup.BlockSize-off:], first, last-first); err != nil {
			return err
		}
	}
	return d.log(func() error {
		if mutant.On("volume/data-before-length") {
			defer d.reach(off + int64(len(p)))
		} else if err := d.reach(off + int64(len(p))); err != nil {
			return err
		}
		if len(runs) > 0 {
			if err := d.logMap(c, runs); err != nil {
				return err
			}
		}
		for _, s := range [...]span{head, tail} {
			if s.off < s.end {
				if err := d.logRaw(p[s.off-off:s.end-off], s.off); err != nil {
					return err
				}
			}
		}
		return d.settle()
	})
}

// put gives n whole blocks, the disk's short last one padded, to the store.
func (d *disk) put(p []byte, first, n int64) ([]mapped, counts, error) {
	out := make([]dedup.Addr, n)
	hints := d.hints(first, n)
	c := counts{written: min(n*dedup.BlockSize, d.spec.Size-first*dedup.BlockSize)}
	whole := min(n, int64(len(p))/dedup.BlockSize)
	if whole > 0 {
		r, err := d.s.writer.Put(p[:whole*dedup.BlockSize], from(hints, 0, whole), out[:whole])
		if err != nil {
			return nil, c, err
		}
		c.fresh, c.stored = r.NewBytes, r.StoredBytes
	}
	if whole < n {
		buf := blockBuffers.Get().(*[dedup.BlockSize]byte)
		defer blockBuffers.Put(buf)
		clear(buf[copy(buf[:], p[whole*dedup.BlockSize:]):])
		r, err := d.s.writer.Put(buf[:], from(hints, whole, n), out[whole:])
		if err != nil {
			return nil, c, err
		}
		c.fresh, c.stored = c.fresh+r.NewBytes, c.stored+r.StoredBytes
	}
	return mappedRuns(first, out), c, nil
}

// hints are the addresses a related image has at these blocks; nil: none known.
// That image may be gone by now, which costs only time.
func (d *disk) hints(first, n int64) []dedup.Addr {
	if d.hint.chunks == nil {
		return nil
	}
	h := make([]dedup.Addr, n)
	if d.s.m.cache.fill(&d.hint, first, h) != nil {
		return nil
	}
	return h
}

func from(h []dedup.Addr, a, b int64) []dedup.Addr {
	if h == nil {
		return nil
	}
	return h[a:b]
}

func mappedRuns(first int64, a []dedup.Addr) (runs []mapped) {
	for i := 0; i < len(a); {
		n := runLength(a[i:])
		runs = append(runs, mapped{block: first + int64(i), count: uint32(n), addr: a[i]})
		i += n
	}
	return runs
}

// logMap logs and applies mappings.
func (d *disk) logMap(c counts, runs []mapped) error {
	if err := d.journal.appendMap(c, runs); err != nil {
		return err
	}
	d.total.add(c)
	for _, r := range runs {
		if err := d.apply(r.block, int64(r.count), r.addr); err != nil {
			return err
		}
	}
	return nil
}

// apply maps blocks [block, block+n) to consecutive slots, or to zeros.
func (d *disk) apply(block, n int64, addr dedup.Addr) error {
	for n > 0 {
		index, in := uint32(block/dedup.ChunkBlocks), block%dedup.ChunkBlocks
		m := min(n, dedup.ChunkBlocks-in)
		if addr == 0 && m == min(dedup.ChunkBlocks, d.numBlocks()-block) && in == 0 {
			d.zeroChunk(index)
		} else if err := d.applyChunk(index, in, m, addr); err != nil {
			return err
		}
		block, n = block+m, n-m
		if addr != 0 {
			addr += dedup.Addr(m)
		}
	}
	return nil
}

// zeroChunk makes a whole chunk zero without a map. A file needs nothing for
// that, since it has nothing beneath.
func (d *disk) zeroChunk(index uint32) {
	c := d.chunks[index]
	if d.file != nil {
		if c != nil {
			d.drop(index, c, spillZero)
			delete(d.chunks, index)
		}
		return
	}
	if c == nil {
		c = new(chunk)
		d.chunks[index] = c
	}
	d.retireChunk(c)
	d.uncopy(index)
	d.drop(index, c, spillZero)
}

func (d *disk) applyChunk(index uint32, in, n int64, addr dedup.Addr) error {
	c, err := d.touch(index)
	if err != nil {
		return err
	}
	d.retire(c.blocks[in : in+n])
	setRun(c.blocks[in:in+n], addr)
	for b := range c.patches {
		if int64(b) >= in && int64(b) < in+n {
			d.unpatch(c, b)
			d.lapse(index, b)
		}
	}
	return nil
}

// applyZero makes a byte range zero.
func (d *disk) applyZero(off, n int64) error {
	head, tail, first, last := split(off, off+n, d.spec.Size)
	for _, s := range [...]span{head, tail} {
		if s.off < s.end {
			if err := d.patch(s.off, s.end-s.off, -1, 0); err != nil {
				return err
			}
		}
	}
	return d.apply(first, last-first, 0)
}
