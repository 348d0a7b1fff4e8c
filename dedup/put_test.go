package dedup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestPutAndReadBoundaries(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s, _ := newStoreTest(t)
			w := s.NewWriter()
			defer w.Close()
			data := blocks(count(1, n)...)
			addrs, r := mustPut(t, w, data, nil)
			if r.New != int64(n) || r.NewBytes != int64(n)*BlockSize {
				t.Errorf("result %+v, want %d new", r, n)
			}
			if n > 0 && (r.StoredBytes <= 0 || r.StoredBytes > int64(n)*(BlockSize+maxFrameHeader)) {
				t.Errorf("%d stored bytes for %d blocks", r.StoredBytes, n)
			}
			checkRead(t, s, addrs, data)
			mustSync(t, w)
			again, r := mustPut(t, w, data, nil)
			if r.New != 0 || !slices.Equal(again, addrs) {
				t.Errorf("the same again: %+v at %v, first at %v", r, again, addrs)
			}
		})
	}
}

func TestPutSources(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	a, _ := mustPut(t, w, blocks(1, 2, 3), nil)
	for _, c := range []struct {
		name    string
		content []uint64
		hints   []Addr
		want    PutResult
	}{
		{"zeros", []uint64{0, 0}, nil, PutResult{Zero: 2}},
		{"zeros over hints", []uint64{0, 0}, a[:2], PutResult{Zero: 2}},
		{"right hints", []uint64{1, 2, 3}, a, PutResult{Hint: 3}},
		{"wrong hints", []uint64{1, 2, 3}, []Addr{a[1], a[2], a[0]}, PutResult{Recent: 3}},
		{"hints to nowhere", []uint64{1, 2}, []Addr{MakeAddr(maxPack, 5), MakeAddr(1, MaxPackSlots-1)}, PutResult{Recent: 2}},
		{"no hint", []uint64{3, 1, 2}, []Addr{0, 0, 0}, PutResult{Recent: 3}},
		{"twice in one", []uint64{10, 10, 10}, nil, PutResult{New: 1, Recent: 2, NewBytes: BlockSize}},
		{"mixed", []uint64{0, 1, 11, 11, 2}, []Addr{0, a[0], a[0], 0, 0}, PutResult{Zero: 1, Hint: 1, New: 1, Recent: 2, NewBytes: BlockSize}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := blocks(c.content...)
			addrs, r := mustPut(t, w, data, c.hints)
			r.StoredBytes = 0
			if r != c.want {
				t.Errorf("got %+v, want %+v", r, c.want)
			}
			checkRead(t, s, addrs, data)
		})
	}
}

