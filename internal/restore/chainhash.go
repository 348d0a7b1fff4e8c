package restore

import (
	"cmp"
	"slices"
	"sync"
)

// LayerHash is the content of a disk at the point of a layer, told by what is not
// as in the layer below.
type LayerHash struct {
	Changed []ChunkHash // ascending; in the first layer what is not zeros
	Root    Hash
}

// ChunkHash is the hash of one chunk, by number.
type ChunkHash struct {
	Chunk int64
	Hash  Hash
}

// chainHasher makes the content hashes of all layers of a chain from the blocks
// that each has for itself. Memory: 40 bytes for each chunk of each layer that has
// changed, and for each chunk that has come in part 40 bytes for each of its blocks
// in each layer.
type chainHasher struct {
	sizes []int64 // of the layers' disks; none shrinks

	mu      sync.Mutex
	open    map[int64]*chainChunk
	changed [][]ChunkHash // by layer
}

// chainChunk is one chunk in all layers.
type chainChunk struct {
	left   int
	layers [][]blockSum
}

type blockSum struct {
	block int // of the chunk
	sum   Hash
}

func newChainHasher(sizes []int64) *chainHasher {
	return &chainHasher{sizes: sizes, open: map[int64]*chainChunk{}, changed: make([][]ChunkHash, len(sizes))}
}

// begin says that blocks of a chunk will come in so many calls of put.
func (h *chainHasher) begin(chunk int64, calls int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &chainChunk{left: calls, layers: make([][]blockSum, len(h.sizes))}
	switch {
	case calls > 0:
		h.open[chunk] = c
	case h.sizes[0] < (chunk+1)*ChunkSize: // else zeros in all layers, and of one size
		h.finish(chunk, c)
	}
}

// data adds the blocks in p, which lie at off in a layer's disk.
func (h *chainHasher) data(layer int, p []byte, off int64) {
	list := make([]blockSum, 0, requestBytes/BlockSize)
	chunk := off / ChunkSize
	for b := int(off % ChunkSize / BlockSize); len(p) > 0; b++ {
		block := p[:min(BlockSize, len(p))]
		list = append(list, blockSum{b, blockHash(block)})
		p = p[len(block):]
	}
	h.put(layer, chunk, list)
}

// zero adds blocks of zeros, within a chunk.
func (h *chainHasher) zero(layer int, off, n int64) {
	var list []blockSum
	for end := off + n; off < end; off += BlockSize {
		list = append(list, blockSum{int(off % ChunkSize / BlockSize), zeroHash(min(BlockSize, h.sizes[layer]-off))})
	}
	h.put(layer, (off-1)/ChunkSize, list)
}

func (h *chainHasher) put(layer int, chunk int64, list []blockSum) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.open[chunk]
	c.layers[layer] = append(c.layers[layer], list...)
	if c.left--; c.left == 0 {
		delete(h.open, chunk)
		h.finish(chunk, c)
	}
}

// finish lays the layers of a chunk over one another.
func (h *chainHasher) finish(chunk int64, c *chainChunk) {
	var blocks [ChunkBlocks]Hash
	var last Hash // of the chunk in the layer below; of none for none
	below := int64(0)
	for k, size := range h.sizes {
		n := min(ChunkSize, size-chunk*ChunkSize)
		if n <= 0 {
			continue
		}
		if n != below || len(c.layers[k]) > 0 {
			for b := below / BlockSize; n != below && b*BlockSize < n; b++ { // what is new is zeros
				blocks[b] = zeroHash(min(BlockSize, n-b*BlockSize))
			}
			for _, s := range c.layers[k] {
				blocks[s.block] = s.sum
			}
			sum := listHash(blocks[:(n+BlockSize-1)/BlockSize])
			if k == 0 && sum != ZeroChunk || k > 0 && sum != last {
				h.changed[k] = append(h.changed[k], ChunkHash{chunk, sum})
			}
			last, below = sum, n
		}
	}
}

// sums returns the layers' hashes and the last one's whole content.
func (h *chainHasher) sums() (layers []LayerHash, top DiskHash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, size := range h.sizes {
		slices.SortFunc(h.changed[k], func(a, b ChunkHash) int { return cmp.Compare(a.Chunk, b.Chunk) })
		top.Chunks = layerChunks(top.Chunks, size, h.changed[k])
		top.Root = listHash(top.Chunks)
		layers = append(layers, LayerHash{h.changed[k], top.Root})
	}
	return layers, top
}

// layerChunks makes the chunks' hashes of a layer from those of the layer below.
func layerChunks(below []Hash, size int64, changed []ChunkHash) []Hash {
	n := int((size + ChunkSize - 1) / ChunkSize)
	for len(below) < n {
		below = append(below, ZeroChunk)
	}
	for _, c := range changed {
		below[c.Chunk] = c.Hash
	}
	return below
}
