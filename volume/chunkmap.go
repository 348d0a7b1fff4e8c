package volume

import (
	"encoding/binary"
	"fmt"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// inherit marks a block that the session has not touched: the parent's content
// shows through. No pack number is that large.
const inherit = ^dedup.Addr(0)

// addrs is a chunk written out: one address per block.
type addrs [dedup.ChunkBlocks]dedup.Addr

// Places of a chunk's map outside memory; a positive value is the journal
// offset of a recChunk payload.
const (
	spillNone = 0  // in memory, or nothing known yet
	spillZero = -1 // every block is zero
)

// chunk is what a session knows of one chunk of its disk. Exactly one of map
// and spill is set; patches exist only beside a map.
type chunk struct {
	blocks  *addrs
	spill   int64
	used    uint64 // disk.tick when last touched
	patches map[uint16][]patch
}

// patch is a raw extent over a block: bytes in the journal, or zeros.
// Later patches lie over earlier ones.
type patch struct {
	off, n uint32 // within the block
	sum    uint32 // CRC-32C of the bytes
	at     int64  // of the bytes in the journal; -1: zeros
}

// runsOf joins consecutive slots of a chunk's blocks. Zero blocks make no run.
func runsOf(a []dedup.Addr) (runs []catalog.Run) {
	for i := 0; i < len(a); {
		n := runLength(a[i:])
		if a[i] != 0 {
			runs = append(runs, catalog.Run{Start: uint16(i), Count: uint16(n), Addr: a[i]})
		}
		i += n
	}
	return runs
}

// runLength counts how many addresses from the first on are all zero, all
// inherited, or consecutive slots of one pack.
func runLength(a []dedup.Addr) int {
	n := 1
	for n < len(a) && follows(a[0], a[n], n) {
		n++
	}
	return n
}

func follows(first, a dedup.Addr, n int) bool {
	if first == 0 || first == inherit {
		return a == first
	}
	return a == first+dedup.Addr(n) && a.Pack() == first.Pack()
}

// encodeChunk appends a recChunk payload: u32 chunk index, then {u16 start,
// u16 count-1, u64 addr} for every run the session has touched, zeros included.
func encodeChunk(b []byte, index uint32, a *addrs) []byte {
	b = binary.LittleEndian.AppendUint32(b, index)
	for i := 0; i < len(a); {
		n := runLength(a[i:])
		if a[i] != inherit {
			b = binary.LittleEndian.AppendUint16(b, uint16(i))
			b = binary.LittleEndian.AppendUint16(b, uint16(n-1))
			b = binary.LittleEndian.AppendUint64(b, uint64(a[i]))
		}
		i += n
	}
	return b
}

// decodeChunk is encodeChunk's inverse.
func decodeChunk(p []byte, chunks int64) (index uint32, a *addrs, err error) {
	if len(p) < 4 || (len(p)-4)%12 != 0 {
		return 0, nil, fmt.Errorf("chunk record of %d bytes", len(p))
	}
	if index = binary.LittleEndian.Uint32(p); int64(index) >= chunks {
		return 0, nil, fmt.Errorf("record of chunk %d on a disk of %d", index, chunks)
	}
	a = newAddrs()
	for p = p[4:]; len(p) > 0; p = p[12:] {
		start, n := int(binary.LittleEndian.Uint16(p)), int(binary.LittleEndian.Uint16(p[2:]))+1
		addr := dedup.Addr(binary.LittleEndian.Uint64(p[4:]))
		if start+n > len(a) || (addr != 0 && int(addr.Slot())+n > 1<<16) || addr == inherit {
			return 0, nil, fmt.Errorf("record of blocks %d+%d of chunk %d at %v", start, n, index, addr)
		}
		setRun(a[start:start+n], addr)
	}
	return index, a, nil
}

// setRun fills dst with consecutive slots from addr on, or zeros.
func setRun(dst []dedup.Addr, addr dedup.Addr) {
	for i := range dst {
		dst[i] = addr
		if addr != 0 {
			addr++
		}
	}
}

// newAddrs is a chunk nothing is known of.
func newAddrs() *addrs {
	a := new(addrs)
	for i := range a {
		a[i] = inherit
	}
	return a
}
