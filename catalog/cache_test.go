package catalog

import (
	"math/rand/v2"
	"testing"
)

// TestChunkCacheIsBounded and keeps what was used last.
func TestChunkCacheIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const limit = 10_000
	c := newChunkCache(limit)
	last := ChunkNo(0)
	for i := range 5000 {
		n := ChunkNo(1 + rng.IntN(200))
		if c.get(n) == nil {
			c.put(n, &Chunk{Length: uint32(n), Runs: make([]Run, int(n)%40)})
		}
		if k := c.get(n); k == nil || k.Length != uint32(n) {
			t.Fatalf("step %d: chunk %d is %v just after it was put", i, n, k)
		}
		if last != 0 && c.get(last) == nil {
			t.Fatalf("step %d: the chunk used before the last is gone", i)
		}
		if c.size() > limit || c.order.Len() != len(c.entries) {
			t.Fatalf("step %d: %d bytes, %d listed, %d entries", i, c.size(), c.order.Len(), len(c.entries))
		}
		last = n
	}
	huge := newChunkCache(100) // nothing fits
	huge.put(1, &Chunk{})
	if huge.size() != 0 || huge.get(1) != nil {
		t.Errorf("%d bytes kept", huge.size())
	}
}
