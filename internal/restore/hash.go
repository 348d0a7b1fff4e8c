package restore

import (
	"encoding/hex"
	"fmt"
	"sync"
	"unsafe"

	"lukechampine.com/blake3"

	"github.com/strongroom-backup/strongroom/internal/hashstream"
)

// Hash is a BLAKE3-256 hash.
type Hash [32]byte

// String is the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// DiskHash is the content hash of a disk: of its chunks, and of those hashes.
type DiskHash struct {
	Chunks []Hash
	Root   Hash
}

var (
	zeroBlock = blockHash(make([]byte, BlockSize))
	// ZeroChunk is the hash of a chunk of 64 MiB of zeros.
	ZeroChunk = func() Hash {
		var b [ChunkBlocks]Hash
		for i := range b {
			b[i] = zeroBlock
		}
		return listHash(b[:])
	}()
)

// blockHash is the hash of up to a block, as the server's streams have it.
func blockHash(block []byte) Hash { return Hash(hashstream.HashBlock(block)) }

// listHash is the BLAKE3 hash of hashes, one after the other.
func listHash(list []Hash) Hash {
	if len(list) == 0 {
		return blake3.Sum256(nil)
	}
	return blake3.Sum256(unsafe.Slice(&list[0][0], len(list)*len(Hash{})))
}

// ContentHasher makes the content hash of a disk from its blocks, in any order
// and by many goroutines at once. Each block must come once, in Write or Zero.
// Memory: 32 bytes for each chunk of the disk, and 32 KiB for each chunk that has
// come in part: few when blocks come nearly in order.
type ContentHasher struct {
	size int64

	mu     sync.Mutex
	chunks []Hash
	whole  int // of chunks
	open   map[int64]*openChunk
	err    error // the first misuse
}

// openChunk is a chunk of which blocks are missing.
type openChunk struct {
	blocks [ChunkBlocks]Hash
	have   [ChunkBlocks / 64]uint64
	left   int
}

// NewContentHasher hashes a disk of size bytes.
func NewContentHasher(size int64) *ContentHasher {
	return &ContentHasher{size: size, chunks: make([]Hash, (size+ChunkSize-1)/ChunkSize), open: map[int64]*openChunk{}}
}

// Write adds what is at off: whole blocks, the disk's last one perhaps short. It
// does not keep p.
func (h *ContentHasher) Write(p []byte, off int64) {
	if !h.fits(off, int64(len(p))) {
		return
	}
	var few [32]Hash
	for len(p) > 0 {
		n := 0
		for n < len(few) && len(p) > 0 {
			b := p[:min(BlockSize, len(p))]
			few[n] = blockHash(b)
			n, p = n+1, p[len(b):]
		}
		h.put(off/BlockSize, few[:n])
		off += int64(n) * BlockSize
	}
}

// Zero adds n zeros at off: whole blocks.
func (h *ContentHasher) Zero(off, n int64) {
	if !h.fits(off, n) {
		return
	}
	for end := off + n; off < end; {
		step := min(end-off, ChunkSize-off%ChunkSize)
		switch {
		case step == ChunkSize:
			h.finish(off/ChunkSize, ZeroChunk)
		default:
			for ; step > 0; step -= BlockSize {
				h.put(off/BlockSize, []Hash{zeroHash(min(BlockSize, h.size-off))})
				off += BlockSize
			}
			continue
		}
		off += step
	}
}

func zeroHash(n int64) Hash {
	if n == BlockSize {
		return zeroBlock
	}
	return blockHash(make([]byte, n))
}

// fits reports whether bytes are whole blocks of the disk.
func (h *ContentHasher) fits(off, n int64) bool {
	if off >= 0 && n >= 0 && off%BlockSize == 0 && n <= h.size-off && (n%BlockSize == 0 || off+n == h.size) {
		return true
	}
	h.fail(fmt.Errorf("%d bytes at %d are not whole blocks of a disk of %d", n, off, h.size))
	return false
}

func (h *ContentHasher) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
}

// finish gives a chunk its hash that came as a whole.
func (h *ContentHasher) finish(chunk int64, sum Hash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chunks[chunk] = sum
	h.whole++
}

// put adds hashes of blocks from number on.
func (h *ContentHasher) put(number int64, list []Hash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(list) > 0 && h.err == nil {
		chunk, in := number/ChunkBlocks, number%ChunkBlocks
		n := min(int64(len(list)), ChunkBlocks-in)
		c := h.open[chunk]
		if c == nil {
			if len(h.open) == openChunksMax {
				h.err = fmt.Errorf("blocks come too far out of order")
				return
			}
			c = &openChunk{left: h.blocksOf(chunk)}
			h.open[chunk] = c
		}
		for i, sum := range list[:n] {
			c.put(int(in)+i, sum)
		}
		if c.left == 0 {
			h.chunks[chunk] = listHash(c.blocks[:h.blocksOf(chunk)])
			h.whole++
			delete(h.open, chunk)
		}
		number, list = number+n, list[n:]
	}
}

func (c *openChunk) put(i int, sum Hash) {
	if bit := uint64(1) << (i % 64); c.have[i/64]&bit == 0 {
		c.have[i/64] |= bit
		c.left--
	}
	c.blocks[i] = sum
}

// blocksOf is how many blocks a chunk has; the last one may have fewer.
func (h *ContentHasher) blocksOf(chunk int64) int {
	return int((min(ChunkSize, h.size-chunk*ChunkSize) + BlockSize - 1) / BlockSize)
}

// Sum returns the hash when every block has come.
func (h *ContentHasher) Sum() (DiskHash, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && (len(h.open) > 0 || h.whole != len(h.chunks)) {
		h.err = fmt.Errorf("%d of %d chunks of a disk were hashed", h.whole, len(h.chunks))
	}
	return DiskHash{Chunks: h.chunks, Root: listHash(h.chunks)}, h.err
}
