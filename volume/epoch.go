package volume

import (
	"sync/atomic"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// epochs count the operations under way that store data or use addresses, so
// that a garbage collection can wait for those that began before it.
//
// An operation counts itself under the parity of the epoch it sees. A barrier
// raises the epoch and waits until nobody counts under the old parity, twice:
// whoever was counted before the barrier is counted under one of the two. New
// operations go on: they are counted under the parity that is not waited for. An
// operation that read the epoch before a barrier and counts itself behind its
// look does not matter to this barrier, since all it does comes after; the next
// barrier waits for it under whichever parity it took.
type epochs struct {
	now    atomic.Uint32
	active [2]struct { // by parity
		n atomic.Int64
		_ [56]byte // a cache line of its own
	}
	waiting atomic.Bool
	wake    chan struct{} // a token when somebody left and a barrier waits
	barrier chan struct{} // holds a token: one barrier at a time
}

// parity is under which of two counters an operation counts itself.
type parity uint32

func newEpochs() *epochs {
	e := &epochs{wake: make(chan struct{}, 1), barrier: make(chan struct{}, 1)}
	e.barrier <- struct{}{}
	return e
}

// enter counts an operation; leave takes what it returned.
func (e *epochs) enter() parity {
	p := parity(e.now.Load() & 1)
	e.active[p].n.Add(1)
	return p
}

func (e *epochs) leave(p parity) {
	if e.active[p].n.Add(-1) == 0 && e.waiting.Load() {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// wait returns when every operation counted before the call has left.
func (e *epochs) wait() {
	<-e.barrier
	defer func() { e.barrier <- struct{}{} }()
	e.waiting.Store(true)
	defer e.waiting.Store(false)
	for range 2 {
		old := (e.now.Add(1) - 1) & 1
		for e.active[old].n.Load() != 0 {
			<-e.wake
		}
	}
}

// Barrier returns when every operation on a session's disk and every commit
// that began before the call has ended, and so recorded the addresses of what it
// stored. It never holds up new ones.
func (m *Manager) Barrier() {
	if !mutant.On("volume/no-barrier") {
		m.epochs.wait()
	}
}
