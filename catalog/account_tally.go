package catalog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/dedup"
)

// packTally counts the slots of one pack after another for a question.
type packTally struct {
	q         *question
	pages     *pebble.Iterator
	stretches *stretchTable

	pack     uint64
	segments []segment
	in       []stretch // of all segments
	union    []stretch
	runs     []slotRun // of the pack's page
	rest     []slotRun // of runs, those not behind
	addrs    []dedup.Addr
	stored   []uint32

	// Blocks and stored bytes per answer; had are differences from the answer
	// before.
	had, own []amount
}

type amount struct{ slots, bytes int64 }

// segment is slots that count for the same answers.
type segment struct {
	first, n  uint32
	refs      uint64 // references to each slot, if it may be an answer's alone; else 0
	had       bool   // count them as what the answers have
	from, end int    // of its stretches
}

func (t *packTally) open(q *question, answers int) (err error) {
	t.q, t.had, t.own = q, make([]amount, answers+1), make([]amount, answers)
	t.pages, err = newPages(q.view, q.view.epoch)
	return err
}

func (t *packTally) close() { t.pages.Close() }

// together takes slots with the runs of all chunks of the one answer.
func (t *packTally) together(first uint64, n uint32, over []span) error {
	refs := uint64(0)
	if over[0].tag == tagAlone { // and so are the others: over is sorted by tag
		refs = references(over)
	}
	return t.segment(first, n, refs, true, stretch{})
}

// alone takes slots with the runs of chunks that are an answer's alone.
func (t *packTally) alone(first uint64, n uint32, over []span) error {
	answer := over[0].tag
	if answer != over[len(over)-1].tag { // over is sorted by tag
		return nil
	}
	return t.segment(first, n, references(over), false, stretch{answer, answer})
}

func references(over []span) (refs uint64) {
	for i := range over {
		refs += uint64(over[i].by)
	}
	return refs
}

// present takes slots with the stretches of answers that have them.
func (t *packTally) present(first uint64, n uint32, over []span) error {
	t.union = t.stretches.union(t.union[:0], over)
	return t.segment(first, n, 0, true, t.union...)
}

// segment takes slots of a pack, after counting the pack before.
func (t *packTally) segment(first uint64, n uint32, refs uint64, had bool, in ...stretch) error {
	if pack := first >> 16; pack != t.pack {
		if err := t.flush(); err != nil {
			return err
		}
		t.pack = pack
	}
	from := len(t.in)
	t.in = append(t.in, in...)
	t.segments = append(t.segments, segment{uint32(first & (pageSlots - 1)), n, refs, had, from, len(t.in)})
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
func (t *packTally) page() error {
	t.runs, t.rest = t.runs[:0], nil
	if !slices.ContainsFunc(t.segments, func(s segment) bool { return s.refs > 0 }) {
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
	t.rest = t.runs
	return nil
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
	if s.had {
		whole := amount{int64(s.n), sum(stored)}
		for _, in := range t.in[s.from:s.end] {
			t.had[in.from].add(whole, 1)
			t.had[in.to+1].add(whole, -1)
		}
	}
	if s.refs == 0 {
		return nil
	}
	return t.countAlone(s, stored)
}

// countAlone adds those slots of a segment that have no other references.
func (t *packTally) countAlone(s *segment, stored []uint32) error {
	owner := &t.own[t.in[s.from].from]
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
	usages := make([]Usage, len(t.own))
	var had amount
	for i := range usages {
		had.add(t.had[i], 1)
		u, own := &usages[i], t.own[i]
		u.Unique, u.UniqueStored = own.slots*blockBytes, own.bytes
		u.Shared, u.SharedStored = (had.slots-own.slots)*blockBytes, had.bytes-own.bytes
		u.Stored = had.bytes
	}
	return usages
}
