package dedup

import (
	"errors"
	"math"
	"sync/atomic"
)

// ErrCollecting is returned by BeginCollection while a collection is running.
var ErrCollecting = errors.New("a garbage collection is running already")

// Collection is one garbage collection: what is not marked by the time of Sweep
// is taken away. It runs beside writers and readers; condemn.go says why
// nothing a writer relies on is lost. At the end it must be closed.
type Collection struct {
	s       *Store
	marks   *marks
	unknown atomic.Int64
}

// BeginCollection starts a collection: the packs sealed at this moment are its
// candidates, and every dedup hit on one of them counts as a mark from now on.
// Open packs that no writer holds are sealed first when they are at least half
// full, or when a sixteenth of the store is in such packs; see [Store.SealIdle]
// for the others. Only one collection runs at a time, else ErrCollecting.
//
// Addresses that were handed out before BeginCollection returned, hits
// included, are the caller's to mark: he waits until every operation that began
// before has made its addresses known, and marks those. Then he marks what the
// catalog refers to.
func (s *Store) BeginCollection() (*Collection, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	s.collectMu.Lock()
	defer s.collectMu.Unlock()
	if s.collecting.Load() != nil {
		return nil, ErrCollecting
	}
	// One that cannot be sealed is no candidate.
	_, _ = s.SealIdle(s.worthSealing())
	c := &Collection{s: s, marks: newMarks()}
	if err := s.eachPage('p', c.consider); err != nil {
		return nil, err
	}
	c.marks.begin()
	s.collecting.Store(c)
	s.count.collections.Add(1)
	return c, nil
}

// consider makes a pack of the index a candidate, unless somebody may still
// add to it or it is not certain which of its generations counts.
func (c *Collection) consider(pack uint64, v []byte) error {
	r, err := parsePackRecord(v)
	if err != nil {
		return err
	}
	s := c.s
	if s.health.isMissing(pack) {
		c.marks.add(pack, &r, true)
		return nil
	}
	if gen, ok := s.packs.gen(pack); !ok || gen != r.gen || s.open.get(pack) != nil || s.frozen.has(pack) || len(c.marks.cands) == math.MaxInt32 {
		return nil
	}
	c.marks.add(pack, &r, false)
	return nil
}

// Mark says that n consecutive slots from a on are wanted. Any goroutine may
// call it, until Sweep begins. The zero address is passed over, and so are
// packs that are no candidates.
func (c *Collection) Mark(a Addr, n int) {
	if a == 0 || n <= 0 {
		return
	}
	cand := c.marks.of(a.Pack())
	if cand == nil {
		if _, ok := c.s.packs.gen(a.Pack()); !ok {
			c.unknown.Add(int64(n))
		}
		return
	}
	from := int(a.Slot())
	if over := c.marks.set(cand, from, from+min(n, math.MaxUint16)); over > 0 {
		c.unknown.Add(int64(over))
	}
}

// Live returns a candidate's marks, bit slot&63 of word slot>>6; nil when the
// pack is no candidate. The caller owns the slice.
func (c *Collection) Live(pack uint64) []uint64 {
	if cand := c.marks.of(pack); cand != nil {
		return c.marks.bits(cand)
	}
	return nil
}

// Tally is what a collection found. Bytes are those of frames, shared out
// evenly over a pack's blocks; so those of a pack that is all live, or all dead,
// are exact.
type Tally struct {
	Packs                       int64 // candidates, missing ones not counted
	Slots, LiveSlots, DeadSlots int64
	Bytes, LiveBytes, DeadBytes int64
	// UnknownMarks counts marks of slots that no pack has: somebody refers to
	// blocks that are lost. The slots of missing packs are not among them.
	UnknownMarks int64
}

// Tally sums up the marks.
func (c *Collection) Tally() Tally {
	t := Tally{UnknownMarks: c.unknown.Load()}
	for i := range c.marks.cands {
		cand := &c.marks.cands[i]
		live, unknown := c.live(cand)
		t.UnknownMarks += int64(unknown)
		if cand.lost {
			continue
		}
		bytes := cand.share(live)
		t.Packs++
		t.Slots += int64(cand.slots)
		t.LiveSlots += int64(live)
		t.Bytes += cand.bytes
		t.LiveBytes += bytes
	}
	t.DeadSlots, t.DeadBytes = t.Slots-t.LiveSlots, t.Bytes-t.LiveBytes
	return t
}

// live counts a candidate's marks, and those of slots it has not got.
func (c *Collection) live(cand *candidate) (live, unknown int) {
	marked := c.marks.bits(cand)
	n := countBits(marked)
	if cand.holes != nil {
		for i, w := range cand.exists() {
			marked[i] &= w
		}
	}
	live = countBits(marked)
	return live, n - live
}

// share is what so many of the pack's blocks take of its bytes.
func (c *candidate) share(blocks int) int64 {
	if c.slots == 0 {
		return 0
	}
	return c.bytes * int64(blocks) / int64(c.slots)
}

// Close ends the collection; what was condemned and not swept lives on. Files
// that wait for their grace are removed by the next Sweep or by Store.Close.
func (c *Collection) Close() { c.s.collecting.CompareAndSwap(c, nil) }

// eachPage calls f with every record of a kind, without holding the index
// while it works through all of them.
func (s *Store) eachPage(kind byte, f func(pack uint64, v []byte) error) error {
	const page = 4096
	for from := uint64(0); ; {
		n := 0
		err := s.index.page(kind, from, page, func(pack uint64, v []byte) error {
			n++
			from = pack + 1
			return f(pack, v)
		})
		if err != nil || n < page {
			return err
		}
	}
}
