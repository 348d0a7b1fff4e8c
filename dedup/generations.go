package dedup

import (
	"context"
	"slices"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// Several generations of a pack are on the tier when a crash came between the
// making of a new one and the removal of the old one, or when a removal failed.
// The highest that is sealed and wholly good counts. A lower one has all its
// blocks, and some that are dead. What is above it was not finished, or has
// rotted, and must go before a dead block is taken for a live one again.

// listPacks lists the generations of every pack: packs in order, and in each
// the generations ascending.
func (s *Store) listPacks() ([][]tier.ID, error) {
	all, err := s.tier.List()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, comparePacks)
	var packs [][]tier.ID
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Pack == all[0].Pack {
			n++
		}
		packs, all = append(packs, all[:n:n]), all[n:]
	}
	return packs, nil
}

// quality is what a generation is good for.
type quality int

const (
	unknown  quality = iota // it cannot be read at the moment
	unsealed                // it was never finished
	rotten                  // finished, and something in it is damaged
	good
)

// judgeGeneration looks at one generation.
func (s *Store) judgeGeneration(id tier.ID) quality {
	e, err := s.examine(context.Background(), id, nil)
	switch {
	case err != nil || e.unreadable != nil:
		return unknown
	case e.toc.lossy:
		return unsealed // or both its tables and its footer are gone, which is no better
	case e.firstWrong() != nil:
		return rotten
	}
	return good
}

// chooseGeneration decides which of a pack's generations counts. With tidy the
// others are removed if they can be.
func (s *Store) chooseGeneration(gens []tier.ID, tidy bool) tier.ID {
	if len(gens) == 1 {
		return gens[0]
	}
	marks, best := make([]quality, len(gens)), -1
	for i := len(gens) - 1; i >= 0; i-- {
		marks[i] = s.judgeGeneration(gens[i])
		if mutant.On("dedup/unsealed-generation") && marks[i] == unsealed {
			marks[i] = good
		}
		if marks[i] == good && i > 0 && tidy && !s.makeDurable(gens[i]) {
			marks[i] = rotten
		}
		if marks[i] == good {
			best = i
			break
		}
		if marks[i] == rotten && best < 0 {
			best = i
		}
	}
	best = max(best, 0) // when none is finished, the oldest has the most
	if tidy {
		s.tidyGenerations(gens, marks, best)
	}
	return gens[best]
}

// makeDurable syncs a generation before older ones are removed: the process
// that wrote it may have died before it did.
func (s *Store) makeDurable(id tier.ID) bool {
	f, err := s.tier.Reopen(id)
	if err != nil {
		return false
	}
	s.count.packSyncs.Add(1)
	err = f.Sync()
	if err != nil {
		s.count.packSyncErrors.Add(1)
	}
	return f.Close() == nil && err == nil
}

// tidyGenerations removes the generations that do not count. While one above
// the chosen one may come to count at a later start, no block of the pack is a
// dedup hit: it might be one that the other has not got.
func (s *Store) tidyGenerations(gens []tier.ID, marks []quality, best int) {
	for i, id := range gens {
		if i == best {
			continue
		}
		s.files.leave(id)
		removed := useless(marks, i, best) && s.tier.Remove(id) == nil
		if i > best && !removed && marks[i] != unsealed {
			s.freeze(id.Pack)
		}
	}
}

// useless reports whether a generation can go: an unfinished one when there is
// a finished one, an older one when the newer is good, and a newer one that is
// damaged when the older is good. One that cannot be read now may be good.
func useless(marks []quality, i, best int) bool {
	switch {
	case marks[best] == good:
		return i < best || marks[i] != unknown
	case marks[best] == rotten:
		return marks[i] == unsealed
	}
	return false
}
