package dedup

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// frame is one frame of a batch, assembled in batch.buf.
type frame struct {
	start, end int // in buf
	blocks     [FrameBlocks]int
	header     frameHeader
}

// store makes frames of the fresh blocks, compressed or not, appends them to
// packs of the writer's lanes and publishes their addresses.
func (b *batch) store() error {
	b.buf, b.parts = b.buf[:0], b.parts[:0]
	b.later = b.w.later && (b.s.space.ample() || mutant.On("dedup/later-on-full-disk"))
	for i := 0; i < len(b.fresh); i += FrameBlocks {
		b.assemble(b.fresh[i:min(i+FrameBlocks, len(b.fresh))])
	}
	if err := b.s.space.take(len(b.buf)); err != nil {
		return err
	}
	l := b.w.lockLane()
	defer l.mu.Unlock()
	for rest := b.parts; len(rest) > 0; {
		n, err := b.appendTo(l, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// assemble adds a frame to buf, all but what its place decides.
func (b *batch) assemble(blocks []int) {
	f := frame{start: len(b.buf)}
	f.header = frameHeader{count: uint8(len(blocks)), domain: b.s.opts.Domain, slots: [FrameBlocks]uint16{slotUnused, slotUnused, slotUnused, slotUnused}}
	for k, i := range blocks {
		f.blocks[k] = i
		f.header.hashes[k] = b.hash[i]
	}
	head := frameHeaderSize(len(blocks))
	b.buf = b.buf[:f.start+head]
	b.encode(&f.header, blocks)
	payload := b.buf[f.start+head:]
	f.header.payload, f.header.crc = uint32(len(payload)), crc(payload)
	f.end = len(b.buf)
	b.parts = append(b.parts, f)
}

// encode appends a frame's payload to buf.
func (b *batch) encode(h *frameHeader, blocks []int) {
	if !b.later {
		b.buf, h.codec = b.s.codec.encode(b.buf, b.contiguous(blocks))
		return
	}
	h.codec = codecLater
	for _, i := range blocks {
		b.buf = append(b.buf, b.block(i)...) // what is written may be scribbled on, so not the caller's
	}
}

// contiguous returns the blocks one behind the other, copied only if they are
// not so in the caller's data.
func (b *batch) contiguous(blocks []int) []byte {
	first, n := blocks[0], len(blocks)
	if blocks[n-1] == first+n-1 {
		return b.data[first*BlockSize : (first+n)*BlockSize]
	}
	b.raw = b.raw[:0]
	for _, i := range blocks {
		b.raw = append(b.raw, b.block(i)...)
	}
	return b.raw
}

// appendTo appends as many of the frames as fit to the lane's pack, with one
// write, and says how many; a full pack is sent to be sealed.
func (b *batch) appendTo(l *lane, frames []frame) (int, error) {
	s := b.s
	if l.pack != nil && l.pack.usable() != nil {
		l.pack = nil
	}
	if l.pack == nil {
		p, err := s.lanePack()
		if err != nil {
			return 0, err
		}
		l.pack = p
	}
	p := l.pack
	t := *p.view.Load()
	n := b.place(p, &t, frames)
	if n == 0 {
		l.pack = nil
		s.sealLater(p)
		return 0, nil
	}
	data := b.buf[frames[0].start:frames[n-1].end]
	if err := p.append(data, &t); err != nil {
		l.pack = nil
		s.pool.addStuck(p)
		return 0, fmt.Errorf("store %d blocks: %w", len(b.fresh), err)
	}
	s.count.packWrites.Add(1)
	s.count.packWriteBytes.Add(uint64(len(data)))
	b.publish(p, frames[:n])
	return n, nil
}

// place gives frames their slots and offsets as long as they fit in the pack
// and enters them in t.
func (b *batch) place(p *openPack, t *toc, frames []frame) int {
	end := p.size
	for k := range frames {
		f := &frames[k]
		h := &f.header
		size, slot := int64(f.end-f.start), t.nextSlot()
		count := int(h.count)
		if slot+count > MaxPackSlots || end+size+int64(tailSize(len(t.frames)+1, len(t.slots)+count)) > b.s.opts.PackSize {
			return k
		}
		h.pack, h.gen = p.id.Pack, p.id.Gen
		for i := range count {
			h.slots[i] = uint16(slot + i)
		}
		h.put(b.buf[f.start : f.start+frameHeaderSize(count)])
		t.add(h, end, 0)
		end += size
	}
	return len(frames)
}

// publish tells everybody where the blocks are. They are with the kernel.
func (b *batch) publish(p *openPack, frames []frame) {
	for k := range frames {
		f := &frames[k]
		for i := range int(f.header.count) {
			block := f.blocks[i]
			addr := MakeAddr(p.id.Pack, f.header.slots[i])
			b.out[block] = addr
			b.s.recent.publish(b.hash[block], addr)
		}
		b.res.New += int64(f.header.count)
		b.res.NewBytes += int64(f.header.count) * BlockSize
		b.res.StoredBytes += int64(f.end - f.start)
	}
	b.seen[p] = p.view.Load().nextSlot()
}
