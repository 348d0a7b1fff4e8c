package dedup

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// graves is the pack files that are out of use and still there: until their
// grace has passed and no reader has them open. A reader that comes later
// finds the file gone and looks where the pack is now.
type graves struct {
	mu   sync.Mutex
	list []grave
}

type grave struct {
	id   tier.ID
	size int64 // of the file
	net  int64 // what its removal frees, less what took its place
	due  time.Time
}

// bury puts a file that nobody is led to any more in its grave. The grace is
// measured by the monotonic clock: setting the clock does not shorten it.
func (g *graves) bury(id tier.ID, size, net int64, grace time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, grave{id: id, size: size, net: net, due: time.Now().Add(grace)})
}

func (g *graves) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.list)
}

// next is how long the first of them still has to wait.
func (g *graves) next() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := time.Duration(math.MaxInt64)
	for i := range g.list {
		wait = min(wait, time.Until(g.list[i].due))
	}
	return wait
}

// take returns the graves that are due, or all, and leaves the others.
func (g *graves) take(all bool) (due []grave) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.list[:0]
	for _, x := range g.list {
		if all || time.Until(x.due) <= 0 {
			due = append(due, x)
		} else {
			kept = append(kept, x)
		}
	}
	g.list = kept
	return due
}

func (g *graves) putBack(x grave) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, x)
}

// reap removes the files whose grace has passed and that nobody reads, or all,
// and says how many bytes that freed. What cannot be removed is tried again the
// next time.
func (s *Store) reap(all bool) (freed int64, err error) {
	for _, g := range s.graves.take(all) {
		if !s.files.leave(g.id) && !all {
			s.graves.putBack(g)
			continue
		}
		if e := s.unlink(g.id); e != nil {
			s.graves.putBack(g)
			err = errors.Join(err, fmt.Errorf("remove a file that is out of use: %w", e))
			continue
		}
		s.sealedBytes.Add(-g.size)
		s.count.freedBytes.Add(uint64(max(0, g.net)))
		freed += g.net
	}
	return freed, err
}

// RemoveReplaced removes the files of packs written anew, or gone, whose grace has
// passed and that nobody reads any more. What writes packs anew does that by
// itself, but for files somebody was reading then.
func (s *Store) RemoveReplaced() error {
	if s.closed.Load() {
		return ErrClosed
	}
	_, err := s.reap(false)
	return err
}

// unlink removes a pack file, durably.
func (s *Store) unlink(id tier.ID) error {
	err := s.tier.Remove(id)
	s.files.leave(id) // of a reader that came between
	if errors.Is(err, tier.ErrNotFound) {
		return nil
	}
	return err
}

// removePacks takes packs without a live block out of use. The index forgets
// them durably before the first file goes, else the next start would miss them.
func (s *Store) removePacks(packs []uint64, grace time.Duration) (promised int64, err error) {
	if len(packs) == 0 {
		return 0, nil
	}
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	sizes := make([]int64, len(packs))
	for i, pack := range packs {
		if sizes[i], err = s.forgetPack(pack); err != nil {
			return 0, fmt.Errorf("remove pack %d: %w", pack, err)
		}
	}
	// On a disk so full that the index cannot be written, deleting goes on: the
	// next start may miss packs that nothing needs, and that is all.
	if mutant.On("dedup/unlink-before-index") {
		// The files go first.
	} else if err := s.index.flushed(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return 0, fmt.Errorf("remove %d packs: %w", len(packs), err)
	}
	for i, pack := range packs {
		promised += s.dropPack(pack, sizes[i], grace)
	}
	s.swapped()
	return promised, nil
}

// forgetPack takes a pack and its blocks out of the index and tells its size.
func (s *Store) forgetPack(pack uint64) (size int64, err error) {
	if r, err := s.index.pack(pack); err == nil {
		size = r.size
	}
	var gone []goneBlock
	if v, err := s.view(pack); err == nil { // else its keys stay: they are not believed
		gone = v.blocks(pack, func(uint16) bool { return true })
	}
	return size, s.index.removePack(pack, gone)
}

// dropPack takes a pack out of memory and buries its file.
func (s *Store) dropPack(pack uint64, size int64, grace time.Duration) int64 {
	gen, ok := s.packs.gen(pack)
	s.packs.remove(pack)
	s.health.forget(pack)
	s.later.set(pack, 0)
	if !ok { // it was missing
		return 0
	}
	id := tier.ID{Pack: pack, Gen: gen}
	s.forgetCached(id)
	s.graves.bury(id, size, size, grace)
	s.count.removed.Add(1)
	return size
}

// blocks lists the blocks of a table whose slots are picked.
func (t *toc) blocks(pack uint64, pick func(slot uint16) bool) (out []goneBlock) {
	for i, s := range t.slots {
		if pick(s.slot) {
			out = append(out, goneBlock{hash: t.hashes[i], addr: MakeAddr(pack, s.slot)})
		}
	}
	return out
}

// forgetCached drops what caches hold of a generation that is out of use.
func (s *Store) forgetCached(id tier.ID) {
	s.tocs.forgetIf(func(k tier.ID) bool { return k == id })
	s.frames.forgetIf(func(k frameKey) bool { return k.id == id })
}
