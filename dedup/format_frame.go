package dedup

import (
	"encoding/binary"
	"errors"
)

// A frame: a header of 48 bytes and 32 per block, then the payload.
const (
	frameMagic     = 0x31465253 // "SRF1" in file order
	frameFixed     = 44         // before the hashes
	slotUnused     = 0xffff
	codecRaw       = 0
	codecZstd      = 1
	codecLater     = 2 // raw; whether compressing it pays was not tried
	maxFrameHeader = frameFixed + FrameBlocks*32 + 4
)

// frameHeaderSize is the size of the header of a frame of n blocks.
func frameHeaderSize(n int) int { return frameFixed + 32*n + 4 }

type frameHeader struct {
	codec   uint16
	count   uint8
	domain  uint32
	payload uint32 // bytes
	slots   [FrameBlocks]uint16
	pack    uint64
	gen     uint32
	crc     uint32 // of the payload
	hashes  [FrameBlocks]Hash
}

// put writes the header to b, which must be frameHeaderSize(count) long.
func (h *frameHeader) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b, frameMagic)
	le.PutUint16(b[4:], h.codec)
	b[6], b[7] = h.count, cipherNone
	le.PutUint32(b[8:], h.domain)
	le.PutUint32(b[12:], h.payload)
	le.PutUint32(b[16:], uint32(h.count)*BlockSize)
	for i, s := range h.slots {
		le.PutUint16(b[20+2*i:], s)
	}
	le.PutUint64(b[28:], h.pack)
	le.PutUint32(b[36:], h.gen)
	le.PutUint32(b[40:], h.crc)
	for i := range int(h.count) {
		copy(b[frameFixed+32*i:], h.hashes[i][:])
	}
	end := frameFixed + 32*int(h.count)
	le.PutUint32(b[end:], crc(b[:end]))
}

var (
	errFrameHeader = errors.New("frame header is not valid")
	errFrameShort  = errors.New("frame header is cut off")
)

// parseFrameHeader reads the header at the start of b and checks everything
// that can be checked without the payload.
func parseFrameHeader(b []byte) (h frameHeader, err error) {
	le := binary.LittleEndian
	if len(b) < frameFixed {
		return h, errFrameShort
	}
	n := int(b[6])
	if le.Uint32(b) != frameMagic || n < 1 || n > FrameBlocks {
		return h, errFrameHeader
	}
	if len(b) < frameHeaderSize(n) {
		return h, errFrameShort
	}
	end := frameFixed + 32*n
	if le.Uint32(b[end:]) != crc(b[:end]) {
		return h, errFrameHeader
	}
	h = frameHeader{
		codec: le.Uint16(b[4:]), count: b[6], domain: le.Uint32(b[8:]), payload: le.Uint32(b[12:]),
		pack: le.Uint64(b[28:]), gen: le.Uint32(b[36:]), crc: le.Uint32(b[40:]),
	}
	for i := range h.slots {
		h.slots[i] = le.Uint16(b[20+2*i:])
	}
	for i := range n {
		h.hashes[i] = Hash(b[frameFixed+32*i:])
	}
	return h, h.check(b[7], le.Uint32(b[16:]))
}

// check refuses a header whose checksum holds and whose content is nonsense.
func (h *frameHeader) check(cipher uint8, raw uint32) error {
	n := int(h.count)
	if cipher != cipherNone || h.codec > codecLater {
		return ErrNewerFormat
	}
	if raw != uint32(n)*BlockSize || !validPayload(h.codec, int(h.payload), n) {
		return errFrameHeader
	}
	for i, s := range h.slots {
		if used := i < n; used != (s != slotUnused) || used && s >= MaxPackSlots {
			return errFrameHeader
		}
	}
	return nil
}

// isRaw reports whether a frame's payload is its blocks as they are.
func isRaw(codec uint8) bool { return codec == codecRaw || codec == codecLater }

// validPayload bounds a payload's length by what its codec can have made.
func validPayload(codec uint16, payload, count int) bool {
	if isRaw(uint8(codec)) {
		return payload == count*BlockSize
	}
	return payload > 0 && payload < count*BlockSize
}
