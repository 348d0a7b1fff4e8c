package dedup

import (
	"sync"

	"github.com/strongroom-backup/strongroom/tier"
)

// packSet knows which packs exist and their newest generation, without asking
// any database: one bit per pack, and a number for the few that were compacted.
type packSet struct {
	mu   sync.RWMutex
	bits map[uint64]uint64 // pack/64 → one bit each
	gens map[uint64]uint32 // of packs whose generation is not 0
	top  uint64            // highest pack number
	n    int
}

func newPackSet() *packSet {
	return &packSet{bits: make(map[uint64]uint64), gens: make(map[uint64]uint32)}
}

// add records a pack; of two generations the higher stays, and only replace
// says otherwise.
func (p *packSet) add(pack uint64, gen uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bit := uint64(1) << (pack & 63)
	if p.bits[pack>>6]&bit == 0 {
		p.bits[pack>>6] |= bit
		p.n++
	}
	if gen > p.gens[pack] {
		p.gens[pack] = gen
	}
	p.top = max(p.top, pack)
}

// gen returns a pack's newest generation.
func (p *packSet) gen(pack uint64) (uint32, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.bits[pack>>6]>>(pack&63)&1 == 0 {
		return 0, false
	}
	return p.gens[pack], true
}

// remove forgets a pack. The highest number ever seen stays known: numbers are
// not used twice.
func (p *packSet) remove(pack uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bit := uint64(1) << (pack & 63)
	if p.bits[pack>>6]&bit == 0 {
		return
	}
	p.n--
	if p.bits[pack>>6] &^= bit; p.bits[pack>>6] == 0 {
		delete(p.bits, pack>>6)
	}
	delete(p.gens, pack)
}

// see notes that a pack number was used.
func (p *packSet) see(pack uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.top = max(p.top, pack)
}

// replace makes a generation the pack's, higher or lower than before.
func (p *packSet) replace(id tier.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gens[id.Pack] = id.Gen
}

// highest is the highest pack number there ever was.
func (p *packSet) highest() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.top
}

func (p *packSet) count() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.n
}
