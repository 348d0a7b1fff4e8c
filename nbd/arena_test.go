package nbd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSizeClasses(t *testing.T) {
	for n, want := range map[int]int64{
		0: 4096, 1: 4096, 4096: 4096, 4097: 8192, 65536: 65536, 65537: 131072,
		1 << 20: 1 << 20, 1<<20 + 1: 2 << 20, maxPayload - 1: maxPayload, maxPayload: maxPayload,
	} {
		if got := charge(n); got != want {
			t.Errorf("charge(%d) = %d, want %d", n, got, want)
		}
	}
	if classOf(maxPayload) != classes-1 {
		t.Error("the largest payload does not use the largest class")
	}
}

// Many takers, never more than the limit, and nothing left in the end.
func TestArenaBudget(t *testing.T) {
	const limit = 64 << 20
	a := newArena(limit, time.Hour, func() {})
	defer a.close()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for range 200 {
				n := 1 + rnd.IntN(1<<rnd.IntN(maxClass))
				if err := a.reserve(context.Background(), n); err != nil {
					t.Error(err)
					return
				}
				if r := a.reserved.Load(); r > limit {
					t.Errorf("%d reserved", r)
				}
				b := a.get(n)
				b.bytes[0], b.bytes[n-1] = 1, 2
				a.mu.Lock()
				if a.lent+a.idle > limit {
					t.Errorf("%d lent and %d idle", a.lent, a.idle)
				}
				a.mu.Unlock()
				a.put(b)
				a.release(n)
			}
		}()
	}
	wg.Wait()
	if a.reserved.Load() != 0 || a.lent != 0 || a.waiting.Load() != 0 {
		t.Errorf("reserved %d, lent %d, waiting %d", a.reserved.Load(), a.lent, a.waiting.Load())
	}
	if !a.total.TryAcquire(limit) || !a.big.TryAcquire(bigShare(limit)) {
		t.Error("the budget is not whole again")
	}
}

func TestArenaKeepsRoomForSmallRequests(t *testing.T) {
	a := newArena(64<<20, time.Hour, func() {})
	defer a.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := a.reserve(ctx, 32<<20); err != nil {
		t.Fatal(err)
	}
	if err := a.reserve(ctx, 32<<20); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second huge request: %v", err)
	}
	for range 16 {
		if err := a.reserve(context.Background(), 2<<20); err != nil {
			t.Fatal(err)
		}
	}
	if a.tryGrow(8192) {
		t.Error("grew beyond the limit")
	}
}

func TestArenaPressure(t *testing.T) {
	var calls atomic.Int64
	a := newArena(64<<20, time.Millisecond, func() { calls.Add(1) })
	defer a.close()
	for range 32 {
		if err := a.reserve(context.Background(), 2<<20); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- a.reserve(context.Background(), 4096) }()
	for calls.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	a.release(2 << 20)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Idle buffers go when a whole period has passed without need for them.
func TestArenaTrim(t *testing.T) {
	a := newArena(64<<20, time.Hour, func() {})
	defer a.close()
	var l []*buffer
	for range 10 {
		l = append(l, a.get(1<<20))
	}
	for _, b := range l {
		a.put(b)
	}
	a.trim() // the buffers were in use during the period
	if a.idle != 10<<20 {
		t.Fatalf("%d idle after the first period", a.idle)
	}
	a.put(a.get(1 << 20)) // one is needed in the second
	a.trim()
	if a.idle != 1<<20 {
		t.Fatalf("%d idle after the second period", a.idle)
	}
	a.trim()
	if a.idle != 0 || a.timer != nil {
		t.Fatalf("%d idle after the third period", a.idle)
	}
}

// countingDevice counts flushes and can hold them back.
type countingDevice struct {
	Device
	hold    chan struct{}
	started atomic.Int64
	err     error
}

func (d *countingDevice) Flush() error {
	d.started.Add(1)
	<-d.hold
	return d.err
}

// Those who come while a flush runs share the next one, and no flush counts
// that began before the call.
func TestFlushGroup(t *testing.T) {
	var g flushGroup
	d := &countingDevice{hold: make(chan struct{})}
	var wg sync.WaitGroup
	flush := func() {
		defer wg.Done()
		if err := g.flush(d); err != nil {
			t.Error(err)
		}
	}
	wg.Add(1)
	go flush()
	for d.started.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		wg.Add(1)
		go flush()
	}
	d.hold <- struct{}{} // the first ends; it served nobody else
	for d.started.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(d.hold)
	wg.Wait()
	if n := d.started.Load(); n < 2 || n > 3 {
		t.Errorf("%d flushes for 11 calls", n)
	}
	if g.running || g.next != nil {
		t.Error("the group is not at rest")
	}
}

// Every caller's flush begins after the call: with a clock of writes, a caller
// must see all its own.
func TestFlushGroupCoversCallers(t *testing.T) {
	var g flushGroup
	var written, durable atomic.Int64
	d := &clockDevice{written: &written, durable: &durable}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 500 {
				mine := written.Add(1)
				if err := g.flush(d); err != nil {
					t.Error(err)
				}
				if durable.Load() < mine {
					t.Errorf("write %d acknowledged, %d durable", mine, durable.Load())
					return
				}
			}
		}()
	}
	wg.Wait()
}

type clockDevice struct {
	Device
	written, durable *atomic.Int64
}

func (d *clockDevice) Flush() error {
	now := d.written.Load()
	time.Sleep(time.Microsecond)
	d.durable.Store(max(d.durable.Load(), now))
	return nil
}

func TestFlushGroupErrors(t *testing.T) {
	var g flushGroup
	d := &countingDevice{hold: make(chan struct{}), err: errors.New("disk is gone")}
	close(d.hold)
	for range 3 {
		if err := g.flush(d); err == nil {
			t.Error("no error")
		}
	}
}
