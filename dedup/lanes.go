package dedup

import (
	"errors"
	"fmt"
	"sync"

	"github.com/strongroom-backup/strongroom/tier"
)

// lanePool holds the packs nobody writes to at the moment.
type lanePool struct {
	mu    sync.Mutex
	idle  []*openPack
	stuck []*openPack // full or torn, their seal could not be written
	next  uint64      // number of the next pack
}

// take returns the fullest idle pack, so that few stay unfilled.
func (l *lanePool) take() *openPack {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := -1
	for i, p := range l.idle {
		if best < 0 || p.size > l.idle[best].size {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	p := l.idle[best]
	l.idle = append(l.idle[:best], l.idle[best+1:]...)
	return p
}

func (l *lanePool) give(p *openPack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, p)
}

func (l *lanePool) drain() []*openPack {
	l.mu.Lock()
	defer l.mu.Unlock()
	idle := l.idle
	l.idle = nil
	return idle
}

func (l *lanePool) addStuck(p *openPack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = append(l.stuck, p)
}

func (l *lanePool) takeStuck() *openPack {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stuck) == 0 {
		return nil
	}
	p := l.stuck[0]
	l.stuck = l.stuck[1:]
	return p
}

func (l *lanePool) number() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next > maxPack {
		return 0, errors.New("all pack numbers are used up")
	}
	l.next++
	return l.next - 1, nil
}

// lanePack returns a pack to append to: an idle one, else a new one. While an
// earlier pack waits to be sealed because its disk was full, sealing it comes
// first: a full disk must not make a pile of unfinished packs.
func (s *Store) lanePack() (*openPack, error) {
	for p := s.pool.take(); p != nil; p = s.pool.take() {
		if p.usable() == nil {
			return p, nil
		}
	}
	for p := s.pool.takeStuck(); p != nil; p = s.pool.takeStuck() {
		if err := s.seal(p); err != nil && p.usable() == nil {
			return nil, err
		}
	}
	return s.newPack()
}

// newPack turns the spare into a pack and has the next spare made.
func (s *Store) newPack() (*openPack, error) {
	id, file, err := s.spare.take(s)
	if err != nil {
		return nil, err
	}
	p := newOpenPack(id, file, packHeaderSize, new(toc))
	if err := s.writeHeader(p); err != nil {
		s.spare.putBack(id, file) // still without a byte anybody relies on
		return nil, fmt.Errorf("begin %v: %w", id, err)
	}
	s.packs.add(id.Pack, id.Gen)
	s.open.put(p)
	return p, nil
}

// spare is the next pack's file, made ahead: making a file durable costs two
// syncs that nobody should wait for.
type spare struct {
	mu      sync.Mutex // held while a file is made
	id      tier.ID
	file    tier.File
	pending sync.WaitGroup
}

func (sp *spare) take(s *Store) (tier.ID, tier.File, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if err := sp.fill(s); err != nil {
		return tier.ID{}, nil, err
	}
	id, file := sp.id, sp.file
	sp.file = nil
	sp.pending.Go(func() {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		_ = sp.fill(s) // whoever needs the file meets the error again
	})
	return id, file, nil
}

// fill makes the file unless it is there; mu is held.
func (sp *spare) fill(s *Store) error {
	if sp.file != nil {
		return nil
	}
	n, err := s.pool.number()
	if err != nil {
		return err
	}
	id := tier.ID{Pack: n}
	file, err := s.tier.Create(id)
	if err != nil {
		return err
	}
	sp.id, sp.file = id, file
	return nil
}

func (sp *spare) putBack(id tier.ID, file tier.File) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.file == nil {
		sp.id, sp.file = id, file
		return
	}
	file.Close() // an empty pack; the next Open seals it
}

// discard removes the unused file at a clean shutdown.
func (sp *spare) discard(s *Store) error {
	sp.pending.Wait()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.file == nil {
		return nil
	}
	file := sp.file
	sp.file = nil
	return errors.Join(file.Close(), s.tier.Remove(sp.id))
}

// worthSealing is how large an idle pack must be to be sealed for a collection.
// Half-filled packs nobody writes to would keep their dead blocks for ever in a
// store that rests. Smaller ones stay open, lest every collection leave a small
// pack behind, unless the store is so small that they make a difference.
func (s *Store) worthSealing() int64 {
	if s.pool.bytes()*idleShare > s.sealedBytes.Load() {
		return packHeaderSize + 1
	}
	return s.opts.PackSize / 2
}

// bytes is what the idle packs take.
func (l *lanePool) bytes() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.idle {
		n += p.size - packHeaderSize
	}
	return n
}

// SealIdle seals the open packs that no writer holds and that have at least so
// many bytes, and says how many: only a sealed pack can be collected. What is
// smaller stays open for the next writer. An error leaves the rest open.
func (s *Store) SealIdle(least int64) (sealed int, err error) {
	return s.sealIdle(func(p *openPack) bool { return p.size >= least })
}

// SealLater is SealIdle for the packs that [Store.CompressPack] could do
// something for: all of them, or those a collection would seal too.
func (s *Store) SealLater(all bool) (sealed int, err error) {
	least := int64(packHeaderSize + 1)
	if !all {
		least = s.worthSealing()
	}
	return s.sealIdle(func(p *openPack) bool { return p.size >= least && p.view.Load().laterBytes() > 0 })
}

func (s *Store) sealIdle(pick func(*openPack) bool) (sealed int, err error) {
	if s.closed.Load() {
		return 0, ErrClosed
	}
	for _, p := range s.pool.drain() {
		if err != nil || p.usable() != nil || !pick(p) {
			s.pool.give(p)
			continue
		}
		if err = s.seal(p); err == nil {
			sealed++
		}
	}
	return sealed, err
}
