package dedup

import "fmt"

const (
	// BlockSize is the unit of deduplication, in bytes.
	BlockSize = 64 << 10
	// ChunkBlocks is the number of blocks in a chunk.
	ChunkBlocks = 1024
	// ChunkSize is the bytes of a disk's address space one chunk record covers.
	ChunkSize = ChunkBlocks * BlockSize
)

// Hash is a keyed BLAKE3-256. The zero Hash stands for the all-zero block.
type Hash [32]byte

// Addr is where a block lives for ever: pack number << 16 | slot. The zero
// Addr is the all-zero block, which is never stored.
type Addr uint64

// MakeAddr joins a pack number (1 … 2^40-1) and a slot.
func MakeAddr(pack uint64, slot uint16) Addr { return Addr(pack<<16 | uint64(slot)) }

// Pack is the number of the pack that holds the block.
func (a Addr) Pack() uint64 { return uint64(a) >> 16 }

// Slot is the block's place in its pack.
func (a Addr) Slot() uint16 { return uint16(a) }

// String prints an address as pack/slot in decimal, the way every message and
// tool shows it.
func (a Addr) String() string {
	if a == 0 {
		return "zero"
	}
	return fmt.Sprintf("%d/%d", a.Pack(), a.Slot())
}
