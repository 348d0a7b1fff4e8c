package dedup

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCacheLoadsOnceAndDropsWhatNobodyUses(t *testing.T) {
	var loads, dropped, alive atomic.Int64
	c := newCache[int](10, func(v *atomic.Int64) {
		dropped.Add(1)
		alive.Add(-1)
		if v.Add(-1) != 0 {
			t.Error("a value was dropped twice")
		}
	})
	load := func() (*atomic.Int64, int64, error) {
		loads.Add(1)
		alive.Add(1)
		v := new(atomic.Int64)
		v.Store(1)
		return v, 1, nil
	}
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(k), 1))
			for range 2000 {
				e, err := c.get(rng.IntN(20), load)
				if err != nil {
					t.Error(err)
					return
				}
				if e.value.Load() != 1 {
					t.Error("a value in use was dropped")
				}
				if rng.IntN(10) == 0 {
					e.forget()
				}
				e.release()
			}
		})
	}
	wg.Wait()
	if c.bytes() > 10 || c.entries() > 10 {
		t.Errorf("%d bytes, %d entries cached; the budget is 10", c.bytes(), c.entries())
	}
	c.clear()
	if loads.Load() != dropped.Load() || alive.Load() != 0 || c.bytes() != 0 {
		t.Errorf("%d loaded, %d dropped, %d bytes left", loads.Load(), dropped.Load(), c.bytes())
	}
}

func TestCacheDoesNotKeepErrors(t *testing.T) {
	c := newCache[int](10, func(int) {})
	bad := errors.New("bad")
	if _, err := c.get(1, func() (int, int64, error) { return 0, 0, bad }); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	e, err := c.get(1, func() (int, int64, error) { return 5, 1, nil })
	if err != nil || e.value != 5 {
		t.Fatalf("after an error: %v", err)
	}
	e.release()
}

func TestCacheKeepsWhatIsInUse(t *testing.T) {
	dropped := 0
	c := newCache[int](1, func(int) { dropped++ })
	one, _ := c.get(1, func() (int, int64, error) { return 1, 1, nil })
	two, _ := c.get(2, func() (int, int64, error) { return 2, 1, nil })
	if dropped != 0 || c.entries() != 1 {
		t.Errorf("dropped %d, cached %d", dropped, c.entries())
	}
	one.release()
	two.release()
	if dropped != 1 {
		t.Errorf("dropped %d, want the one that was pushed out", dropped)
	}
}

func TestPackSet(t *testing.T) {
	p := newPackSet()
	for _, n := range []uint64{1, 63, 64, 65, maxPack} {
		p.add(n, 0)
	}
	p.add(64, 3)
	p.add(64, 2)
	for n, want := range map[uint64]bool{0: false, 1: true, 2: false, 62: false, 63: true, 64: true, 65: true, 66: false, maxPack: true, maxPack - 1: false} {
		if _, ok := p.gen(n); ok != want {
			t.Errorf("pack %d: %v, want %v", n, ok, want)
		}
	}
	if g, _ := p.gen(64); g != 3 || p.count() != 5 {
		t.Errorf("generation %d of 3, %d packs of 5", g, p.count())
	}
}
