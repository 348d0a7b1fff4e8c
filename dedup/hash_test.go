package dedup

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/zeebo/blake3"
)

// reference computes a hash with another implementation of BLAKE3.
func reference(t *testing.T, context string, input ...[]byte) (sum Hash) {
	t.Helper()
	key := make([]byte, 32)
	blake3.DeriveKey(context, testKey[:], key)
	h, err := blake3.NewKeyed(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range input {
		h.Write(b)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

func TestHashesAgainstAnotherImplementation(t *testing.T) {
	s := &Store{hash: newHasher(testKey)}
	for n := range uint64(20) {
		b := block(n)
		want := reference(t, contextBlock, b)
		if n == 0 {
			want = Hash{}
		}
		if got := s.BlockHash(b); got != want {
			t.Errorf("block %d: %x, want %x", n, got, want)
		}
	}
	for _, n := range []int{1, 2, 31, 32, 33, 1023, 1024} {
		hashes := make([]Hash, n)
		var flat []byte
		for i := range hashes {
			hashes[i] = s.BlockHash(block(uint64(i % 5)))
			flat = append(flat, hashes[i][:]...)
		}
		hashes[n-1], flat = Hash{1}, append(flat[:32*(n-1)], append([]byte{1}, make([]byte, 31)...)...)
		length := binary.LittleEndian.AppendUint64(nil, uint64(n)*BlockSize-5)
		if got, want := s.ChunkHash(int64(n)*BlockSize-5, hashes), reference(t, contextChunk, []byte("SRCHUNK1"), length, flat); got != want {
			t.Errorf("chunk of %d: %x, want %x", n, got, want)
		}
		if got, want := s.RootHash(int64(n)*BlockSize-5, hashes), reference(t, contextRoot, []byte("SRROOT01"), length, flat); got != want {
			t.Errorf("root of %d: %x, want %x", n, got, want)
		}
	}
}

// TestHashesNeverChange holds the values that packs in the field contain.
func TestHashesNeverChange(t *testing.T) {
	s := &Store{hash: newHasher(testKey)}
	one := make([]byte, BlockSize)
	one[0] = 1
	for name, c := range map[string]struct {
		got  Hash
		want string
	}{
		"block": {s.BlockHash(one), "8019d19f8a134e0d4ee9c6ea37a3f1951eaa306629625e51b38871ae155c9356"},
		"chunk": {s.ChunkHash(ChunkSize, []Hash{{1}, {}}), "79f565d32054f1827f8a7eb17028583457385289469359149a1d34015ccb4033"},
		"root":  {s.RootHash(5, nil), "961493a14bfd9b398583618e754fb18957fad72d909a581699b8049a7879dc7e"},
	} {
		if got := hex.EncodeToString(c.got[:]); got != c.want {
			t.Errorf("%s hash is %s, was %s", name, got, c.want)
		}
	}
}

func TestZeroHashes(t *testing.T) {
	s := &Store{hash: newHasher(testKey)}
	if s.ChunkHash(5, make([]Hash, 1024)) != (Hash{}) || s.ChunkHash(0, nil) != (Hash{}) {
		t.Error("a chunk of zeros has a hash")
	}
	if s.RootHash(1, nil) == s.RootHash(2, nil) || s.RootHash(0, nil) == (Hash{}) {
		t.Error("the size does not count in the root hash")
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 8, 9, zeroStep - 1, zeroStep, zeroStep + 1, 2 * zeroStep, BlockSize - 1, BlockSize} {
		b := make([]byte, n)
		if !isZero(b) {
			t.Errorf("%d zero bytes are not zero", n)
		}
		for _, at := range []int{0, 1, n / 2, zeroStep - 1, zeroStep, n - 2, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			b[at] = 0x80
			if isZero(b) {
				t.Errorf("%d bytes with one set at %d are zero", n, at)
			}
			b[at] = 0
		}
	}
}
