package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"lukechampine.com/blake3"
)

const (
	tocMagic      = "SRTOC1\x00\x00"
	tocHeaderSize = 16
	tocFrameSize  = 16
	tocSlotSize   = 40
	tocHashSize   = 32

	footerSize  = 96
	footerMagic = "SRPKEND\x01"
)

// tocSize is the size of one copy of a TOC.
func tocSize(frames, slots int) int {
	return tocHeaderSize + frames*tocFrameSize + slots*tocSlotSize + tocHashSize
}

func (t *toc) append(b []byte) []byte {
	le, start := binary.LittleEndian, len(b)
	b = append(b, tocMagic...)
	b = le.AppendUint32(b, uint32(len(t.frames)))
	b = le.AppendUint32(b, uint32(len(t.slots)))
	for _, f := range t.frames {
		b = le.AppendUint32(b, f.offset)
		b = le.AppendUint32(b, f.payload)
		b = le.AppendUint32(b, f.crc)
		b = append(b, f.codec, f.count, cipherNone, 0)
	}
	for i, s := range t.slots {
		b = append(b, t.hashes[i][:]...)
		b = le.AppendUint16(b, s.slot)
		b = le.AppendUint16(b, s.frame)
		b = append(b, s.pos, s.flags, 0, 0)
	}
	return append(b[:start], appendHash(b[start:])...)
}

// appendHash appends the BLAKE3 of b.
func appendHash(b []byte) []byte {
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

var errTOC = errors.New("table of contents is not valid")

// parseTOC reads one copy of a TOC that fills b. limit is the file offset
// behind which no frame may lie.
func parseTOC(b []byte, limit int64) (*toc, error) {
	le := binary.LittleEndian
	if len(b) < tocHeaderSize+tocHashSize || string(b[:8]) != tocMagic {
		return nil, errTOC
	}
	frames, slots := int64(le.Uint32(b[8:])), int64(le.Uint32(b[12:]))
	if frames > MaxPackSlots || slots > MaxPackSlots || len(b) != tocSize(int(frames), int(slots)) {
		return nil, errTOC
	}
	body, sum := b[:len(b)-tocHashSize], b[len(b)-tocHashSize:]
	if blake3.Sum256(body) != [32]byte(sum) {
		return nil, errTOC
	}
	t := &toc{frames: make([]tocFrame, frames), hashes: make([]Hash, slots), slots: make([]tocSlot, slots)}
	t.parseFrames(body[tocHeaderSize:])
	t.parseSlots(body[tocHeaderSize+frames*tocFrameSize:])
	return t, t.check(limit)
}

func (t *toc) parseFrames(b []byte) {
	le := binary.LittleEndian
	for i := range t.frames {
		e := b[i*tocFrameSize:]
		t.frames[i] = tocFrame{offset: le.Uint32(e), payload: le.Uint32(e[4:]), crc: le.Uint32(e[8:]), codec: e[12], count: e[13]}
	}
}

func (t *toc) parseSlots(b []byte) {
	le := binary.LittleEndian
	for i := range t.slots {
		e := b[i*tocSlotSize:]
		t.hashes[i] = Hash(e)
		t.slots[i] = tocSlot{slot: le.Uint16(e[32:]), frame: le.Uint16(e[34:]), pos: e[36], flags: e[37]}
	}
}

// check refuses a table whose hash holds and whose content is nonsense, so
// that nothing that uses one needs to check again.
func (t *toc) check(limit int64) error {
	next := int64(packHeaderSize)
	for i := range t.frames {
		f := &t.frames[i]
		if f.count < 1 || f.count > FrameBlocks || f.codec > codecLater || !validPayload(uint16(f.codec), int(f.payload), int(f.count)) {
			return errTOC
		}
		if int64(f.offset) < next || f.end() > limit {
			return errTOC
		}
		next = f.end()
	}
	last := -1
	for _, s := range t.slots {
		if int(s.slot) <= last || s.slot >= MaxPackSlots || !t.points(s) {
			return errTOC
		}
		last = int(s.slot)
	}
	return nil
}

// points reports whether a slot's frame and place in it are there, or it is one
// that has none.
func (t *toc) points(s tocSlot) bool {
	if s.flags&slotLost != 0 {
		return s.flags&slotDamaged != 0 && s.frame == 0 && s.pos == 0
	}
	return int(s.frame) < len(t.frames) && s.pos < t.frames[s.frame].count
}

// footer is the last 96 bytes of a sealed pack. It is written only after every
// frame before it was synced, so its presence says that the frames are durable.
type footer struct {
	toc1, toc2 int64 // file offsets
	length     int   // of one TOC copy
	frames     int
	slots      int
	gen        uint32
	pack       uint64
	hash       [32]byte // the TOC's last 32 bytes
}

func (f footer) append(b []byte) []byte {
	le, start := binary.LittleEndian, len(b)
	b = le.AppendUint64(b, uint64(f.toc1))
	b = le.AppendUint64(b, uint64(f.toc2))
	b = le.AppendUint32(b, uint32(f.length))
	b = le.AppendUint32(b, uint32(f.frames))
	b = le.AppendUint32(b, uint32(f.slots))
	b = le.AppendUint32(b, f.gen)
	b = le.AppendUint64(b, f.pack)
	b = append(b, f.hash[:]...)
	b = append(b, make([]byte, 12)...)
	b = le.AppendUint32(b, crc(b[start:]))
	return append(b, footerMagic...)
}

var errFooter = errors.New("footer is not valid")

// parseFooter reads the last bytes of a pack file of the given size.
func parseFooter(b []byte, size int64) (f footer, err error) {
	le := binary.LittleEndian
	if len(b) != footerSize || string(b[88:]) != footerMagic || le.Uint32(b[84:]) != crc(b[:84]) {
		return f, errFooter
	}
	f = footer{
		toc1: int64(le.Uint64(b)), toc2: int64(le.Uint64(b[8:])), length: int(le.Uint32(b[16:])),
		frames: int(le.Uint32(b[20:])), slots: int(le.Uint32(b[24:])), gen: le.Uint32(b[28:]),
		pack: le.Uint64(b[32:]), hash: [32]byte(b[40:72]),
	}
	if f.frames > MaxPackSlots || f.slots > MaxPackSlots || f.length != tocSize(f.frames, f.slots) {
		return f, errFooter
	}
	for _, off := range []int64{f.toc1, f.toc2} {
		if off < packHeaderSize || off > size-footerSize-int64(f.length) {
			return f, errFooter
		}
	}
	return f, nil
}

// appendTail appends the two TOC copies and the footer of a pack whose file
// ends at offset end.
func appendTail(b []byte, t *toc, pack uint64, gen uint32, end int64) []byte {
	start := len(b)
	b = t.append(b)
	length := len(b) - start
	b = append(b, b[start:]...)
	f := footer{
		toc1: end, toc2: end + int64(length), length: length, frames: len(t.frames), slots: len(t.slots), gen: gen, pack: pack,
		hash: [32]byte(b[start+length-tocHashSize : start+length]),
	}
	return f.append(b)
}

// tailSize is the size of what appendTail appends.
func tailSize(frames, slots int) int { return 2*tocSize(frames, slots) + footerSize }

func damagedPack(pack uint64, gen uint32, offset int64, format string, args ...any) *DamageError {
	return &DamageError{Pack: pack, Gen: gen, Slot: noSlot, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}
