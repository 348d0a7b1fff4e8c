package dedup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// health is what is known to be wrong with packs: blocks a read or a
// verification found damaged, packs that cannot be read and packs that are not
// there. A damaged block is no dedup hit, so that a backup that brings it again
// stores it again, and a hint for readers to look for that other copy.
//
// The block index keeps it over restarts, as a hint: what is lost with the
// index is found again by the next verification.
type health struct {
	n     atomic.Int64 // damaged blocks, so that nobody locks while all is well
	mu    sync.Mutex
	packs map[uint64]*packHealth

	changes atomic.Uint64 // of whether packs can be read, see PackVersion

	saving sync.Mutex // held from reading a pack's state to its record being written
}

type packHealth struct {
	slots      map[uint16]bool
	unreadable bool
	structure  bool
	missing    bool
}

func (p *packHealth) empty() bool {
	return len(p.slots) == 0 && !p.unreadable && !p.structure && !p.missing
}

// add remembers a damaged block and reports whether that is news. At maxBad
// it forgets the rest: damage on that scale needs more than remembering.
func (h *health) add(a Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pack(a.Pack())
	if p.slots[a.Slot()] || h.n.Load() >= maxBad {
		return false
	}
	p.slots[a.Slot()] = true
	h.n.Add(1)
	return true
}

// pack returns the state of a pack, made if need be; mu is held.
func (h *health) pack(pack uint64) *packHealth {
	p := h.packs[pack]
	if p == nil {
		if h.packs == nil {
			h.packs = make(map[uint64]*packHealth)
		}
		p = &packHealth{slots: make(map[uint16]bool)}
		h.packs[pack] = p
	}
	return p
}

// has reports whether a block is known to be damaged.
func (h *health) has(a Addr) bool {
	if h.n.Load() == 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.packs[a.Pack()]
	return p != nil && p.slots[a.Slot()]
}

// put replaces what is known of a pack that is there.
func (h *health) put(pack uint64, r damageRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pack(pack)
	h.n.Add(-int64(len(p.slots)))
	clear(p.slots)
	for _, s := range r.slots[:min(len(r.slots), max(0, maxBad-int(h.n.Load())))] {
		p.slots[s] = true
	}
	h.n.Add(int64(len(p.slots)))
	if p.missing || p.unreadable != r.unreadable {
		h.changes.Add(1)
	}
	p.unreadable, p.structure, p.missing = r.unreadable, r.structure, false
	if p.empty() {
		delete(h.packs, pack)
	}
}

// miss remembers a pack that is not there.
func (h *health) miss(pack uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pack(pack).missing = true
	h.changes.Add(1)
}

// isMissing reports whether a pack should be there and is not.
func (h *health) isMissing(pack uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.packs[pack]
	return p != nil && p.missing
}

// cannotRead remembers a pack nothing of which can be read.
func (h *health) cannotRead(pack uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pack(pack).unreadable = true
	h.changes.Add(1)
}

// blame makes sure that something is known to be wrong with a pack and reports
// whether that is news.
func (h *health) blame(pack uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pack(pack)
	if !p.empty() {
		return false
	}
	p.structure = true
	return true
}

// keep forgets the damaged blocks of a pack that wanted does not name.
func (h *health) keep(pack uint64, wanted func(slot uint16) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.packs[pack]
	if p == nil {
		return
	}
	for s := range p.slots {
		if !wanted(s) {
			delete(p.slots, s)
			h.n.Add(-1)
		}
	}
	if p.empty() {
		delete(h.packs, pack)
	}
}

// record is what is known of a pack, for the index.
func (h *health) record(pack uint64) (r damageRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.packs[pack]; p != nil {
		r = damageRecord{unreadable: p.unreadable, structure: p.structure, slots: slices.Sorted(maps.Keys(p.slots))}
	}
	return r
}

// forget drops everything about a pack.
func (h *health) forget(pack uint64) { h.put(pack, damageRecord{}) }

// blocks lists the damaged blocks in order.
func (h *health) blocks() []Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Addr, 0, h.n.Load())
	for pack, p := range h.packs {
		for s := range p.slots {
			all = append(all, MakeAddr(pack, s))
		}
	}
	slices.Sort(all)
	return all
}

// lost lists the packs of which nothing can be read, in order.
func (h *health) lost() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []uint64
	for pack, p := range h.packs {
		if p.missing || p.unreadable {
			all = append(all, pack)
		}
	}
	slices.Sort(all)
	return all
}

// packState is a summary of what is known of a pack.
type packState struct {
	damaged             int
	missing, unreadable bool
}

func (h *health) state(pack uint64) packState {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.packs[pack]; p != nil {
		return packState{damaged: len(p.slots), missing: p.missing, unreadable: p.unreadable}
	}
	return packState{}
}

// saveHealth writes down what is known of a pack. It is a hint: an index that
// does not take it is reported and no more.
func (s *Store) saveHealth(pack uint64) {
	if s.index == nil {
		return
	}
	s.health.saving.Lock()
	defer s.health.saving.Unlock()
	r, key := s.health.record(pack), packKey('d', pack)
	var err error
	if r.empty() {
		err = s.index.remove(key)
	} else {
		err = s.index.set(key, r.append(nil))
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		s.indexError(fmt.Errorf("note the damage of pack %d: %w", pack, err))
	}
}

// loadHealth reads what the last run knew.
func (s *Store) loadHealth() error {
	return s.index.each('d', func(pack uint64, v []byte) error {
		r, err := parseDamageRecord(v)
		if err == nil {
			s.health.put(pack, r)
		}
		return err
	})
}

// Damaged lists the blocks known to be damaged, in order, at most 65 536 of
// them. Reads of them are served from another copy when there is one.
func (s *Store) Damaged() []Addr { return s.health.blocks() }

// DamagedPacks lists the packs that are missing or cannot be read at all, in
// order.
func (s *Store) DamagedPacks() []uint64 { return s.health.lost() }
