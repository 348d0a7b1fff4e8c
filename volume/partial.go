package volume

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/strongroom-backup/strongroom/dedup"
)

// logRaw logs and applies a write of less than a block, within one block.
func (d *disk) logRaw(p []byte, off int64) error {
	n := int64(len(p))
	at, sum := int64(-1), uint32(0)
	var err error
	if isZero(p) {
		err = d.journal.appendZero(off, n, true)
	} else {
		sum = crc32.Checksum(p, castagnoli)
		at, err = d.journal.appendRaw(off, p)
	}
	if err != nil {
		return err
	}
	d.total.written += n
	return d.patch(off, n, at, sum)
}

func isZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if string(p[:n]) != zeros[:n] {
			return false
		}
		p = p[n:]
	}
	return true
}

var zeros = string(make([]byte, 4096))

// patch lays bytes of the journal (at, with checksum sum) or zeros (at < 0) over
// part of a block.
func (d *disk) patch(off, n, at int64, sum uint32) error {
	block := off / dedup.BlockSize
	c, err := d.touch(uint32(block / dedup.ChunkBlocks))
	if err != nil {
		return err
	}
	b := uint16(block % dedup.ChunkBlocks)
	if c.patches == nil {
		c.patches = map[uint16][]patch{}
	}
	if c.patches[b] == nil {
		d.patched++
	}
	c.patches[b] = append(c.patches[b], patch{off: uint32(off % dedup.BlockSize), n: uint32(n), sum: sum, at: at})
	d.raw += max(n, minRaw)
	d.recent = append(d.recent, block)
	return nil
}

// unpatch forgets the patches of a block.
func (d *disk) unpatch(c *chunk, b uint16) {
	for _, p := range c.patches[b] {
		d.raw -= max(int64(p.n), minRaw)
	}
	delete(c.patches, b)
	d.patched--
}

// settle brings what a write left in memory back under its bounds: blocks that
// the write patched are merged when the patches cover them, are too many, or
// lie over too many blocks, or have too many bytes. It appends to the journal, so replay never calls it.
func (d *disk) settle() error {
	for _, block := range d.recent {
		index, b := uint32(block/dedup.ChunkBlocks), uint16(block%dedup.ChunkBlocks)
		c := d.chunks[index]
		if c == nil { // a file was cut there
			continue
		}
		list := c.patches[b]
		if len(list) < maxPatches && d.patched <= maxPatchedBlocks && d.raw <= maxRaw && !d.covered(block, list) {
			continue
		}
		if err := d.fold(index, c, b); err != nil {
			return err
		}
	}
	d.recent = d.recent[:0]
	return d.trim()
}

// covered reports whether patches replace every byte of a block, seen in
// sectors of 512 bytes.
func (d *disk) covered(block int64, list []patch) bool {
	if len(list) < 2 {
		return false
	}
	var mask [2]uint64
	for _, p := range list {
		for s := (p.off + 511) / 512; (s+1)*512 <= p.off+p.n; s++ {
			mask[s/64] |= 1 << (s % 64)
		}
	}
	need := min(dedup.BlockSize, d.spec.Size-block*dedup.BlockSize)
	return int64(bits.OnesCount64(mask[0])+bits.OnesCount64(mask[1]))*512 >= need
}

// foldChunk merges every patched block of a chunk.
func (d *disk) foldChunk(index uint32, c *chunk, keep func(counts, mapped) error) error {
	for b := range c.patches {
		if err := d.foldTo(index, c, b, keep); err != nil {
			return err
		}
	}
	return nil
}

// fold merges one block's patches with what lies beneath, stores the result and
// logs the mapping.
func (d *disk) fold(index uint32, c *chunk, b uint16) error {
	return d.foldTo(index, c, b, d.logMerged)
}

func (d *disk) logMerged(c counts, m mapped) error { return d.logMap(c, []mapped{m}) }

// applyMerged applies a mapping and does not log it: the journal says the same in
// another way.
func (d *disk) applyMerged(c counts, m mapped) error {
	d.total.add(c)
	return d.apply(m.block, int64(m.count), m.addr)
}

// foldTo merges one block's patches with what lies beneath, and stores the
// result.
func (d *disk) foldTo(index uint32, c *chunk, b uint16, keep func(counts, mapped) error) error {
	n, m, err := d.merge(index, b, c.blocks[b], c.patches[b], d.journal.file)
	if err != nil {
		return err
	}
	return keep(n, m)
}

// merge stores a block that lies at under, with patches over it whose bytes are in
// raw.
func (d *disk) merge(index uint32, b uint16, under dedup.Addr, list []patch, raw io.ReaderAt) (c counts, m mapped, err error) {
	buf := blockBuffers.Get().(*[dedup.BlockSize]byte)
	defer blockBuffers.Put(buf)
	hint, err := d.s.m.cache.get(d.base.number(int64(index)))
	if err != nil {
		return c, m, err
	}
	if under == inherit {
		under = hint[b]
	}
	if err := d.s.m.blocks.Read([]dedup.Addr{under}, buf[:]); err != nil {
		return c, m, err
	}
	if err := d.overlay(buf[:], 0, list, raw); err != nil {
		return c, m, err
	}
	var out [1]dedup.Addr
	r, err := d.s.writer.Put(buf[:], hint[b:b+1], out[:])
	if err != nil {
		return c, m, err
	}
	d.s.m.stats.folds.Add(1)
	block := int64(index)*dedup.ChunkBlocks + int64(b)
	return counts{fresh: r.NewBytes, stored: r.StoredBytes}, mapped{block: block, count: 1, addr: out[0]}, nil
}

// overlay applies patches, whose bytes are in raw, to dst, which holds a block
// from byte start on.
func (d *disk) overlay(dst []byte, start int64, list []patch, raw io.ReaderAt) error {
	for _, p := range list {
		from := max(int64(p.off), start)
		to := min(int64(p.off)+int64(p.n), start+int64(len(dst)))
		if from >= to {
			continue
		}
		part := dst[from-start : to-start]
		if p.at < 0 {
			clear(part)
		} else if err := d.rawBytes(part, from-int64(p.off), &p, raw); err != nil {
			return err
		}
	}
	return nil
}

// rawBytes fills dst with the bytes of a raw extent from its byte in on. The
// extent is read whole, for its checksum.
func (d *disk) rawBytes(dst []byte, in int64, p *patch, raw io.ReaderAt) error {
	buf := blockBuffers.Get().(*[dedup.BlockSize]byte)
	defer blockBuffers.Put(buf)
	whole := buf[:p.n]
	if err := readFull(raw, whole, p.at); err != nil {
		return fmt.Errorf("read raw extent from session journal: %w", err)
	}
	if crc32.Checksum(whole, castagnoli) != p.sum {
		return fmt.Errorf("the journal of %s of session %s is damaged at byte %d: %d bytes a client wrote are not what it wrote",
			d.what(), d.s.file.ID, p.at, p.n)
	}
	copy(dst, whole[in:])
	return nil
}
