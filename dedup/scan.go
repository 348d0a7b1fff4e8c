package dedup

import (
	"bytes"
	"errors"
	"io"

	"github.com/strongroom-backup/strongroom/tier"
)

// scanned is what the frames of a pack without a usable TOC say.
type scanned struct {
	toc     *toc
	end     int64 // behind the last good frame
	damaged int   // frames and gaps before end that are not good
}

// scanner reads a pack frame by frame.
type scanner struct {
	store *Store
	id    tier.ID
	file  tier.File
	size  int64
	// verify reads payloads too. Without it the frames' headers are believed,
	// which is enough for a pack that was closed in good order.
	verify bool

	buf   []byte
	out   scanned
	doubt []doubtful // whole headers with bad payloads since the last good frame
}

type doubtful struct {
	header frameHeader
	offset int64
}

// scan finds every good frame. Frames that are not good count only when a good
// one follows: then they were whole once and are damage, which their slots
// remember. Without a good one behind them they are the torn end of a crash.
func (s *Store) scan(id tier.ID, file tier.File, verify bool) (scanned, error) {
	size, err := file.Size()
	if err != nil {
		return scanned{}, err
	}
	if size > maxPackFile {
		return scanned{}, damagedPack(id.Pack, id.Gen, size, "the file has %d bytes, more than any pack", size)
	}
	sc := scanner{store: s, id: id, file: file, size: size, verify: verify, buf: make([]byte, frameRaw)}
	sc.out = scanned{toc: new(toc), end: packHeaderSize}
	err = sc.run()
	return sc.out, err
}

func (sc *scanner) run() error {
	for off := int64(packHeaderSize); off < sc.size; {
		h, err := sc.header(off)
		if err == nil && sc.fits(&h, off) {
			if off, err = sc.accept(&h, off); err != nil {
				return err
			}
			continue
		}
		if err != nil && !isBadFrame(err) {
			return err
		}
		next, err := sc.resync(off + 1)
		if err != nil || next < 0 {
			return err
		}
		sc.out.damaged++
		off = next
	}
	return nil
}

func isBadFrame(err error) bool {
	return errors.Is(err, errFrameHeader) || errors.Is(err, errFrameShort)
}

// header reads the frame header at off.
func (sc *scanner) header(off int64) (frameHeader, error) {
	var b [maxFrameHeader]byte
	n, err := sc.file.ReadAt(b[:min(maxFrameHeader, sc.size-off)], off)
	if err != nil && err != io.EOF {
		return frameHeader{}, err
	}
	return parseFrameHeader(b[:n])
}

// fits reports whether a header belongs at this place of this pack.
func (sc *scanner) fits(h *frameHeader, off int64) bool {
	end := off + int64(frameHeaderSize(int(h.count))) + int64(h.payload)
	next := sc.out.toc.nextSlot()
	for i := range int(h.count) {
		if int(h.slots[i]) < next {
			return false
		}
		next = int(h.slots[i]) + 1
	}
	return h.pack == sc.id.Pack && h.gen == sc.id.Gen && h.domain == sc.store.opts.Domain && end <= sc.size
}

func lastSlot(h *frameHeader) int { return int(h.slots[h.count-1]) }

// accept takes the frame at off, or doubts it, and returns where the next one
// should be.
func (sc *scanner) accept(h *frameHeader, off int64) (int64, error) {
	end := off + int64(frameHeaderSize(int(h.count))) + int64(h.payload)
	if sc.verify {
		payload, err := sc.payload(h, off)
		if err != nil {
			return 0, err
		}
		if crc(payload) != h.crc {
			sc.doubt = append(sc.doubt, doubtful{header: *h, offset: off})
			return end, nil
		}
	}
	for i := range sc.doubt {
		d := &sc.doubt[i]
		sc.out.damaged++
		// A header that is not where it was may claim any slots.
		if int(d.header.slots[0]) >= sc.out.toc.nextSlot() && lastSlot(&d.header) < int(h.slots[0]) {
			sc.out.toc.add(&d.header, d.offset, slotDamaged)
		}
	}
	sc.doubt = sc.doubt[:0]
	sc.out.toc.add(h, off, 0)
	sc.out.end = end
	return end, nil
}

func (sc *scanner) payload(h *frameHeader, off int64) ([]byte, error) {
	b := sc.buf[:h.payload]
	_, err := sc.file.ReadAt(b, off+int64(frameHeaderSize(int(h.count))))
	return b, err
}

var frameMagicBytes = []byte{0x53, 0x52, 0x46, 0x31}

// resync looks for the next frame from off on, -1 when there is none. What
// looks like a frame may be a client's data, so only one whose blocks have the
// keyed hashes it claims is believed.
func (sc *scanner) resync(off int64) (int64, error) {
	window := make([]byte, readSpan)
	for off < sc.size {
		n, err := sc.file.ReadAt(window[:min(readSpan, sc.size-off)], off)
		if err != nil && err != io.EOF {
			return 0, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(window[at:n], frameMagicBytes)
			if i < 0 {
				break
			}
			at += i
			good, err := sc.genuine(off + int64(at))
			if err != nil || good {
				return off + int64(at), err
			}
		}
		if off += int64(n) - int64(len(frameMagicBytes)-1); n < readSpan {
			break
		}
	}
	return -1, nil
}

// genuine reports whether a frame of this pack is at off, its content checked.
func (sc *scanner) genuine(off int64) (bool, error) {
	h, err := sc.header(off)
	if isBadFrame(err) || err == nil && !sc.fits(&h, off) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	payload, err := sc.payload(&h, off)
	if err != nil {
		return false, err
	}
	raw := make([]byte, int(h.count)*BlockSize)
	if crc(payload) != h.crc || sc.store.codec.decode(uint8(h.codec), payload, raw, int(h.count)) != nil {
		return false, nil
	}
	for i := range int(h.count) {
		if sc.store.hash.blockHash(raw[i*BlockSize:][:BlockSize]) != h.hashes[i] {
			return false, nil
		}
	}
	return true, nil
}
