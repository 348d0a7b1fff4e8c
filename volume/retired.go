package volume

import (
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// cloneDisk is what a disk of a clone has besides, guarded by disk.mu but for
// flushing.
type cloneDisk struct {
	retired []retired // in the order of their records
	marked  uint64    // the largest number that a mark in the journal says is safe

	flushing slot // who makes retired shorter

	rewriting chan struct{} // closed when somebody has written the journal anew who is at it now; nil: nobody is
	rewrite   *rewrite      // how far he is; nil: not begun
	rewriteAt int64         // not before the journal ends here, since it failed
	kept      int64         // bytes of chunk records that the last rewrite left
	rewrites  int           // finished
}

// slot is held by one at a time.
type slot chan struct{}

// retired are addresses that a record of the journal has overwritten. Until a
// flush has covered that record, a power cut brings them back.
type retired struct {
	record uint64
	addr   dedup.Addr // of n blocks; if n is 0, the place in the journal of a chunk's map
	n      uint32
}

func newCloneDisk() *cloneDisk { return &cloneDisk{flushing: make(slot, 1)} }

// retire notes that the record just logged or read overwrites some blocks of a
// chunk's map.
func (d *disk) retire(a []dedup.Addr) {
	if d.clone == nil {
		return
	}
	for i := 0; i < len(a); {
		n := runLength(a[i:])
		if a[i] != 0 && a[i] != inherit {
			d.clone.retired = append(d.clone.retired, retired{record: d.journal.seq - 1, addr: a[i], n: uint32(n)})
		}
		i += n
	}
}

// retireChunk is retire of a whole chunk. A map that is in the journal stays
// there.
func (d *disk) retireChunk(c *chunk) {
	switch {
	case d.clone == nil || c == nil:
	case c.blocks != nil:
		d.retire(c.blocks[:])
	case c.spill > 0:
		d.clone.retired = append(d.clone.retired, retired{record: d.journal.seq - 1, addr: dedup.Addr(c.spill)})
	}
}

// covered forgets what was retired by records below safe, which a flush has made
// power-cut safe.
func (c *cloneDisk) covered(safe uint64) {
	i, _ := slices.BinarySearchFunc(c.retired, safe, func(r retired, safe uint64) int {
		if r.record < safe {
			return -1
		}
		return 1
	})
	if i > 0 {
		c.retired = append(c.retired[:0:0], c.retired[i:]...)
	}
}

// tend does what a write of a clone leaves to be done: it flushes when too much
// is retired, so that memory stays bounded, and has a journal that has grown too
// large written anew. Nobody holds a lock but the session's gate.
func (d *disk) tend() error {
	d.mu.Lock()
	n := len(d.clone.retired)
	d.watchJournal()
	d.mu.Unlock()
	limit := d.s.m.maxRetired
	if n <= limit {
		return nil
	}
	flushing := d.clone.flushing
	select {
	case flushing <- struct{}{}:
	default:
		if n <= 2*limit {
			return nil // somebody is at it
		}
		flushing <- struct{}{}
	}
	defer func() { <-flushing }()
	d.mu.Lock()
	done := len(d.clone.retired) <= limit
	d.mu.Unlock()
	if done {
		return nil
	}
	return d.s.flush(d.s.maps())
}

// watchJournal has the journal written anew when most of it is out of date. While
// that cannot keep up, it makes writers slower. The caller holds mu, which it
// gives away meanwhile.
func (d *disk) watchJournal() {
	if d.journal == nil {
		return
	}
	c, end := d.clone, d.journal.end
	limit := max(d.s.m.rewriteFloor, 2*(c.kept+d.raw))
	if end < max(limit, c.rewriteAt) {
		return
	}
	if c.rewriting == nil {
		c.rewriting = make(chan struct{})
		d.s.m.rewrites.Go(d.rewriteBeside)
	}
	if done := c.rewriting; end > 2*limit {
		d.mu.Unlock()
		select {
		case <-done:
		case <-time.After(rewriteDelay): // it may wait for somebody who waits for us
		}
		d.mu.Lock()
	}
}

// rootsOfRetired marks what was overwritten since the last flush.
func (d *disk) rootsOfRetired(mark func(dedup.Addr, int)) error {
	if d.clone == nil || mutant.On("volume/no-retired-roots") {
		return nil
	}
	d.mu.Lock()
	list, rewrites := slices.Clone(d.clone.retired), d.clone.rewrites
	d.mu.Unlock()
	for _, r := range list {
		if r.n > 0 {
			mark(r.addr, int(r.n))
			continue
		}
		a, err := d.retiredMap(r, rewrites)
		if err != nil || a == nil {
			return err
		}
		markAll(a, mark)
	}
	return nil
}

// retiredMap is a chunk's map that was retired in the journal. If that was written
// anew since, nothing retired before is needed any more: nil.
func (d *disk) retiredMap(r retired, rewrites int) (*addrs, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal == nil || d.clone.rewrites != rewrites {
		return nil, nil
	}
	return d.load(&chunk{spill: int64(r.addr)})
}

// markAll marks the addresses of a chunk's map.
func markAll(a *addrs, mark func(dedup.Addr, int)) {
	for i := 0; i < len(a); {
		n := runLength(a[i:])
		if a[i] != 0 && a[i] != inherit {
			mark(a[i], n)
		}
		i += n
	}
}
