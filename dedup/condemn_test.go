package dedup

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// raceStore is a store with one sealed pack of eight blocks, of which the first
// two are marked, and a collection that has begun.
func raceStore(t *testing.T) (s *Store, c *Collection, addrs []Addr) {
	t.Helper()
	s, _ = newStoreTest(t)
	addrs = storeSealed(t, s, count(1, 8))
	storeSealed(t, s, count(21, 8)) // so that it is not the highest pack
	c, err := s.BeginCollection()
	must2(t, err)
	t.Cleanup(c.Close)
	c.Mark(addrs[0], 2)
	c.Mark(MakeAddr(addrs[0].Pack()+1, 0), 8)
	return s, c, addrs
}

// at runs f once, at the moment a goroutine passes the given point.
func (s *Store) at(point string, f func()) {
	var once sync.Once
	s.paused = func(at string) {
		if at == point {
			once.Do(f)
		}
	}
}

// TestHitWhileCondemned has a writer find a dead block at each step of the
// condemning of its pack. What it gets is there afterwards.
func TestHitWhileCondemned(t *testing.T) {
	for _, point := range []string{"condemning", "bits read"} {
		t.Run(point, func(t *testing.T) {
			s, c, addrs := raceStore(t)
			w := s.NewWriter()
			defer w.Close()
			var got []Addr
			var r PutResult
			s.at(point, func() { got, r = mustPut(t, w, blocks(4, 5), addrs[3:5]) })
			_, err := c.Sweep(context.Background(), SweepOptions{})
			must2(t, err)
			if r.New != 2 {
				t.Errorf("dead blocks of a condemned pack are hits: %+v", r)
			}
			checkRead(t, s, got, blocks(4, 5))
			checkRead(t, s, addrs[:2], blocks(1, 2))
			if again, r := mustPut(t, w, blocks(1, 4), []Addr{addrs[0], addrs[3]}); r.New != 0 {
				t.Errorf("put again: %+v at %v", r, again)
			}
		})
	}
}

// TestCondemnedWhileHit has the whole sweep run between a writer's mark and his
// look at the flag: then the mark counts.
func TestCondemnedWhileHit(t *testing.T) {
	s, c, addrs := raceStore(t)
	w := s.NewWriter()
	defer w.Close()
	s.at("hit marked", func() {
		if _, err := c.Sweep(context.Background(), SweepOptions{}); err != nil {
			t.Error(err)
		}
		c.Close()
	})
	got, r := mustPut(t, w, block(4), addrs[3:4])
	if r.Hint != 1 || got[0] != addrs[3] {
		t.Errorf("%+v at %v", r, got)
	}
	checkRead(t, s, got, block(4))
	checkGone(t, s, addrs[4:])
}

// TestStaleView has a batch look at a pack, a whole collection go by, and the
// batch look again at what it has of the pack.
func TestStaleView(t *testing.T) {
	for name, marked := range map[string]int{"compacted": 2, "removed": 0} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStoreTest(t)
			addrs := storeSealed(t, s, count(1, 8))
			storeSealed(t, s, count(21, 8))
			w := s.NewWriter()
			defer w.Close()
			b := newBatch(s)
			out := make([]Addr, 2)
			b.begin(w, blocks(4, 5), out)
			for i, n := range []uint64{4, 5} {
				b.hash[i] = s.hash.blockHash(block(n))
			}
			if !b.matches(0, addrs[3]) {
				t.Fatal("the block is not found")
			}
			collect(t, s, addrs[:marked], SweepOptions{})
			if b.matches(1, addrs[4]) {
				t.Error("a block that is gone was found in an old view")
			}
		})
	}
}

// TestFrozenPack: a new generation that was finished and cannot be taken back
// may be what the next start chooses.
func TestFrozenPack(t *testing.T) {
	fs := crashfs.New()
	testOptions(t, fs)
	o := lifeOptions(t, fs)
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 8))
	next := func(op crashfs.Op) bool { return op.Path == genPath(1, 1) }
	// The read back fails, and so does the removal.
	fs.Inject(&crashfs.Fault{Match: func(op crashfs.Op) bool { return op.Kind == crashfs.Read && next(op) }})
	fs.Inject(&crashfs.Fault{Match: func(op crashfs.Op) bool { return op.Kind == crashfs.Remove && next(op) }})
	c, err := s.BeginCollection()
	must2(t, err)
	c.Mark(addrs[0], 2)
	if _, err := c.Sweep(context.Background(), SweepOptions{}); !errors.Is(err, syscall.EIO) {
		t.Errorf("sweep: %v", err)
	}
	c.Close()
	checkRead(t, s, addrs, blocks(count(1, 8)...))
	w := s.NewWriter()
	got, r := mustPut(t, w, blocks(count(1, 8)...), addrs)
	if r.New != 8 {
		t.Errorf("blocks of a frozen pack are hits: %+v", r)
	}
	mustSync(t, w)
	w.Close()
	collect(t, s, got, SweepOptions{}) // leaves the pack alone
	checkRead(t, s, addrs, blocks(count(1, 8)...))
	closeTest(t, s)
	s = openTest(t, o)
	defer func() { closeTest(t, s) }()
	checkRead(t, s, got, blocks(count(1, 8)...))
	checkRead(t, s, addrs[:2], blocks(1, 2))
	if id := (tier.ID{Pack: 1}); tierFiles(t, s)[id] != 0 {
		t.Error("both generations are still there")
	}
}

