package dedup

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestConcurrentReadersAndWriters has readers at packs that grow, are sealed
// and leave the caches meanwhile.
func TestConcurrentReadersAndWriters(t *testing.T) {
	s, _ := newStoreTest(t)
	s.frames.budget, s.tocs.budget, s.files.budget = 5*frameRaw, 1<<10, 2
	var mu sync.Mutex
	var known []Addr
	content := map[Addr]uint64{}
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for k := range uint64(3) {
		writers.Go(func() {
			w := s.NewWriter()
			defer w.Close()
			rng := rand.New(rand.NewPCG(k, 2))
			for range 25 {
				n := 1 + rng.Uint64N(18)
				ns := count(1+rng.Uint64N(150), n)
				out := make([]Addr, n)
				if _, err := w.Put(blocks(ns...), nil, out); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for i, a := range out {
					if _, ok := content[a]; !ok {
						known = append(known, a)
					}
					content[a] = ns[i]
				}
				mu.Unlock()
				if rng.IntN(5) == 0 {
					if err := w.Sync(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for k := range uint64(4) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(k, 3))
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				if len(known) == 0 {
					mu.Unlock()
					continue
				}
				from := rng.IntN(len(known))
				addrs := append([]Addr(nil), known[from:min(len(known), from+1+rng.IntN(12))]...)
				var want []byte
				for _, a := range addrs {
					want = append(want, block(content[a])...)
				}
				mu.Unlock()
				got := make([]byte, len(want))
				if err := s.Read(addrs, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %v: %v", addrs, err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if s.frames.bytes() > 5*frameRaw || s.files.entries() > 2 {
		t.Errorf("caches hold %d bytes of frames, %d files", s.frames.bytes(), s.files.entries())
	}
}

// TestReadPatterns reads every run of a frame in every order of sizes, warm
// and cold.
func TestReadPatterns(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	ns := []uint64{1, 4, 7, 10, 13, 16, 19, 22, 3, 6, 9, 12, 2, 5, 8, 11, 25}
	data := blocks(ns...)
	addrs, _ := mustPut(t, w, data, nil)
	for from := range addrs {
		for to := from + 1; to <= len(addrs); to++ {
			if (from+to)%3 == 0 {
				s.frames.clear()
			}
			got := make([]byte, (to-from)*BlockSize)
			if err := s.Read(addrs[from:to], got); err != nil || !bytes.Equal(got, data[from*BlockSize:to*BlockSize]) {
				t.Fatalf("blocks %d to %d: %v", from, to, err)
			}
		}
	}
	back := make([]Addr, len(addrs))
	var want []byte
	for i := range addrs {
		back[i] = addrs[len(addrs)-1-i]
		want = append(want, block(ns[len(addrs)-1-i])...)
	}
	got := make([]byte, len(want))
	if err := s.Read(back, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("backwards: %v", err)
	}
}

// TestOneBlockIsNotDecodedTwiceOver counts what random and sequential single
// reads decode.
func TestOneBlockIsNotDecodedTwiceOver(t *testing.T) {
	s, _ := newStoreTest(t)
	w := s.NewWriter()
	defer w.Close()
	addrs, _ := mustPut(t, w, blocks(1, 4, 7, 10), nil)
	decoded := func(order ...int) int {
		s.frames.clear()
		before := s.Stats().DecodedBytes
		for _, i := range order {
			if err := s.Read(addrs[i:i+1], make([]byte, BlockSize)); err != nil {
				t.Fatal(err)
			}
		}
		return int(s.Stats().DecodedBytes-before) / BlockSize
	}
	for _, c := range []struct {
		order []int
		want  int
	}{
		{[]int{0}, 1}, {[]int{1}, 2}, {[]int{3}, 4}, {[]int{0, 0, 0}, 1}, {[]int{2, 0, 1}, 3},
		{[]int{0, 1}, 5}, {[]int{0, 1, 2, 3}, 5}, {[]int{3, 2, 1, 0}, 4},
	} {
		if got := decoded(c.order...); got != c.want {
			t.Errorf("reading %v decodes %d blocks, want %d", c.order, got, c.want)
		}
	}
}
