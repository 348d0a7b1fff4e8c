package restore

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"
)

func BenchmarkBlockHash(b *testing.B) {
	p := make([]byte, BlockSize)
	b.SetBytes(BlockSize)
	for b.Loop() {
		blockHash(p)
	}
}

// reference is the content hash, computed by another implementation from the
// words of docs/FORMAT.md.
func reference(content []byte) (d DiskHash) {
	list := func(h []Hash) Hash {
		var all []byte
		for i := range h {
			all = append(all, h[i][:]...)
		}
		return blake3.Sum256(all)
	}
	for len(content) > 0 {
		chunk := content[:min(ChunkSize, len(content))]
		content = content[len(chunk):]
		var blocks []Hash
		for len(chunk) > 0 {
			n := min(BlockSize, len(chunk))
			blocks = append(blocks, blake3.Sum256(chunk[:n]))
			chunk = chunk[n:]
		}
		d.Chunks = append(d.Chunks, list(blocks))
	}
	d.Root = list(d.Chunks)
	return d
}

func equalHash(a, b DiskHash) bool {
	if len(a.Chunks) != len(b.Chunks) || a.Root != b.Root {
		return false
	}
	for i := range a.Chunks {
		if a.Chunks[i] != b.Chunks[i] {
			return false
		}
	}
	return true
}

// TestContentHash writes disks in random order and compares with the reference.
func TestContentHash(t *testing.T) {
	for _, size := range []int{0, 1, 512, BlockSize, BlockSize + 1, ChunkSize, ChunkSize + 3*BlockSize + 512, 2*ChunkSize + 100} {
		rng := rand.New(rand.NewPCG(uint64(size), 5))
		content := make([]byte, size)
		source := rand.NewChaCha8([32]byte{byte(size), 1})
		type piece struct{ off, n int }
		var pieces []piece
		for off := 0; off < size; {
			n := min(size-off, (1+rng.IntN(40))*BlockSize)
			if rng.IntN(2) == 0 {
				source.Read(content[off:][:n])
			}
			pieces = append(pieces, piece{off, n})
			off += n
		}
		rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		h := NewContentHasher(int64(size))
		for i, p := range pieces {
			if i == len(pieces)-1 {
				if _, err := h.Sum(); err == nil {
					t.Errorf("size %d: a sum without its last piece", size)
				}
				h.err = nil
			}
			part := content[p.off:][:p.n]
			if len(bytes.Trim(part, "\x00")) == 0 {
				h.Zero(int64(p.off), int64(p.n))
			} else {
				h.Write(part, int64(p.off))
			}
		}
		got, err := h.Sum()
		if err != nil || !equalHash(got, reference(content)) {
			t.Errorf("size %d: %v, or not what the reference says", size, err)
		}
	}
	if !equalHash(DiskHash{Chunks: []Hash{ZeroChunk}, Root: listHash([]Hash{ZeroChunk})}, reference(make([]byte, ChunkSize))) {
		t.Error("the hash of a zero chunk is wrong")
	}
}

func TestContentHashMisuse(t *testing.T) {
	for _, x := range [][2]int64{{1, BlockSize}, {0, 5}, {BlockSize, 2 * BlockSize}, {-BlockSize, BlockSize}} {
		h := NewContentHasher(2*BlockSize + 5)
		h.Write(make([]byte, x[1]), x[0])
		if h.err == nil {
			t.Errorf("%d bytes at %d are taken", x[1], x[0])
		}
	}
}