// TestCollectBesideWriters runs collections beside writers, those included that
// do not compress, readers, and a goroutine that compresses, verifies and
// repairs. Each
// writer knows what he was given and has told it, as sessions do: what he holds
// must be there at every moment.
func TestCollectBesideWriters(t *testing.T) {
	const writers = 4
	compactions := uint64(60)
	if raceEnabled {
		compactions = 10
	}
	s, _ := newStoreTest(t)
	ws := make([]*heldBlocks, writers)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for k := range ws {
		ws[k] = &heldBlocks{held: map[Addr]uint64{}}
		wg.Go(func() { ws[k].work(t, s, uint64(k), stop) })
	}
	wg.Go(func() { rewriteBeside(t, s, stop) })
	var freed int64
	for s.count.compacted.Load() < compactions || s.count.removed.Load() == 0 || s.count.compressions.Load() < compactions/6 {
		if t.Failed() {
			break
		}
		if _, err := s.SealIdle(0); err != nil {
			t.Fatal(err)
		}
		c, err := s.BeginCollection()
		must2(t, err)
		for _, w := range ws { // barrier and roots in one: what is under way ends first
			w.op.Lock()
			for a := range w.held {
				c.Mark(a, 1)
			}
			w.op.Unlock()
		}
		p, err := c.Sweep(context.Background(), SweepOptions{DeadRatio: 0.2})
		c.Close()
		if err != nil {
			t.Error(err)
		}
		freed += p.FreedBytes
	}
	close(stop)
	wg.Wait()
	for _, w := range ws {
		checkLive(t, "at the end", s, w.held)
	}
	st := s.Stats()
	t.Logf("%d collections freed %d MiB, %d packs removed, %d compacted, %d compressed", st.Collections, freed>>20, st.PacksRemoved, st.PacksCompacted, st.Compressions)
	checkLater(t, s)
	var all []Addr
	for _, w := range ws {
		all = append(all, slices.Collect(maps.Keys(w.held))...)
	}
	sealAll(t, s)
	collect(t, s, all, SweepOptions{})
	checkWhole(t, s)
}

// rewriteBeside compresses what waits, and verifies and repairs packs.
func rewriteBeside(t *testing.T, s *Store, stop chan struct{}) {
	rng := newRNG(99)
	ctx := context.Background()
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := s.SealLater(rng.IntN(2) == 0); err != nil {
			t.Errorf("seal: %v", err)
		}
		packs := s.LaterPacks()
		for _, pack := range packs {
			if _, err := s.CompressPack(ctx, pack, nil); err != nil && !errors.Is(err, ErrUnknownAddr) {
				t.Errorf("compress: %v", err)
			}
			if rng.IntN(4) > 0 {
				continue
			}
			if r, err := s.VerifyPack(ctx, pack, nil); err != nil && !errors.Is(err, ErrUnknownAddr) || err == nil && !r.Whole {
				t.Errorf("verify: %+v, %v", r, err)
			}
			if _, err := s.RepairPack(ctx, pack); err != nil && !errors.Is(err, ErrUnknownAddr) {
				t.Errorf("repair: %v", err)
			}
		}
		if len(packs) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// newWriterOf returns a writer of either kind.
func newWriterOf(s *Store, rng *rand.Rand) *Writer {
	if rng.IntN(2) == 0 {
		return s.NewLaterWriter()
	}
	return s.NewWriter()
}

// heldBlocks is a session: a writer, and the blocks that must stay.
type heldBlocks struct {
	op   sync.Mutex // held from before a Put until its addresses are in held
	held map[Addr]uint64
}

func (h *heldBlocks) work(t *testing.T, s *Store, k uint64, stop chan struct{}) {
	rng := newRNG(k)
	w := newWriterOf(s, rng)
	var gone []Addr // let go of: good hints while they live
	for {
		select {
		case <-stop:
			w.Close()
			return
		default:
		}
		switch rng.IntN(10) {
		case 0, 1, 2, 3, 4:
			ns := count(1+uint64(rng.IntN(400)), 1+uint64(rng.IntN(12)))
			out, hints := make([]Addr, len(ns)), make([]Addr, len(ns))
			for i := range hints {
				if len(gone) > 0 {
					hints[i] = gone[rng.IntN(len(gone))]
				}
			}
			h.op.Lock()
			_, err := w.Put(blocks(ns...), hints, out)
			for i, a := range out {
				h.held[a] = ns[i]
			}
			h.op.Unlock()
			if err != nil {
				t.Errorf("put: %v", err)
				return
			}
		case 5, 6, 7:
			var addrs []Addr
			var want []uint64
			for a, n := range h.held {
				if addrs, want = append(addrs, a), append(want, n); len(addrs) == 12 {
					break
				}
			}
			dst := make([]byte, len(addrs)*BlockSize)
			if err := s.Read(addrs, dst); err != nil || string(dst) != string(blocks(want...)) {
				t.Errorf("read of %v: %v", addrs, err)
				return
			}
		case 8:
			h.op.Lock()
			for a := range h.held {
				if rng.IntN(2) == 0 {
					delete(h.held, a)
					gone = append(gone, a)
				}
			}
			h.op.Unlock()
			gone = gone[max(0, len(gone)-100):]
		default:
			if err := w.Sync(); err != nil {
				t.Errorf("sync: %v", err)
			}
			w.Close()
			w = newWriterOf(s, rng)
		}
	}
}
