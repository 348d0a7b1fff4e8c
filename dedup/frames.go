package dedup

import (
	"sync/atomic"

	"github.com/strongroom-backup/strongroom/tier"
)

// readFrames serves compressed frames, from the cache if they are there, else
// with one read for all of them.
func (sp *span) readFrames(f tier.File) error {
	first, last := -1, -1
	for i := range sp.pieces {
		if !sp.s.frames.has(sp.key(&sp.pieces[i])) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	r := payloads{sp: sp, file: f}
	if first >= 0 {
		if err := r.read(first, last); err != nil {
			return err
		}
	}
	for i := range sp.pieces {
		if err := sp.serve(&sp.pieces[i], &r); err != nil {
			return err
		}
	}
	return nil
}

func (sp *span) key(p *piece) frameKey {
	return frameKey{id: sp.view.id, frame: uint16(p.frame)}
}

// payloads gives the payloads of a span's frames, read together where possible.
type payloads struct {
	sp         *span
	file       tier.File
	start, end int64 // of what is in sp.buf
}

// read fetches the pieces from first to last, which are neighbours.
func (r *payloads) read(first, last int) error {
	frames := r.sp.view.frames
	from, to := frames[r.sp.pieces[first].frame].dataOffset(), frames[r.sp.pieces[last].frame].end()
	if err := r.sp.fetch(r.file, r.sp.buf[:to-from], from, r.sp.pieces[first].blocks[0].entry); err != nil {
		return err
	}
	r.start, r.end = from, to
	return nil
}

// of returns the payload of a piece's frame. A frame that left the cache after
// readFrames looked is read alone.
func (r *payloads) of(p *piece) ([]byte, error) {
	f := &r.sp.view.frames[p.frame]
	if f.dataOffset() >= r.start && f.end() <= r.end {
		return r.sp.buf[f.dataOffset()-r.start : f.end()-r.start], nil
	}
	b := make([]byte, f.payload)
	return b, r.sp.fetch(r.file, b, f.dataOffset(), p.blocks[0].entry)
}

// serve fills a piece. A frame wanted whole and in order is decoded where it
// goes; of others the decoded frame is kept, for the rest of it is likely
// wanted next.
func (sp *span) serve(p *piece, r *payloads) error {
	frame := &sp.view.frames[p.frame]
	if p.whole(int(frame.count)) && !sp.s.frames.has(sp.key(p)) {
		payload, err := r.of(p)
		if err != nil {
			return err
		}
		if err := sp.decode(p, payload, p.dst); err != nil {
			return err
		}
		return sp.verify(p)
	}
	return sp.serveCached(p, r)
}

// whole reports whether the piece is all blocks of its frame in order.
func (p *piece) whole(count int) bool {
	if len(p.blocks) != count {
		return false
	}
	for i, b := range p.blocks {
		if b.pos != i {
			return false
		}
	}
	return true
}

func (sp *span) decode(p *piece, payload, dst []byte) error {
	frame := &sp.view.frames[p.frame]
	if err := sp.s.codec.decode(frame.codec, payload, dst, int(frame.count)); err != nil {
		return sp.damage(p.blocks[0].entry, "the frame does not decode: %v", err)
	}
	sp.s.count.decodedBytes.Add(uint64(len(dst)))
	return nil
}

// frameKey names a decoded frame.
type frameKey struct {
	id    tier.ID
	frame uint16
}

// frameBuf is a frame decoded as far as it was wanted.
type frameBuf struct {
	data     []byte        // a whole number of blocks
	verified atomic.Uint32 // one bit per block found to have its hash
}

func (s *Store) putFrameBuf(b *frameBuf) {
	b.verified.Store(0)
	s.frameBufs[len(b.data)/BlockSize-1].Put(b)
}

// serveCached copies a piece out of the decoded frame.
func (sp *span) serveCached(p *piece, r *payloads) error {
	need := 0
	for _, b := range p.blocks {
		need = max(need, b.pos+1)
	}
	count := int(sp.view.frames[p.frame].count)
	e, hit, err := sp.decoded(p, r, need, count)
	if err != nil {
		return err
	}
	if len(e.value.data) < need*BlockSize { // an earlier reader wanted less of it
		e.forget()
		e.release()
		e, hit, err = sp.decoded(p, r, count, count)
		if isDamage(err) { // the rest of it: what is wanted may be before the damage
			e, hit, err = sp.decoded(p, r, need, count)
		}
		if err != nil {
			return err
		}
	}
	defer e.release()
	if hit {
		sp.s.count.frameHits.Add(1)
	}
	return sp.copyOut(p, e.value)
}

// decoded returns the cache's entry of a frame, decoded at least as far as
// need unless an earlier reader needed less.
func (sp *span) decoded(p *piece, r *payloads, need, count int) (e *cached[frameKey, *frameBuf], hit bool, err error) {
	if !sp.single {
		need = count
	}
	hit = true
	e, err = sp.s.frames.get(sp.key(p), func() (*frameBuf, int64, error) {
		hit = false
		payload, err := r.of(p)
		if err != nil {
			return nil, 0, err
		}
		b := sp.s.frameBufs[need-1].Get().(*frameBuf)
		if err := sp.decode(p, payload, b.data); err != nil {
			sp.s.putFrameBuf(b)
			return nil, 0, err
		}
		return b, int64(len(b.data)), nil
	})
	return e, hit, err
}

func (sp *span) copyOut(p *piece, buf *frameBuf) error {
	for i, b := range p.blocks {
		data := buf.data[b.pos*BlockSize : (b.pos+1)*BlockSize]
		if bit := uint32(1) << b.pos; buf.verified.Load()&bit == 0 {
			if sp.s.hash.blockHash(data) != sp.view.hashes[b.entry] {
				return sp.damage(b.entry, "the block does not have its hash")
			}
			buf.verified.Or(bit)
		}
		copy(p.dst[i*BlockSize:], data)
	}
	return nil
}
