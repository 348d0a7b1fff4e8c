package catalog

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestSpans: windows in turn show every number once, with all that covers it.
func TestSpans(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		type key struct {
			no  uint64
			tag uint32
		}
		want, got := map[key]int{}, map[key]int{}
		type input struct {
			first, n uint64
			tag      uint32
		}
		var in []input
		for range rng.IntN(5000) {
			in = append(in, input{rng.Uint64N(1 + rng.Uint64N(3000)), 1 + rng.Uint64N(20), rng.Uint32N(4)})
			if rng.IntN(40) == 0 {
				in[len(in)-1] = in[0]
			}
			for i := range in[len(in)-1].n {
				want[key{in[len(in)-1].first + i, in[len(in)-1].tag}]++
			}
		}
		s := spans{limit: 4 + rng.IntN(3000)}
		at := uint64(0)
		for from, last := uint64(0), false; !last; from = s.to {
			s.window(from)
			for _, x := range in {
				s.add(x.first, x.n, x.tag, 1)
			}
			last = s.whole()
			err := s.sweep(func(first uint64, n uint32, over []span) error {
				if first < at || first < s.from || first+uint64(n) > s.to {
					return fmt.Errorf("%d+%d after %d, window %d to %d", first, n, at, s.from, s.to)
				}
				at = first + uint64(n)
				for i, x := range over {
					if i > 0 && over[i-1].tag > x.tag {
						return fmt.Errorf("tags are not in order: %v", over)
					}
					for i := range uint64(n) {
						got[key{first + i, x.tag}] += int(x.by)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for k, n := range want {
			if got[k] != n {
				t.Fatalf("seed %d: number %d, tag %d: %d times, want %d", seed, k.no, k.tag, got[k], n)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d, want %d", seed, len(got), len(want))
		}
	}
}
