package catalog

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func randomPage(rng *rand.Rand) (runs []slotRun) {
	end, last := uint32(0), uint64(0)
	for range 1 + rng.IntN(20) {
		r := slotRun{first: end + uint32(rng.IntN(3)), n: 1 + uint32(rng.IntN(50)), count: 1 + rng.Uint64N(3)}
		if r.first == end && r.count == last {
			r.count++
		}
		runs = append(runs, r)
		end, last = r.first+r.n, r.count
	}
	return runs
}

func TestPageCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		runs := randomPage(rng)
		got, err := decodePage(nil, appendPage(nil, runs))
		if err != nil || !reflect.DeepEqual(got, runs) {
			t.Fatalf("%v, %v; want %v", got, err, runs)
		}
	}
	for what, runs := range map[string][]slotRun{
		"the last slot": {{pageSlots - 1, 1, 1}}, "all slots": {{0, pageSlots, maxSlotCount}},
	} {
		if got, err := decodePage(nil, appendPage(nil, runs)); err != nil || !reflect.DeepEqual(got, runs) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	for what, runs := range map[string][]slotRun{
		"none": nil, "past the last slot": {{pageSlots - 1, 2, 1}}, "not maximal": {{0, 1, 1}, {1, 1, 1}}, "no count": {{0, 1, 0}},
	} {
		if got, err := decodePage(nil, appendPage(nil, runs)); err == nil {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// TestPageSize: a pack filled by one backup takes few bytes.
func TestPageSize(t *testing.T) {
	if n := len(appendPage(nil, []slotRun{{0, 2500, 1}})); n > 4 {
		t.Errorf("%d bytes", n)
	}
}

// TestPageSum against counting slot by slot.
func TestPageSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	p := newPageSum()
	for range 300 {
		var want [pageSlots]int64
		low := int64(0)
		for range rng.IntN(30) {
			first, by := uint32(rng.IntN(200)), int64(rng.IntN(7)-2)
			if rng.IntN(10) == 0 {
				first += pageSlots - 300
			}
			n := 1 + uint32(rng.IntN(100))
			p.add(first, n, by)
			for s := first; s < first+n; s++ {
				want[s] += by
			}
		}
		for _, n := range want {
			low = min(low, n)
		}
		runs, ok := p.take(nil)
		if ok != (low >= 0) {
			t.Fatalf("lowest count %d: %t", low, ok)
		}
		if !ok {
			continue
		}
		for i, r := range runs {
			if i > 0 && runs[i-1].first+runs[i-1].n == r.first && runs[i-1].count == r.count {
				t.Fatalf("runs are not maximal: %v", runs)
			}
			for s := r.first; s < r.first+r.n; s++ {
				want[s] -= int64(r.count)
			}
		}
		if want != [pageSlots]int64{} {
			t.Fatalf("%v", runs)
		}
	}
}

// FuzzPage: what is accepted is in order and encodes to the same bytes.
func FuzzPage(f *testing.F) {
	f.Add(appendPage(nil, randomPage(rand.New(rand.NewPCG(1, 1)))))
	f.Add(appendPage(nil, []slotRun{{0, pageSlots, maxSlotCount}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		runs, err := decodePage(nil, b)
		if err != nil {
			return
		}
		p := newPageSum()
		for _, r := range runs {
			p.add(r.first, r.n, int64(r.count))
		}
		if again, ok := p.take(nil); !ok || !slices.Equal(again, runs) {
			t.Fatalf("%v sums up to %v", runs, again)
		}
		if again := appendPage(nil, runs); !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded as %x", b, again)
		}
	})
}

// FuzzQueue: what is accepted encodes to the same bytes.
func FuzzQueue(f *testing.F) {
	f.Add(appendQueue(nil, queueBorn, []chunkRun{{1, 3}, {9, 1}}))
	f.Add(appendQueue(nil, queueDied, []chunkRun{{maxChunkNo, 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, runs, err := decodeQueue(b)
		if err != nil {
			return
		}
		if again := appendQueue(nil, kind, runs); !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded as %x", b, again)
		}
		for _, r := range runs {
			if r.first == 0 || r.count == 0 || uint64(r.first)+r.count-1 > maxChunkNo {
				t.Fatalf("%v", runs)
			}
		}
	})
}

// FuzzAccountState: what is accepted encodes to the same bytes.
func FuzzAccountState(f *testing.F) {
	f.Add((&accountState{epoch: 1, live: 300}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeAccountState(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Fatalf("%x is encoded as %x", b, s.encode())
		}
	})
}

// FuzzDiffLists: lists are refused when decodeChunkList refuses them, and what
// is different is what comparing the decoded lists finds.
func FuzzDiffLists(f *testing.F) {
	a := appendChunkList(nil, []ChunkNo{0, 0, 1, 2, 3, 0, 9, 7, maxChunkNo})
	f.Add(a, appendChunkList(nil, []ChunkNo{0, 1, 1, 2, 4, 5, 9, 7}))
	f.Add([]byte{}, a)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, xerr := decodeChunkList(a)
		y, yerr := decodeChunkList(b)
		if len(x)+len(y) > 100_000 {
			return
		}
		now := slices.Clone(x)
		now = append(now, make([]ChunkNo, max(0, len(y)-len(x)))...)
		if a == nil || b == nil {
			return
		}
		var bad bool
		err := diffLists(a, b, func(place uint64, old, new ChunkNo, n uint64) {
			for i := range n {
				if xerr != nil || yerr != nil {
					return
				}
				was := ChunkNo(0)
				if old != 0 {
					was = old + ChunkNo(i)
				}
				bad = bad || now[place+i] != was
				if now[place+i] = 0; new != 0 {
					now[place+i] = new + ChunkNo(i)
				}
			}
		})
		if (err != nil) != (xerr != nil || yerr != nil) {
			t.Fatalf("%v; decoded: %v, %v", err, xerr, yerr)
		}
		if err != nil {
			return
		}
		y = append(y, make([]ChunkNo, len(now)-len(y))...)
		if bad || !slices.Equal(now, y) {
			t.Fatalf("%v becomes %v, want %v", x, now, y)
		}
	})
}
