package volume

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soon fails the test unless the channel is closed in a while.
func soon(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal(what + " never happened")
	}
}

func async(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	return done
}

func TestBarrierWaitsForWhatBegan(t *testing.T) {
	e := newEpochs()
	e.wait() // nothing to wait for
	for range 3 {
		old := e.enter()
		start := e.now.Load()
		done := async(e.wait)
		for e.now.Load() == start {
			runtime.Gosched()
		}
		for range 10 { // new ones are neither held up nor waited for
			e.leave(e.enter())
		}
		select {
		case <-done:
			t.Fatal("the barrier did not wait for an operation that began before")
		default:
		}
		during := e.enter()
		e.leave(old)
		if during == old {
			t.Fatal("an operation that began behind the barrier counts under the parity it waits for")
		}
		// The second look waits for what began between: only ever once.
		e.leave(during)
		soon(t, "the end of the barrier", done)
	}
}

// TestBarrierBesideOperations has operations note when they are under way; no
// barrier may return while one is that was before it began.
func TestBarrierBesideOperations(t *testing.T) {
	e := newEpochs()
	const workers = 8
	var under [workers]atomic.Uint64 // odd: an operation is under way
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for !stop.Load() {
				op := e.enter()
				under[w].Add(1)
				runtime.Gosched()
				under[w].Add(1)
				e.leave(op)
			}
		})
	}
	var barriers sync.WaitGroup
	for range 2 {
		barriers.Go(func() {
			for range 100 {
				var before [workers]uint64
				for w := range before {
					before[w] = under[w].Load()
				}
				e.wait()
				for w, n := range before {
					if n%2 == 1 && under[w].Load() == n {
						t.Error("a barrier returned while an operation from before it was under way")
					}
				}
			}
		})
	}
	soon(t, "the end of the barriers", async(barriers.Wait))
	stop.Store(true)
	wg.Wait()
}

func BenchmarkEpoch(b *testing.B) {
	e := newEpochs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e.leave(e.enter())
		}
	})
}
