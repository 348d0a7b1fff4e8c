package dedup

import "slices"

// toc says what a pack holds. Of an open pack it grows at its end; a reader
// that holds an older copy goes on seeing its own, shorter, slices.
type toc struct {
	lossy  bool // put together from what was left of a damaged pack: slots may be missing
	frames []tocFrame
	hashes []Hash    // by entry
	slots  []tocSlot // by entry, in ascending order of slot
}

type tocFrame struct {
	offset  uint32 // of the frame's header in the file
	payload uint32 // bytes
	crc     uint32 // of the payload
	codec   uint8
	count   uint8
}

type tocSlot struct {
	slot  uint16
	frame uint16
	pos   uint8 // of the block in its frame
	flags uint8
}

// slotDamaged marks a block known to be damaged when its pack was sealed: it
// keeps its place, so that reading it says so, and is never a dedup hit.
const slotDamaged = 1

// slotLost marks, beside slotDamaged, a block whose bytes are not in the pack
// at all: there was no good copy when the pack was written anew. Its entry has
// no frame, and the zero Hash when not even that was known.
const slotLost = 2

// dataOffset is where the frame's payload starts.
func (f *tocFrame) dataOffset() int64 { return int64(f.offset) + int64(frameHeaderSize(int(f.count))) }

// end is the offset behind the frame.
func (f *tocFrame) end() int64 { return f.dataOffset() + int64(f.payload) }

// find returns the entry of a slot, or -1. A pack that was never compacted has
// slot i at entry i.
func (t *toc) find(slot uint16) int {
	if i := int(slot); i < len(t.slots) && t.slots[i].slot == slot {
		return i
	}
	i, ok := slices.BinarySearchFunc(t.slots, slot, func(s tocSlot, slot uint16) int { return int(s.slot) - int(slot) })
	if !ok {
		return -1
	}
	return i
}

// add appends a frame whose slots are above every slot so far.
func (t *toc) add(h *frameHeader, offset int64, flags uint8) {
	for i := range int(h.count) {
		t.slots = append(t.slots, tocSlot{slot: h.slots[i], frame: uint16(len(t.frames)), pos: uint8(i), flags: flags})
		t.hashes = append(t.hashes, h.hashes[i])
	}
	t.frames = append(t.frames, tocFrame{
		offset: uint32(offset), payload: h.payload, crc: h.crc, codec: uint8(h.codec), count: h.count,
	})
}

// equal reports whether two tables say the same.
func (t *toc) equal(o *toc) bool {
	return slices.Equal(t.frames, o.frames) && slices.Equal(t.hashes, o.hashes) && slices.Equal(t.slots, o.slots)
}

// nextSlot is the lowest slot above all slots.
func (t *toc) nextSlot() int {
	if len(t.slots) == 0 {
		return 0
	}
	return int(t.slots[len(t.slots)-1].slot) + 1
}

// bytes is the size of the frames, headers included.
func (t *toc) bytes() (n int64) {
	for i := range t.frames {
		n += t.frames[i].end() - int64(t.frames[i].offset)
	}
	return n
}

// laterBytes is the size of the frames whose compression was not tried, headers
// included.
func (t *toc) laterBytes() (n int64) {
	for i := range t.frames {
		if f := &t.frames[i]; f.codec == codecLater {
			n += f.end() - int64(f.offset)
		}
	}
	return n
}

// end is the offset behind the last frame.
func (t *toc) end() int64 {
	if len(t.frames) == 0 {
		return packHeaderSize
	}
	return t.frames[len(t.frames)-1].end()
}

// memory is about what the toc takes in memory.
func (t *toc) memory() int64 {
	return int64(len(t.slots))*(32+6) + int64(len(t.frames))*16 + 128
}

// below is the part of the table with slots below n.
func (t *toc) below(n int) *toc {
	k, _ := slices.BinarySearchFunc(t.slots, n, func(s tocSlot, n int) int { return int(s.slot) - n })
	return &toc{frames: t.frames, hashes: t.hashes[:k:k], slots: t.slots[:k:k]}
}
