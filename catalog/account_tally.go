package catalog

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/dedup"
)

// packTally counts the slots of one pack after another for a question.
type packTally struct {
	q     *question
	pages *pebble.Iterator

	pack     uint64
	segments []segment
	in       []stretch // of all segments
	runs     []slotRun // of the pack's page
	rest     []slotRun // of runs, those not behind
	addrs    []dedup.Addr
	stored   []uint32

	// Blocks and stored bytes per answer. had are differences from the answer
	// before.
	had, alone []amount
}

type amount struct{ slots, bytes int64 }

// segment is slots of which the same chunks of the question consist.
type segment struct {
	first, n  uint32
	refs      uint64 // the question's references to each slot
	alone     bool   // all of them from chunks of one answer alone
	from, end int    // of its stretches
}

func (t *packTally) open(q *question, answers int) (err error) {
	t.q, t.had, t.alone = q, make([]amount, answers+1), make([]amount, answers)
	prefix := accountsPrefix(q.view.epoch)
	t.pages, err = q.view.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keysAfter(prefix)})
	if err != nil {
		return unreadable("the accounts", err)
	}
	return nil
}

func (t *packTally) close() { t.pages.Close() }

// visit takes slots over which the same runs lie.
func (t *packTally) visit(first uint64, n uint32, over []span) error {
	if pack := first >> 16; pack != t.pack {
		if err := t.flush(); err != nil {
			return err
		}
		t.pack = pack
	}
	s := segment{first: uint32(first & (pageSlots - 1)), n: n, from: len(t.in)}
	for i := range over {
		s.refs += uint64(over[i].by)
	}
	if over[0].tag == over[len(over)-1].tag { // over is sorted by tag
		c := &t.q.classes.all[over[0].tag]
		t.in, s.alone = append(t.in, c.in...), c.alone
	} else {
		t.in = t.q.classes.union(t.in, over)
	}
	s.end = len(t.in)
	t.segments = append(t.segments, s)
	return nil
}

// flush counts the pack at hand.
func (t *packTally) flush() error {
	if len(t.segments) == 0 {
		return nil
	}
	if t.q.a.halted() {
		return ErrClosed
	}
	if err := errors.Join(t.page(), t.ask()); err != nil {
		return err
	}
	t.rest = t.runs
	rest := t.stored
	for i := range t.segments {
		s := &t.segments[i]
		if err := t.count(s, rest[:s.n]); err != nil {
			return err
		}
		rest = rest[s.n:]
	}
	t.segments, t.in = t.segments[:0], t.in[:0]
	return nil
}

// page reads the pack's counts, if they matter.
func (t *packTally) page() (err error) {
	t.runs = t.runs[:0]
	if !t.anyAlone() {
		return nil
	}
	key := pageKey(t.q.view.epoch, t.pack)
	if !t.pages.SeekGE(key) || string(t.pages.Key()) != string(key) {
		if err := t.pages.Error(); err != nil {
			return unreadable(pageName(t.pack), err)
		}
		return nil
	}
	v, err := t.pages.ValueAndErr()
	if err != nil {
		return unreadable(pageName(t.pack), err)
	}
	if t.runs, err = decodePage(t.runs, v); err != nil {
		return damagedPage(t.pack)
	}
	return nil
}

func (t *packTally) anyAlone() bool {
	for i := range t.segments {
		if t.segments[i].alone {
			return true
		}
	}
	return false
}

// ask sets t.stored to what each slot of the segments takes.
func (t *packTally) ask() error {
	t.addrs = t.addrs[:0]
	for _, s := range t.segments {
		for slot := s.first; slot < s.first+s.n; slot++ {
			t.addrs = append(t.addrs, dedup.MakeAddr(t.pack, uint16(slot)))
		}
	}
	if cap(t.stored) < len(t.addrs) {
		t.stored = make([]uint32, len(t.addrs), pageSlots)
	}
	t.stored = t.stored[:len(t.addrs)]
	return t.q.a.c.storedBytes(t.pack, t.addrs, t.stored)
}

// count adds a segment to its answers.
func (t *packTally) count(s *segment, stored []uint32) error {
	whole := amount{int64(s.n), sum(stored)}
	for _, in := range t.in[s.from:s.end] {
		t.had[in.from].add(whole, 1)
		t.had[in.to+1].add(whole, -1)
	}
	if !s.alone {
		return nil
	}
	owner := &t.alone[t.in[s.from].from]
	for at, end := s.first, s.first+s.n; at < end; {
		r := t.runAt(at)
		if r == nil || r.count < s.refs {
			return fmt.Errorf("%w: block %s has fewer references than chunks name it", ErrAccounts, dedup.MakeAddr(t.pack, uint16(at)))
		}
		to := min(end, r.first+r.n)
		if r.count == s.refs {
			owner.add(amount{int64(to - at), sum(stored[at-s.first : to-s.first])}, 1)
		}
		at = to
	}
	return nil
}

// runAt returns the run of the page that has the slot; slots are asked for in
// order.
func (t *packTally) runAt(slot uint32) *slotRun {
	for len(t.rest) > 0 && t.rest[0].first+t.rest[0].n <= slot {
		t.rest = t.rest[1:]
	}
	if len(t.rest) == 0 || t.rest[0].first > slot {
		return nil
	}
	return &t.rest[0]
}

func (a *amount) add(b amount, by int64) {
	a.slots += by * b.slots
	a.bytes += by * b.bytes
}

func sum(stored []uint32) (n int64) {
	for _, b := range stored {
		n += int64(b)
	}
	return n
}

// sums returns what was counted, per answer.
func (t *packTally) sums() []Usage {
	usages := make([]Usage, len(t.alone))
	var had amount
	for i := range usages {
		had.add(t.had[i], 1)
		u, alone := &usages[i], t.alone[i]
		u.Unique, u.UniqueStored = alone.slots*blockBytes, alone.bytes
		u.Shared, u.SharedStored = (had.slots-alone.slots)*blockBytes, had.bytes-alone.bytes
		u.Stored = had.bytes
	}
	return usages
}
