package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/tier"
)

// frameReader reads and checks the frames of a pack, best in order. It reports
// nothing and remembers nothing: what is wrong is the caller's to judge.
type frameReader struct {
	s     *Store
	ctx   context.Context
	id    tier.ID
	file  tier.File
	toc   *toc
	limit *rate.Limiter
	bytes int64 // read so far
	stop  error // the context's or the limiter's

	window   []byte
	at, have int64 // the window holds the file from at, have bytes

	frame   int         // the one decoded, -1 none
	head    frameHeader // of it, when headErr is nil
	headErr error
	payload []byte
	crcBad  bool   // the payload has not the checksum the table says
	dataErr error  // why nothing of it decodes
	raw     []byte // decoded
}

func newFrameReader(s *Store, ctx context.Context, id tier.ID, file tier.File, t *toc, l *rate.Limiter) *frameReader {
	return &frameReader{s: s, ctx: ctx, id: id, file: file, toc: t, limit: l, window: make([]byte, readSpan), frame: -1, raw: make([]byte, 0, frameRaw+decodeSlack)}
}

// load reads and decodes a frame. What is wrong with it is in headErr and
// dataErr; the error returned is the context's or the limiter's.
func (r *frameReader) load(frame int) error {
	if r.frame == frame {
		return nil
	}
	r.frame = -1
	f := &r.toc.frames[frame]
	size := int(f.end() - int64(f.offset))
	b, err := r.fetch(int64(f.offset), size)
	if r.stop != nil {
		return r.stop
	}
	r.frame = frame
	if err != nil {
		r.headErr, r.dataErr, r.crcBad, r.payload = err, err, false, nil
		return nil
	}
	head := b[:f.dataOffset()-int64(f.offset)]
	r.payload = b[len(head):]
	r.head, r.headErr = r.checkHeader(f, head)
	r.crcBad = crc(r.payload) != f.crc
	r.raw = r.raw[:int(f.count)*BlockSize]
	r.dataErr = r.s.codec.decode(f.codec, r.payload, r.raw, int(f.count))
	return nil
}

// fetch returns bytes of the file, valid until the next call.
func (r *frameReader) fetch(off int64, n int) ([]byte, error) {
	if off >= r.at && off+int64(n) <= r.at+r.have {
		return r.window[off-r.at:][:n], nil
	}
	ahead := max(n, r.left(off))
	if r.stop = waitFor(r.ctx, r.limit, ahead); r.stop != nil {
		return nil, r.stop
	}
	r.at, r.have = off, 0
	got, err := r.file.ReadAt(r.window[:ahead], off)
	r.bytes += int64(got)
	if r.have = int64(got); got >= n {
		return r.window[:n], nil
	}
	if err == io.EOF || err == nil {
		return nil, errors.New("the pack file ends before it")
	}
	return nil, eioUnlessErrno(err)
}

// left is how much to read at an offset: as far as the last frame.
func (r *frameReader) left(off int64) int {
	if n := len(r.toc.frames); n > 0 {
		return int(min(readSpan, max(0, r.toc.frames[n-1].end()-off)))
	}
	return 0
}

// waitFor takes n bytes from a budget, in pieces it can give at once.
func waitFor(ctx context.Context, l *rate.Limiter, n int) error {
	if err := ctx.Err(); err != nil || l == nil {
		return err
	}
	for n > 0 {
		k := n
		if l.Limit() != rate.Inf {
			k = min(n, max(1, l.Burst()))
		}
		if err := l.WaitN(ctx, k); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// checkHeader compares a frame's own header with what the table says of it.
func (r *frameReader) checkHeader(f *tocFrame, b []byte) (frameHeader, error) {
	h, err := parseFrameHeader(b)
	switch {
	case err != nil:
		return h, err
	case h.count != f.count || h.codec != uint16(f.codec) || h.payload != f.payload || h.crc != f.crc:
		return h, errors.New("the frame's header does not say what the table of contents says")
	case h.pack != r.id.Pack || h.gen != r.id.Gen || h.domain != r.s.opts.Domain:
		return h, fmt.Errorf("the frame's header is of pack %d generation %d, domain %d", h.pack, h.gen, h.domain)
	}
	return h, nil
}

// upTo sees to it that the frame is decoded as far as the slot: of a frame that
// does not decode whole, the blocks before the damage are still good.
func (r *frameReader) upTo(slot tocSlot) error {
	if r.dataErr == nil || r.payload == nil {
		return r.dataErr
	}
	f := &r.toc.frames[slot.frame]
	return r.s.codec.decode(f.codec, r.payload, r.raw[:int(slot.pos+1)*BlockSize], int(f.count))
}

// block returns the block of an entry if it has its hash, else why not. The
// slice is valid until the next call. err is the context's or the limiter's.
func (r *frameReader) block(entry int) (data []byte, wrong, err error) {
	slot := r.toc.slots[entry]
	if slot.flags&slotLost != 0 {
		return nil, errors.New("it was lost before the pack was written anew"), nil
	}
	if err := r.load(int(slot.frame)); err != nil {
		return nil, nil, err
	}
	if wrong := r.upTo(slot); wrong != nil {
		return nil, wrong, nil
	}
	data = r.raw[int(slot.pos)*BlockSize:][:BlockSize]
	if r.s.hash.blockHash(data) != r.toc.hashes[entry] {
		return nil, errors.New("the block does not have its hash"), nil
	}
	return data, nil, nil
}
