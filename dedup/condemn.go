package dedup

import "github.com/strongroom-backup/strongroom/internal/mutant"

// How a collection takes blocks away beside writers that find them.
//
// A dedup hit (batch.matches) and the condemning of its pack race. Each side
// first says what it does and then looks at what the other said. All of it is
// sync/atomic, whose operations have one order that everybody sees.
//
//	the hit                                    the sweep
//	 1 e := Store.swaps; fetch the view         A pack.condemning = true
//	 2 slot there, hash equal, trusted          B bits := the pack's marks
//	 3 c := Store.collecting                    C pack.dead = not bits; from here on final
//	 4 set the slot's mark in c                 D new generation: packSet; or pack gone
//	 5 condemning and no dead yet: miss         E Store.swaps++
//	 6 dead has the slot: miss                  F Collection.Close: Store.collecting = nil
//	 7 Store.swaps ≠ e: again from 1            G old file unlinked
//
// A hit that 4–7 let through names a block that stays:
//
//   - c is the collection, and 5 saw no condemning: then 5 came before A, so 4
//     came before B, and the slot is not among the dead.
//   - c is the collection, and dead is there: 6 has the final word. (It may not
//     know a mark that was set after B. Then the slot is dead, and a miss.)
//   - c is nil because the collection ended: F came before 3, so E before 7. A
//     view fetched before D is noticed by 7; one fetched after D is of the new
//     generation, which has no dead slots.
//   - c is nil, or another collection, because the collection had not begun: then
//     the operation was under way when it began. The caller of BeginCollection
//     waits for such operations and marks what they got.
//
// A block that was dead and is brought again while its pack is being condemned
// is stored again, in an open pack, which is no candidate. So nothing that is
// handed out after C depends on what a compaction drops, whether it ends well
// or not; a compaction that fails leaves the old generation as it was, and its
// blocks may be hits again once the collection is closed. Only when a finished
// new generation cannot be taken back is the pack frozen: the next start may
// choose that generation, so no block of the pack is a hit until then.

// hit marks a slot for the running collection, if any, and reports whether it
// may be handed out.
func (s *Store) hit(a Addr) bool {
	c := s.collecting.Load()
	if c == nil {
		return true
	}
	cand := c.marks.of(a.Pack())
	if cand == nil || a.Slot() >= cand.next {
		return true
	}
	if !mutant.On("dedup/hit-unmarked") {
		c.markHit(cand, a.Slot())
	}
	s.pause("hit marked")
	return !cand.condemns(a.Slot()) || mutant.On("dedup/hit-on-condemned")
}

// markHit must come before condemns.
func (c *Collection) markHit(cand *candidate, slot uint16) {
	c.marks.set(cand, int(slot), int(slot)+1)
}

// condemns reports whether the slot is lost to new users.
func (c *candidate) condemns(slot uint16) bool {
	if dead := c.dead.Load(); dead != nil {
		return hasBit(*dead, slot)
	}
	if !c.condemning.Load() {
		return false
	}
	dead := c.dead.Load()
	return dead == nil || hasBit(*dead, slot)
}

// condemn decides which of a candidate's slots stay. It is final: asked again,
// it says the same.
func (c *Collection) condemn(cand *candidate) (live []uint64, first bool) {
	if dead := cand.dead.Load(); dead != nil {
		return inverse(*dead), false
	}
	cand.condemning.Store(!mutant.On("dedup/condemn-without-flag"))
	c.s.pause("condemning")
	live = c.marks.bits(cand) // after the flag is up: who sets a bit later finds the flag
	c.s.pause("bits read")
	dead := inverse(live)
	cand.dead.Store(&dead)
	return live, true
}

func inverse(b []uint64) []uint64 {
	out := make([]uint64, len(b))
	for i := range out {
		out[i] = ^b[i]
	}
	return out
}

// swapped makes every batch look again at the views it holds. It comes after
// the change of the packSet and before the collection is closed.
func (s *Store) swapped() {
	if !mutant.On("dedup/swap-untold") {
		s.swaps.Add(1)
	}
}

// pause is where tests stop a goroutine.
func (s *Store) pause(at string) {
	if s.paused != nil {
		s.paused(at)
	}
}
