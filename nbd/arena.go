package nbd

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	minClass = 12 // 4 KiB
	maxClass = 25 // 32 MiB = maxPayload
	classes  = maxClass - minClass + 1
)

// buffer is lent by an arena; bytes holds a full size class.
type buffer struct {
	bytes []byte
	class int
}

// arena lends buffers out of one byte budget shared by all connections.
//
// Taking a buffer has two steps: reserve waits, in the order of arrival, until
// the bytes are free; get then takes an idle buffer or makes one. A reader
// that waits does not read its socket: that is the back-pressure. Buffers
// given back are kept for the next request, never more than the budget allows
// together with those lent, and not longer than they are used.
type arena struct {
	limit    int64
	total    *semaphore.Weighted
	big      *semaphore.Weighted
	patience time.Duration
	pressure func() // called while somebody waits longer than patience
	reserved atomic.Int64
	waiting  atomic.Int64

	mu     sync.Mutex // guards the rest; a leaf
	free   [classes][]*buffer
	spare  [classes]int // smallest len(free[i]) since the last trim
	lent   int64
	idle   int64
	timer  *time.Timer
	closed bool
}

func newArena(limit int64, patience time.Duration, pressure func()) *arena {
	return &arena{
		limit:    limit,
		total:    semaphore.NewWeighted(limit),
		big:      semaphore.NewWeighted(bigShare(limit)),
		patience: patience,
		pressure: pressure,
	}
}

// classOf is the index of the smallest class that holds n bytes.
func classOf(n int) int {
	if n <= 1<<minClass {
		return 0
	}
	return bits.Len(uint(n-1)) - minClass
}

func classSize(c int) int64 { return 1 << (c + minClass) }

// charge is what a request for n bytes costs.
func charge(n int) int64 { return classSize(classOf(n)) }

// reserve waits for the cost of n bytes; ctx ends the wait.
func (a *arena) reserve(ctx context.Context, n int) error {
	cost := charge(n)
	if !a.tryReserve(cost) {
		if err := a.wait(ctx, cost); err != nil {
			return err
		}
	}
	a.reserved.Add(cost)
	return nil
}

func (a *arena) tryReserve(cost int64) bool {
	if cost > bigRequest && !a.big.TryAcquire(cost) {
		return false
	}
	if a.total.TryAcquire(cost) {
		return true
	}
	if cost > bigRequest {
		a.big.Release(cost)
	}
	return false
}

// tryGrow reserves the cost of n bytes if nobody has to wait for it.
func (a *arena) tryGrow(n int) bool {
	cost := charge(n)
	if !a.tryReserve(cost) {
		return false
	}
	a.reserved.Add(cost)
	return true
}

func (a *arena) wait(ctx context.Context, cost int64) error {
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	defer a.watch()()
	if cost > bigRequest {
		if err := a.big.Acquire(ctx, cost); err != nil {
			return err
		}
	}
	if err := a.total.Acquire(ctx, cost); err != nil {
		if cost > bigRequest {
			a.big.Release(cost)
		}
		return err
	}
	return nil
}

// watch calls pressure again and again until the returned function is called.
func (a *arena) watch() (stop func()) {
	var t *time.Timer
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(a.patience, func() {
		a.pressure()
		mu.Lock()
		defer mu.Unlock()
		if t != nil {
			t.Reset(a.patience)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		t.Stop()
		t = nil
	}
}

// release gives back what reserve or tryGrow took for n bytes.
func (a *arena) release(n int) {
	cost := charge(n)
	a.reserved.Add(-cost)
	a.total.Release(cost)
	if cost > bigRequest {
		a.big.Release(cost)
	}
}

// get lends a buffer for n bytes, which must be reserved. Its content is
// whatever it was.
func (a *arena) get(n int) *buffer {
	c := classOf(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lent += classSize(c)
	if l := a.free[c]; len(l) > 0 {
		b := l[len(l)-1]
		l[len(l)-1] = nil
		a.free[c] = l[:len(l)-1]
		a.spare[c] = min(a.spare[c], len(a.free[c]))
		a.idle -= classSize(c)
		return b
	}
	for i := classes - 1; i >= 0 && a.lent+a.idle > a.limit; i-- {
		a.drop(i, len(a.free[i]))
	}
	return &buffer{bytes: make([]byte, classSize(c)), class: c}
}

// put takes a buffer back; the reservation stays until release.
func (a *arena) put(b *buffer) {
	size := classSize(b.class)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lent -= size
	if a.closed {
		return
	}
	a.idle += size
	a.free[b.class] = append(a.free[b.class], b)
	if a.timer == nil {
		a.timer = time.AfterFunc(poolTrim, a.trim)
	}
}

// drop forgets n idle buffers of a class. The lock is held.
func (a *arena) drop(class, n int) {
	l := a.free[class]
	clear(l[len(l)-n:])
	a.free[class] = l[:len(l)-n]
	a.spare[class] = min(a.spare[class], len(l)-n)
	a.idle -= int64(n) * classSize(class)
}

// trim frees the buffers that were idle for the whole last period.
func (a *arena) trim() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	for i := range a.free {
		a.drop(i, a.spare[i])
		a.spare[i] = len(a.free[i])
	}
	a.timer = nil
	if a.idle > 0 {
		a.timer = time.AfterFunc(poolTrim, a.trim)
	}
}

// close frees what is idle; lent buffers may still come back.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	for i := range a.free {
		a.drop(i, len(a.free[i]))
	}
}
