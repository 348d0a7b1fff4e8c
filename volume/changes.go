package volume

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/strongroom-backup/strongroom/dedup"
)

// Changes tells which parts of [off, off+n) of x differ from since, any other
// image: the one of an older or a newer point. It calls yield for consecutive
// extents that begin at off and end at off+n; neighbours differ. It stops early
// when yield returns false. It is safe for concurrent use.
//
// It is exact by 64 KiB blocks: a block is changed when any of its bytes below
// both images' ends differ, or when a part of it lies beyond the end of since.
// No data is read, except of the last block when x is the shorter image. A block
// whose hash is lost to damage is called changed.
func (x *Image) Changes(since *Image, off, n int64, yield func(length int64, changed bool) bool) error {
	if err := checkRange(off, n, x.Size()); err != nil {
		return err
	}
	d := difference{x: x, since: since, common: x.Size(), end: off + n, yield: yield}
	if x.Size() > since.Size() {
		d.common = since.Size() / dedup.BlockSize * dedup.BlockSize
	}
	if err := d.walk(off); err != nil {
		return fmt.Errorf("compare disk %s of point %s of VM %s with point %s: %w", x.Name(), x.point, x.vm, since.point, err)
	}
	return nil
}

// difference walks two images.
type difference struct {
	x, since *Image
	common   int64 // from here on everything is changed; a multiple of a block, or x's end
	end      int64 // of the range asked about
	yield    func(int64, bool) bool

	length  int64 // of the extent that may still grow
	changed bool
	stopped bool // yield wants no more
}

// add takes the next stretch.
func (d *difference) add(length int64, changed bool) {
	if d.length > 0 && d.changed != changed {
		d.stopped = !d.yield(d.length, d.changed)
		d.length = 0
	}
	d.changed = changed
	d.length += length
}

func (d *difference) walk(off int64) error {
	for stop := min(d.end, d.common); off < stop && !d.stopped; {
		next := min(stop, (off/dedup.ChunkSize+1)*dedup.ChunkSize)
		index := off / dedup.ChunkSize
		if d.x.base.number(index) == d.since.base.number(index) {
			d.add(next-off, false)
		} else if err := d.chunk(index, off, next); err != nil {
			return err
		}
		off = next
	}
	if off = max(off, d.common); off < d.end && !d.stopped {
		d.add(d.end-off, true)
	}
	if d.length > 0 && !d.stopped {
		d.yield(d.length, d.changed)
	}
	return nil
}

// chunk compares [off, end) of one chunk, some blocks at a time, because a
// client may want no more than the first extent.
func (d *difference) chunk(index, off, end int64) error {
	a, err := d.x.m.cache.get(d.x.base.number(index))
	if err != nil {
		return err
	}
	b, err := d.since.m.cache.get(d.since.base.number(index))
	if err != nil {
		return err
	}
	s := comparisons.Get().(*comparison)
	defer comparisons.Put(s)
	for off < end && !d.stopped {
		first := off / dedup.BlockSize
		count := min((end-1)/dedup.BlockSize-first+1, compareBlocks)
		in := first % dedup.ChunkBlocks
		if err := s.compare(d.x.m.blocks, a[in:in+count], b[in:in+count]); err != nil {
			return err
		}
		for i, changed := range s.changed[:count] {
			if changed && d.isTail(first+int64(i)) {
				if changed, err = d.compareTail(); err != nil {
					return err
				}
			}
			step := min(end, (first+int64(i)+1)*dedup.BlockSize) - off
			d.add(step, changed)
			off += step
			if d.stopped {
				break
			}
		}
	}
	return nil
}

// isTail says that a block is x's last and goes on in since: whether their hashes
// differ does not tell.
func (d *difference) isTail(block int64) bool {
	size := d.x.Size()
	return size%dedup.BlockSize != 0 && block == size/dedup.BlockSize && d.since.Size() > size
}

// compareTail compares the bytes both images have of x's last block.
func (d *difference) compareTail() (changed bool, err error) {
	n := d.x.Size() % dedup.BlockSize
	a, b := make([]byte, n), make([]byte, n)
	if _, err := d.x.ReadAt(a, d.x.Size()-n); err != nil {
		return damaged(err)
	}
	if _, err := d.since.ReadAt(b, d.x.Size()-n); err != nil {
		return damaged(err)
	}
	return !bytes.Equal(a, b), nil
}

// damaged calls a block changed that cannot be compared for damage: whoever reads
// it then learns what is wrong.
func damaged(err error) (changed bool, _ error) {
	if errors.Is(err, dedup.ErrDamaged) {
		return true, nil
	}
	return false, err
}

// comparison holds what comparing blocks needs.
type comparison struct {
	changed [compareBlocks]bool
	addrs   []dedup.Addr // of the blocks whose addresses differ: x's, then since's
	at      []int        // which blocks
	hashes  [2 * compareBlocks]dedup.Hash
}

var comparisons = sync.Pool{New: func() any { return new(comparison) }}

// compare fills s.changed for blocks that lie at a in one image and at b in the
// other.
func (s *comparison) compare(store *dedup.Store, a, b []dedup.Addr) error {
	s.at, s.addrs = s.at[:0], s.addrs[:0]
	for i := range a {
		// A block of zeros is never stored, so it has but one address.
		s.changed[i] = a[i] != b[i]
		if s.changed[i] && a[i] != 0 && b[i] != 0 {
			s.at = append(s.at, i)
			s.addrs = append(s.addrs, a[i])
		}
	}
	n := len(s.at)
	if n == 0 {
		return nil
	}
	for _, i := range s.at {
		s.addrs = append(s.addrs, b[i])
	}
	err := store.Hashes(s.addrs, s.hashes[:2*n])
	if errors.Is(err, dedup.ErrDamaged) {
		return s.compareOne(store, a, b)
	}
	if err != nil {
		return err
	}
	for k, i := range s.at {
		s.changed[i] = s.hashes[k] != s.hashes[n+k]
	}
	return nil
}

// compareOne compares block for block where the hashes of some are lost.
func (s *comparison) compareOne(store *dedup.Store, a, b []dedup.Addr) error {
	for _, i := range s.at {
		err := store.Hashes([]dedup.Addr{a[i], b[i]}, s.hashes[:2])
		switch {
		case err == nil:
			s.changed[i] = s.hashes[0] != s.hashes[1]
		case !errors.Is(err, dedup.ErrDamaged):
			return err
		}
	}
	return nil
}
