package dedup

import (
	"sync/atomic"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

func (r *request) key(p *piece) frameKey {
	return frameKey{id: r.view.id, frame: uint16(p.frame)}
}

// serve fills a piece. Blocks that begin their frame and follow each other in dst
// are decoded where they go, others beside it. A frame of which more is wanted
// soon is kept decoded.
func (r *request) serve(p *piece, f tier.File) error {
	if r.kept(p) {
		return r.serveCached(p, f)
	}
	payload, err := r.payload(p, f)
	if err != nil {
		return err
	}
	need := r.blocks[p.to-1].pos + 1 // the last one lies furthest: they are in order of address
	if dst := r.inPlace(p, need); dst != nil {
		var behind [decodeSlack]byte // what decoding may spoil is there already, or will be
		copy(behind[:], dst[len(dst):cap(dst)])
		err := r.decode(p, payload, dst)
		copy(dst[len(dst):cap(dst)], behind[:])
		if err != nil {
			return err
		}
		return r.verifyAll(p)
	}
	if err := r.decode(p, payload, r.raw[:need*BlockSize]); err != nil {
		return err
	}
	for i := p.from; i < p.to; i++ {
		b := &r.blocks[i]
		data := r.raw[b.pos*BlockSize:][:BlockSize]
		if err := r.verify(b, data); err != nil {
			return err
		}
		copy(r.place(b), data)
	}
	return nil
}

// kept reports whether a piece is served from the cache: because it is there
// already, or because what else is in its frame is wanted soon. That is so for the
// blocks before and behind the request on its disk; what is long past does not
// count. A small request does not know its neighbours.
func (r *request) kept(p *piece) bool {
	count := int(r.frame(p).count)
	if r.bytes || r.single && count > 1 || r.s.frames.has(r.key(p)) {
		return true
	}
	if p.to-p.from >= count {
		return false
	}
	lo, hi := r.blocks[p.from].entry, r.blocks[p.to-1].entry
	for lo > 0 && int(r.view.slots[lo-1].frame) == p.frame {
		lo--
	}
	for hi+1 < len(r.view.slots) && int(r.view.slots[hi+1].frame) == p.frame {
		hi++
	}
	first, last := MakeAddr(r.view.id.Pack, r.view.slots[lo].slot), MakeAddr(r.view.id.Pack, r.view.slots[hi].slot)
	return anyWithin(r.addrs[r.to:], first, last) || anyWithin(r.addrs[max(0, r.from-batchBlocks):r.from], first, last)
}

func anyWithin(addrs []Addr, first, last Addr) bool {
	for _, a := range addrs {
		if a-first <= last-first { // unsigned
			return true
		}
	}
	return false
}

// inPlace is where the frame's first need blocks are decoded to when they are all
// wanted and follow each other there, with room for the decoder behind them.
func (r *request) inPlace(p *piece, need int) []byte {
	blocks := r.blocks[p.from:p.to]
	if len(blocks) != need {
		return nil
	}
	first := blocks[0].index
	for i := range blocks {
		if blocks[i].pos != i || blocks[i].index != first+i {
			return nil
		}
	}
	start, end := first*BlockSize, (first+need)*BlockSize
	if end+decodeSlack > len(r.dst) {
		return nil
	}
	return r.dst[start : end : end+decodeSlack]
}

func (r *request) decode(p *piece, payload, dst []byte) error {
	frame := r.frame(p)
	if err := r.s.codec.decode(frame.codec, payload, dst, int(frame.count)); err != nil {
		return r.damage(r.blocks[p.from].entry, "the frame does not decode: %v", err)
	}
	r.s.count.decodedBytes.Add(uint64(len(dst)))
	return nil
}

// verifyAll compares the blocks of a piece with their hashes, where they are.
func (r *request) verifyAll(p *piece) error {
	for i := p.from; i < p.to; i++ {
		if err := r.verify(&r.blocks[i], r.place(&r.blocks[i])); err != nil {
			return err
		}
	}
	return nil
}

// verify compares a block with its hash.
func (r *request) verify(b *pieceBlock, data []byte) error {
	if !mutant.On("dedup/read-unverified") && r.s.hash.blockHash(data) != r.view.hashes[b.entry] {
		return r.damage(b.entry, "the block does not have its hash")
	}
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
func (r *request) serveCached(p *piece, f tier.File) error {
	need, count := r.blocks[p.to-1].pos+1, int(r.frame(p).count)
	e, hit, err := r.decoded(p, f, need, count)
	if err != nil {
		return err
	}
	if len(e.value.data) < need*BlockSize { // an earlier reader wanted less of it
		e.forget()
		e.release()
		e, hit, err = r.decoded(p, f, count, count)
		if isDamage(err) { // the rest of it: what is wanted may be before the damage
			e, hit, err = r.decoded(p, f, need, count)
		}
		if err != nil {
			return err
		}
	}
	defer e.release()
	if hit {
		r.s.count.frameHits.Add(1)
	}
	return r.copyOut(p, e.value)
}

// decoded returns the cache's entry of a frame, decoded at least as far as
// need unless an earlier reader needed less.
func (r *request) decoded(p *piece, f tier.File, need, count int) (e *cached[frameKey, *frameBuf], hit bool, err error) {
	if !r.single {
		need = count
	}
	hit = true
	e, err = r.s.frames.get(r.key(p), func() (*frameBuf, int64, error) {
		hit = false
		payload, err := r.payload(p, f)
		if err != nil {
			return nil, 0, err
		}
		b := r.s.frameBufs[need-1].Get().(*frameBuf)
		if err := r.decode(p, payload, b.data); err != nil {
			r.s.putFrameBuf(b)
			return nil, 0, err
		}
		return b, int64(len(b.data)), nil
	})
	return e, hit, err
}

func (r *request) copyOut(p *piece, buf *frameBuf) error {
	for i := p.from; i < p.to; i++ {
		b := &r.blocks[i]
		data := buf.data[b.pos*BlockSize : (b.pos+1)*BlockSize]
		if bit := uint32(1) << b.pos; buf.verified.Load()&bit == 0 {
			if err := r.verify(b, data); err != nil {
				return err
			}
			buf.verified.Or(bit)
		}
		if r.bytes {
			copy(r.dst, data[r.byteOff:])
		} else {
			copy(r.place(b), data)
		}
	}
	return nil
}
