package hashstream

import (
	"unsafe"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

// Hash is the hash of a block.
type Hash [32]byte

// lanesBytes is what one call of the vector code hashes: sixteen of BLAKE3's
// 1 KiB chunks.
const lanesBytes = guts.MaxSIMD * guts.ChunkSize

// HashBlock hashes a block with BLAKE3: 64 KiB, or what the disk's last one has.
// The tree above a whole one is always the same, four subtrees of sixteen leaves,
// so it is spelled out: faster than the general implementation, and without its
// goroutines.
func HashBlock(block []byte) Hash {
	if len(block) != BlockSize {
		return blake3.Sum256(block)
	}
	data := (*[BlockSize]byte)(block)
	var sub [BlockSize / lanesBytes][8]uint32
	for i := range sub {
		part := (*[lanesBytes]byte)(unsafe.Pointer(&data[i*lanesBytes]))
		sub[i] = guts.ChainingValue(guts.CompressBuffer(part, lanesBytes, &guts.IV, uint64(i*guts.MaxSIMD), 0))
	}
	left := guts.ChainingValue(guts.ParentNode(sub[0], sub[1], &guts.IV, 0))
	right := guts.ChainingValue(guts.ParentNode(sub[2], sub[3], &guts.IV, 0))
	root := guts.ParentNode(left, right, &guts.IV, 0)
	root.Flags |= guts.FlagRoot
	out := guts.WordsToBytes(guts.CompressNode(root))
	return Hash(out[:32])
}