func TestPutFindsSealedBlocksThroughTheIndex(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	data := blocks(count(1, 80)...)
	addrs, _ := mustPut(t, w, data, nil)
	s.seals.Wait()
	if s.Stats().PacksSealed == 0 {
		t.Fatal("no pack was sealed")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	shuffled := make([]uint64, 80)
	for i, j := range rng.Perm(80) {
		shuffled[i] = uint64(j) + 1
	}
	again, r := mustPut(t, w, blocks(shuffled...), nil)
	if r.New != 0 || r.Index == 0 {
		t.Errorf("shuffled: %+v", r)
	}
	for i, n := range shuffled {
		if again[i] != addrs[n-1] {
			t.Fatalf("content %d at %v, first at %v", n, again[i], addrs[n-1])
		}
	}
	inOrder, r := mustPut(t, w, data, nil)
	if r.New != 0 || r.Recent < r.Index || !slices.Equal(inOrder, addrs) {
		t.Errorf("in order: %+v; the slot after the last should mostly do", r)
	}
}

func TestPutRefusesBadArguments(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	for name, f := range map[string]func() error{
		"odd length":     func() error { _, err := w.Put(make([]byte, BlockSize+1), nil, make([]Addr, 1)); return err },
		"short out":      func() error { _, err := w.Put(make([]byte, BlockSize), nil, nil); return err },
		"short hints":    func() error { _, err := w.Put(make([]byte, 2*BlockSize), make([]Addr, 1), make([]Addr, 2)); return err },
		"read length":    func() error { return s.Read(make([]Addr, 2), make([]byte, BlockSize)) },
		"hashes length":  func() error { return s.Hashes(make([]Addr, 2), make([]Hash, 1)) },
		"unknown pack":   func() error { return s.Read([]Addr{MakeAddr(99, 0)}, make([]byte, BlockSize)) },
		"unknown have":   func() error { return s.Have([]Addr{MakeAddr(99, 0)}) },
		"unknown hashes": func() error { return s.Hashes([]Addr{MakeAddr(99, 0)}, make([]Hash, 1)) },
	} {
		if f() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := s.Have([]Addr{MakeAddr(99, 0)}); !errors.Is(err, ErrUnknownAddr) {
		t.Errorf("unknown address: %v", err)
	}
	w.Close()
	if _, err := w.Put(nil, nil, nil); err != nil {
		t.Errorf("nothing to put: %v", err)
	}
	if _, err := w.Put(make([]byte, BlockSize), nil, make([]Addr, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
}

// TestConcurrentPutStoresOneCopy has many writers bring the same blocks, each
// in another order, so that they wait for each other's claims both ways.
func TestConcurrentPutStoresOneCopy(t *testing.T) {
	s, _ := newStoreTest(t)
	const workers, distinct = 8, 60
	var total PutResult
	var mu sync.Mutex
	at := make([]map[uint64]Addr, workers)
	var wg sync.WaitGroup
	for k := range workers {
		wg.Go(func() {
			w := s.NewWriter()
			defer w.Close()
			at[k] = make(map[uint64]Addr)
			rng := rand.New(rand.NewPCG(uint64(k), 5))
			order := rng.Perm(distinct)
			for len(order) > 0 {
				n := min(1+rng.IntN(20), len(order))
				var content []uint64
				for _, c := range order[:n] {
					content = append(content, uint64(c)+1)
				}
				order = order[n:]
				out := make([]Addr, n)
				r, err := w.Put(blocks(content...), nil, out)
				if err != nil {
					t.Error(err)
					return
				}
				for i, c := range content {
					at[k][c] = out[i]
				}
				mu.Lock()
				total.Add(r)
				mu.Unlock()
			}
			if err := w.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if total.New != distinct {
		t.Errorf("%d copies of %d blocks were stored", total.New, distinct)
	}
	for k := 1; k < workers; k++ {
		for c, a := range at[k] {
			if a != at[0][c] {
				t.Errorf("content %d is at %v and at %v", c, at[0][c], a)
			}
		}
	}
	for c, a := range at[0] {
		checkRead(t, s, []Addr{a}, block(c))
	}
}

func TestWritersGoOnInUnfilledPacks(t *testing.T) {
	s, _ := newStoreTest(t)
	var packs []uint64
	for i := range uint64(10) {
		w := s.NewWriter()
		a, _ := mustPut(t, w, block(2+3*i), nil) // a few bytes each
		packs = append(packs, a[0].Pack())
		w.Close()
	}
	if slices.Min(packs) != slices.Max(packs) {
		t.Errorf("ten small sessions filled packs %v", packs)
	}
}

func TestHashes(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	data := blocks(count(0, 60)...)
	addrs, _ := mustPut(t, w, data, nil)
	got := make([]Hash, len(addrs))
	if err := errors.Join(s.Hashes(addrs, got), s.Have(addrs)); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if want := s.BlockHash(data[i*BlockSize : (i+1)*BlockSize]); got[i] != want {
			t.Errorf("hash of block %d is %x, want %x", i, got[i], want)
		}
	}
	if got[0] != (Hash{}) || addrs[0] != 0 {
		t.Error("the block of zeros has an address or a hash")
	}
}
