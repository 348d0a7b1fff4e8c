package dedup

import (
	"sync"
	"sync/atomic"
)

// badBlocks remembers the blocks a read found damaged, so that a backup that
// brings such a block again stores it again.
type badBlocks struct {
	n  atomic.Int64 // of addrs, so that nobody locks while all is well
	mu sync.Mutex
	m  map[Addr]bool
}

// add remembers an address. At maxBad it forgets the rest: damage on that
// scale needs more than remembering.
func (b *badBlocks) add(a Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = make(map[Addr]bool)
	}
	if len(b.m) < maxBad {
		b.m[a] = true
		b.n.Store(int64(len(b.m)))
	}
}

func (b *badBlocks) has(a Addr) bool {
	if b.n.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.m[a]
}
