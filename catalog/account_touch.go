package catalog

import "sync"

// touches follow which packs' pages change, once somebody wants to know.
type touches struct {
	mu     sync.Mutex
	wanted bool
	last   map[uint64]uint64 // pack → the number of its last change
	count  uint64            // of changes
}

// add says that the pages of packs have changed.
func (t *touches) add(packs []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	if !t.wanted {
		return
	}
	for _, p := range packs {
		t.last[p] = t.count
	}
}

// all says that every page has changed, or may have.
func (t *touches) all() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted, t.last = false, nil
}

// follow has changes followed from now on and tells whether they were before.
func (t *touches) follow() (before bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before = t.wanted; !before {
		t.wanted, t.last = true, map[uint64]uint64{}
	}
	return before
}

// number is that of the last change.
func (t *touches) number() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// packs lists those that have changed.
func (t *touches) packs() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	packs := make([]uint64, 0, len(t.last))
	for p := range t.last {
		packs = append(packs, p)
	}
	return packs
}

// clean forgets changes up to a number.
func (t *touches) clean(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, n := range t.last {
		if n <= number {
			delete(t.last, p)
		}
	}
}
