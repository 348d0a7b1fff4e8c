package catalog

import (
	"encoding/binary"
	"slices"

	"github.com/strongroom-backup/strongroom/dedup"
)

// appendChunk encodes a chunk record: hash, length, number of runs, and of
// each run the blocks skipped since the run before, its count less one, and
// its address less the address that would continue the run before (zig-zag).
func appendChunk(b []byte, c *Chunk) []byte {
	b = append(b, c.Hash[:]...)
	b = binary.AppendUvarint(b, uint64(c.Length))
	b = binary.AppendUvarint(b, uint64(len(c.Runs)))
	block, addr := uint16(0), dedup.Addr(0)
	for _, r := range c.Runs {
		b = binary.AppendUvarint(b, uint64(r.Start-block))
		b = binary.AppendUvarint(b, uint64(r.Count-1))
		b = binary.AppendVarint(b, int64(r.Addr-addr))
		block, addr = r.Start+r.Count, r.Addr+dedup.Addr(r.Count)
	}
	return b
}

// decodeChunk accepts what checkChunk does.
func decodeChunk(b []byte) (*Chunk, error) {
	c := &Chunk{Runs: []Run{}}
	err := c.decode(b)
	return c, err
}

// decode reads a record and appends its runs to c.Runs.
func (c *Chunk) decode(b []byte) error {
	d := decoder{b: b}
	c.Hash, c.Length = d.hash(), uint32(d.size(dedup.ChunkSize))
	n := d.size(dedup.ChunkBlocks)
	if n*3 > uint64(len(d.b)) { // a run takes three bytes at least
		return errDecode
	}
	c.Runs = slices.Grow(c.Runs, int(n))
	own := len(c.Runs)
	block, addr := uint64(0), dedup.Addr(0)
	for range n {
		block += d.size(dedup.ChunkBlocks)
		count := d.size(dedup.ChunkBlocks-1) + 1
		addr += dedup.Addr(d.varint())
		if block+count > dedup.ChunkBlocks {
			return errDecode
		}
		c.Runs = append(c.Runs, Run{Start: uint16(block), Count: uint16(count), Addr: addr})
		block, addr = block+count, addr+dedup.Addr(count)
	}
	if err := d.end(); err != nil {
		return err
	}
	return checkChunk(&Chunk{Hash: c.Hash, Length: c.Length, Runs: c.Runs[own:]})
}

// decodeChunkHead reads only a chunk record's hash and length.
func decodeChunkHead(b []byte) (h dedup.Hash, length uint32, err error) {
	d := decoder{b: b}
	h, length = d.hash(), uint32(d.size(dedup.ChunkSize))
	if d.bad {
		err = errDecode
	}
	return h, length, err
}
