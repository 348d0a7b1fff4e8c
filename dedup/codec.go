package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// codec compresses and decodes frame payloads. It runs as many at once as
// there are cores; further callers wait, holding only buffers they have anyway.
type codec struct {
	enc  *zstd.Encoder
	flat *zstd.Encoder // of data whose bytes are all about as frequent: does not try to save on them
	dec  *zstd.Decoder
}

func newCodec() (*codec, error) {
	n := runtime.GOMAXPROCS(0)
	enc, err := newEncoder(n, true)
	if err != nil {
		return nil, err
	}
	flat, err := newEncoder(n, false)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(frameRaw), zstd.WithDecoderMaxWindow(frameRaw))
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &codec{enc: enc, flat: flat, dec: dec}, nil
}

// newEncoder makes an encoder that also saves on bytes it finds no match for,
// or not. The level makes it cut a frame into zstd blocks of 64 KiB, one per
// block of ours, which is what decodePrefix relies on for its speed (not for
// its correctness); it must come before the window size.
func newEncoder(n int, literals bool) (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(frameRaw),
		zstd.WithAllLitEntropyCompression(literals), zstd.WithEncoderConcurrency(n), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	return enc, nil
}

func (c *codec) close() {
	c.enc.Close()
	c.flat.Close()
	c.dec.Close()
}

// encode appends the payload of a frame to b and says with which codec.
func (c *codec) encode(b, raw []byte) ([]byte, uint16) {
	start, enc := len(b), c.enc
	if isFlat(raw) {
		enc = c.flat
	}
	out := enc.EncodeAll(raw, b)
	if len(out)-start <= len(raw)*rawRatioNum/rawRatioDen {
		return out, codecZstd
	}
	return append(b, raw...), codecRaw
}

// isFlat reports whether the bytes of a frame are so evenly distributed that
// coding them by frequency cannot reach the ratio worth having: encrypted and
// compressed data, for which trying takes three times as long as the rest of
// the encoder. It looks at 4096 bytes. Their collision entropy is a lower
// bound of their entropy; above 7.6 bits of 8 the ratio stays below 1.05.
func isFlat(raw []byte) bool {
	const spans, width = 64, 64
	const limit = (spans * width) * (spans * width) / 194 // 2^-7.6
	var count [256]uint32
	for i := range spans {
		at := i * (len(raw) / spans)
		for _, c := range raw[at : at+width] {
			count[c]++
		}
	}
	var sum uint32
	for _, n := range count {
		sum += n * n
	}
	return sum < limit
}

var errPayload = errors.New("payload does not decode")

// decode decodes the first want of a frame's count blocks into dst, which is
// want blocks long. It may decode into payload's bytes for a moment and
// restores them. Blocks are not verified here.
func (c *codec) decode(codecID uint8, payload, dst []byte, count int) error {
	want := len(dst) / BlockSize
	switch {
	case isRaw(codecID) && len(payload) == count*BlockSize:
		copy(dst, payload)
		return nil
	case codecID != codecZstd:
		return errPayload
	case want < count:
		return c.decodePrefix(payload, dst, count)
	}
	if z, ok := parseZstd(payload); !ok || z.content != uint64(len(dst)) {
		return errPayload
	}
	return c.decodeAll(payload, dst)
}

// decodeSlack is how many bytes behind its destination the decoder's fast path
// may scribble over; without them it takes one a third slower.
const decodeSlack = 64

// decodeAll decodes a frame of exactly len(dst) bytes. Up to decodeSlack bytes
// behind dst, if it has the capacity, hold rubbish afterwards.
func (c *codec) decodeAll(payload, dst []byte) error {
	out, err := c.dec.DecodeAll(payload, dst[:0:min(cap(dst), len(dst)+decodeSlack)])
	if err != nil || len(out) != len(dst) {
		return fmt.Errorf("%w: %d bytes of %d, %v", errPayload, len(out), len(dst), err)
	}
	return nil
}

// decodePrefix decodes only as far as needed. When the zstd frame is made of
// one zstd block per block of ours, its first blocks are made a frame of their
// own: the size is patched and the last one marked last.
func (c *codec) decodePrefix(payload, dst []byte, count int) error {
	z, ok := parseZstd(payload)
	if !ok || z.content != uint64(count*BlockSize) {
		return errPayload
	}
	ends, ok := z.blocks(payload, count)
	if want := len(dst) / BlockSize; ok && c.decodePatched(z, payload, dst, ends[want-1]) == nil {
		return nil
	}
	whole := make([]byte, count*BlockSize, count*BlockSize+decodeSlack) // another encoder made it, or it is damaged
	if err := c.decodeAll(payload, whole); err != nil {
		return err
	}
	copy(dst, whole)
	return nil
}

func (c *codec) decodePatched(z zstdHeader, payload, dst []byte, end zstdBlock) error {
	le := binary.LittleEndian
	last := payload[end.header]
	payload[end.header] |= 1
	le.PutUint32(payload[z.contentAt:], uint32(len(dst)))
	err := c.decodeAll(payload[:end.end], dst)
	payload[end.header] = last
	le.PutUint32(payload[z.contentAt:], uint32(z.content))
	return err
}

// zstdHeader is what we need of a zstd frame header (RFC 8878, 3.1.1.1).
type zstdHeader struct {
	size      int    // of the header
	content   uint64 // decoded size
	contentAt int    // where it is written
	patchable bool   // it has four bytes and no checksum follows the content
}

func parseZstd(b []byte) (z zstdHeader, ok bool) {
	const magic = 0xfd2fb528
	// The longest header read below has nine bytes. A frame of one repeated byte
	// is hardly longer.
	if len(b) < 9 || binary.LittleEndian.Uint32(b) != magic {
		return z, false
	}
	desc := b[4]
	single, checksum := desc&0x20 != 0, desc&4 != 0
	if !single || desc&0x0b != 0 { // a window, a reserved bit or a dictionary: not ours
		return z, false
	}
	z.contentAt = 5
	switch desc >> 6 {
	case 1:
		z.content, z.size = uint64(binary.LittleEndian.Uint16(b[5:]))+256, 7
	case 2:
		z.content, z.size, z.patchable = uint64(binary.LittleEndian.Uint32(b[5:])), 9, !checksum
	default: // 1 byte or 8 never hold a frame's size
		return z, false
	}
	return z, true
}

type zstdBlock struct{ header, end int }

// blocks finds the zstd blocks when there are exactly count of them and they
// fill the payload.
func (z zstdHeader) blocks(b []byte, count int) (ends [FrameBlocks]zstdBlock, ok bool) {
	const rle = 1
	at := z.size
	for i := range count {
		if !z.patchable || at+3 > len(b) {
			return ends, false
		}
		head := uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16
		size := int(head >> 3)
		if head>>1&3 == rle {
			size = 1
		}
		ends[i] = zstdBlock{header: at, end: at + 3 + size}
		if at = ends[i].end; at > len(b) || head&1 != 0 != (i == count-1) {
			return ends, false
		}
	}
	return ends, at == len(b)
}
