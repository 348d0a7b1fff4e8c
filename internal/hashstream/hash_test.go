package hashstream

import (
	"math/rand/v2"
	"testing"

	"lukechampine.com/blake3"
)

// TestHashBlock: a block's hash is BLAKE3 of its bytes, by whichever way.
func TestHashBlock(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 1, 1024, 1025, BlockSize - 1, BlockSize, BlockSize, BlockSize} {
		b := make([]byte, n)
		rng.Read(b)
		if HashBlock(b) != blake3.Sum256(b) {
			t.Errorf("another hash of %d bytes", n)
		}
	}
}
