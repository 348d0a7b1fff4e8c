package maintenance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/volume"
)

// fireFor is how long TestCollectUnderFire goes on at least: a busy machine may
// need longer for enough to happen.
const fireFor = 2 * time.Second

// fire is a store that everything happens to at the same time.
type fire struct {
	*world
	ctx  context.Context
	seed uint64

	mu     sync.Mutex
	points map[string][]byte // what live points contain

	backups, reads, deletes, collections, hits atomic.Int64
}

// TestCollectUnderFire collects garbage again and again, as thoroughly as it can,
// beside backups, restores and deletes, and compares every byte of everything.
func TestCollectUnderFire(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{FullAfter: 5, ChainLimit: 7}})
	f := &fire{world: w, seed: seedOf(t), points: map[string][]byte{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.ctx = ctx
	end := time.Now().Add(fireFor)
	var wg sync.WaitGroup
	run := func(n uint64, work func(*rand.Rand) error) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(f.seed, n))
			for ctx.Err() == nil {
				if err := work(rng); err != nil && ctx.Err() == nil {
					t.Errorf("%d: %v", n, err)
					cancel()
				}
			}
		})
	}
	for i := range uint64(3) {
		run(i, func(rng *rand.Rand) error { return f.backup(rng, fmt.Sprint("vm", i)) })
	}
	run(10, f.restore)
	run(11, f.restore)
	run(12, f.delete)
	run(13, func(*rand.Rand) error {
		err := f.collect()
		if time.Now().After(end) && f.collections.Load() >= 4 && f.backups.Load() >= 10 {
			cancel()
		}
		return err
	})
	wg.Wait()
	t.Logf("%d backups, %d restores, %d deletes, %d collections; %d dedup hits", f.backups.Load(), f.reads.Load(),
		f.deletes.Load(), f.collections.Load(), w.store.Stats().Put.Index+w.store.Stats().Put.Hint)
	f.compareAll("at the end")
	f.audit()
	w.reopen()
	f.compareAll("after a restart")
	w.collect(all)
	f.compareAll("after another collection")
	f.audit()
}

// audit compares the accounts with marks of nothing but points.
func (f *fire) audit() {
	f.t.Helper()
	c, err := f.store.BeginCollection()
	f.must(err)
	defer c.Close()
	_, err = f.cat.Mark(f.t.Context(), func(runs []catalog.Run) {
		for _, r := range runs {
			c.Mark(r.Addr, int(r.Count))
		}
	})
	f.must(err)
	if n := c.Tally().UnknownMarks; n != 0 {
		f.t.Errorf("points lead to %d blocks that are not there", n)
	}
	if a, err := f.cat.AuditAccounts(c.Live, true); err != nil {
		f.t.Errorf("%+v: %v", a, err)
	}
}

func (f *fire) compareAll(when string) {
	for id, want := range f.points {
		if err := f.sameImage(id, want); err != nil && !errors.Is(err, catalog.ErrNotFound) { // a chain limit took it
			f.t.Errorf("%s, point %s: %v", when, id, err)
		}
	}
}

// backup runs a session: it writes data that others have had or will have, drops
// some of it again, and checks what it reads.
func (f *fire) backup(rng *rand.Rand, vm string) error {
	const blocks = 96
	req := volume.StartRequest{VM: vm, Mode: []string{"auto", "auto", "full"}[rng.IntN(3)]}
	st, d, err := f.begin(req, blocks*block)
	if err != nil {
		return err
	}
	want := make([]byte, blocks*block)
	if parent := st.Disks[0].Parent; parent != "" {
		f.mu.Lock()
		base, ok := f.points[parent]
		f.mu.Unlock()
		if !ok {
			return fmt.Errorf("parent %s is not a point", parent)
		}
		copy(want, base)
	}
	for range 4 + rng.IntN(12) {
		n := 1 + rng.IntN(24)
		at := rng.IntN(blocks - n + 1)
		switch rng.IntN(8) {
		case 0:
			if err := d.Zero(int64(at*block), int64(n*block)); err != nil {
				return err
			}
			clear(want[at*block : (at+n)*block])
		case 1: // a part of a block
			p := noise(1+rng.IntN(5000), rng.Uint64())
			off := at*block + rng.IntN(block-len(p))
			if _, err := d.WriteAt(p, int64(off)); err != nil {
				return err
			}
			copy(want[off:], p)
		case 2:
			if err := d.Flush(); err != nil {
				return err
			}
		default:
			var p []byte
			for range n {
				p = append(p, noise(block, uint64(rng.IntN(600)))...)
			}
			if _, err := d.WriteAt(p, int64(at*block)); err != nil {
				return err
			}
			copy(want[at*block:], p)
		}
		if rng.IntN(3) == 0 {
			if err := sameAs(d, want); err != nil {
				return fmt.Errorf("session %s: %w", st.Session, err)
			}
		}
	}
	if rng.IntN(6) == 0 {
		return f.vols.Abort(st.Session)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, err := f.vols.Commit(st.Session)
	if err != nil {
		return err
	}
	f.points[rec.Point] = want
	f.backups.Add(1)
	return nil
}

// pick is a point, or "".
func (f *fire) pick(rng *rand.Rand) (string, []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]string, 0, len(f.points))
	for id := range f.points {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return "", nil
	}
	slices.Sort(ids)
	id := ids[rng.IntN(len(ids))]
	return id, f.points[id]
}

// restore reads a point several times, which may be deleted meanwhile.
func (f *fire) restore(rng *rand.Rand) error {
	id, want := f.pick(rng)
	if id == "" {
		time.Sleep(time.Millisecond)
		return nil
	}
	im, err := f.vols.OpenImage(id, "vda")
	if errors.Is(err, catalog.ErrNotFound) {
		return nil // deleted since it was picked
	}
	if err != nil {
		return err
	}
	defer im.Close()
	for range 1 + rng.IntN(4) {
		if err := sameAs(im, want); err != nil {
			return fmt.Errorf("reader of point %s: %w", id, err)
		}
		f.reads.Add(1)
	}
	return nil
}

func (f *fire) delete(rng *rand.Rand) error {
	time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	f.mu.Lock()
	n := len(f.points)
	f.mu.Unlock()
	id, _ := f.pick(rng)
	if n < 5 {
		return nil
	}
	_, err := f.e.Delete(id, rng.IntN(2) == 0)
	switch {
	case errors.Is(err, volume.ErrInUse), errors.Is(err, catalog.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	f.deletes.Add(1)
	f.mu.Lock()
	delete(f.points, id)
	f.mu.Unlock()
	return nil
}

func (f *fire) collect() error {
	_, err := f.e.Collect(f.ctx, all)
	if err == nil {
		f.collections.Add(1)
	}
	return err
}
