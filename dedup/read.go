package dedup

import (
	"fmt"
	"io"
	"sync/atomic"
	"syscall"

	"github.com/strongroom-backup/strongroom/tier"
)

// Read fills dst, which is len(addrs) blocks long, with the blocks at the
// addresses. Every block is verified against its hash; when one is wrong Read
// returns a *DamageError and dst is of no use. Neighbouring addresses are read
// and decoded together. Safe for concurrent use.
func (s *Store) Read(addrs []Addr, dst []byte) error {
	if len(dst) != len(addrs)*BlockSize {
		return fmt.Errorf("dedup: Read of %d blocks into %d bytes", len(addrs), len(dst))
	}
	if s.closed.Load() {
		return ErrClosed
	}
	s.count.reads.Add(1)
	s.count.readBlocks.Add(uint64(len(addrs)))
	sp := s.spans.Get().(*span)
	defer s.spans.Put(sp)
	sp.view = view{}
	sp.single = len(addrs) == 1
	for i := 0; i < len(addrs); {
		n := 0
		for i+n < len(addrs) && addrs[i+n] == 0 {
			n++
		}
		if n > 0 {
			clear(dst[i*BlockSize : (i+n)*BlockSize])
			s.count.readZero.Add(uint64(n))
		} else {
			var err error
			if n, err = sp.read(addrs[i:], dst[i*BlockSize:]); err != nil {
				return err
			}
		}
		i += n
	}
	return nil
}

// span reads consecutive addresses out of neighbouring frames of one pack.
type span struct {
	s      *Store
	view   view
	single bool // the caller wants one block: do not decode more than needed
	pieces []piece
	buf    []byte
}

// piece is the part of a span that lies in one frame.
type piece struct {
	frame  int
	blocks []pieceBlock
	dst    []byte
}

type pieceBlock struct {
	entry int // in the toc
	pos   int // in the frame
}

func newSpan(s *Store) *span { return &span{s: s, buf: make([]byte, readSpan)} }

// locate finds the entry of an address.
func (sp *span) locate(a Addr) (entry int, err error) {
	if sp.view.toc == nil || sp.view.id.Pack != a.Pack() {
		if sp.view, err = sp.s.view(a.Pack()); err != nil {
			return 0, err
		}
	}
	if entry = sp.view.find(a.Slot()); entry >= 0 {
		return entry, nil
	}
	if sp.view.lossy {
		d := damagedPack(a.Pack(), sp.view.id.Gen, 0, "the frame and every record of this slot are damaged")
		d.Slot = int(a.Slot())
		return 0, sp.s.damage(d)
	}
	return 0, fmt.Errorf("block %v: %w", a, ErrUnknownAddr)
}

// read serves as many of the leading addresses as one read of the pack can and
// says how many.
func (sp *span) read(addrs []Addr, dst []byte) (n int, err error) {
	if sp.view.open != nil {
		sp.view = view{} // it may have grown or been sealed
	}
	if n, err = sp.plan(addrs, dst); err != nil {
		return 0, err
	}
	f, err := sp.s.packFile(sp.view.id)
	if err != nil {
		return 0, err
	}
	defer f.release()
	if sp.view.frames[sp.pieces[0].frame].codec == codecRaw {
		return n, sp.readRaw(f.value)
	}
	return n, sp.readFrames(f.value)
}

// plan groups addresses into pieces: one raw frame, or compressed frames that
// follow each other in the file.
func (sp *span) plan(addrs []Addr, dst []byte) (n int, err error) {
	sp.pieces = sp.pieces[:0]
	var pack uint64
	for n < len(addrs) && addrs[n] != 0 {
		a := addrs[n]
		if n > 0 && a.Pack() != pack {
			break
		}
		pack = a.Pack()
		entry, err := sp.locate(a)
		if err != nil {
			return 0, err
		}
		slot := sp.view.slots[entry]
		if !sp.join(int(slot.frame)) {
			break
		}
		p := &sp.pieces[len(sp.pieces)-1]
		p.blocks = append(p.blocks, pieceBlock{entry: entry, pos: int(slot.pos)})
		n++
		p.dst = dst[(n-len(p.blocks))*BlockSize : n*BlockSize]
	}
	return n, nil
}

// join makes the frame the last piece if the span may hold it.
func (sp *span) join(frame int) bool {
	if k := len(sp.pieces); k > 0 {
		last := sp.pieces[k-1].frame
		if last == frame {
			return true
		}
		prev, next := &sp.view.frames[last], &sp.view.frames[frame]
		first := sp.view.frames[sp.pieces[0].frame].dataOffset()
		if prev.codec == codecRaw || next.codec == codecRaw || int64(next.offset) != prev.end() || next.end()-first > readSpan {
			return false
		}
	}
	if k := len(sp.pieces); k < cap(sp.pieces) {
		sp.pieces = sp.pieces[:k+1]
		p := &sp.pieces[k]
		p.frame, p.blocks = frame, p.blocks[:0]
	} else {
		sp.pieces = append(sp.pieces, piece{frame: frame})
	}
	return true
}

// readRaw reads blocks that are not compressed straight to where they go.
func (sp *span) readRaw(f tier.File) error {
	p := &sp.pieces[0]
	frame := &sp.view.frames[p.frame]
	for i := 0; i < len(p.blocks); {
		n := 1
		for i+n < len(p.blocks) && p.blocks[i+n].pos == p.blocks[i].pos+n {
			n++
		}
		off := frame.dataOffset() + int64(p.blocks[i].pos)*BlockSize
		if err := sp.fetch(f, p.dst[i*BlockSize:(i+n)*BlockSize], off, p.blocks[i].entry); err != nil {
			return err
		}
		i += n
	}
	return sp.verify(p)
}

// fetch reads bytes of the pack; bytes missing at its end are damage.
func (sp *span) fetch(f tier.File, b []byte, off int64, entry int) error {
	sp.s.count.packReads.Add(1)
	sp.s.count.packReadBytes.Add(uint64(len(b)))
	err := readFull(f, b, off)
	if err == io.ErrUnexpectedEOF {
		return sp.damage(entry, "the pack file ends before it")
	}
	if err != nil {
		return fmt.Errorf("read %v at %d: %w", sp.view.id, off, eioUnlessErrno(err))
	}
	return nil
}

// damage makes the error about the block at an entry.
func (sp *span) damage(entry int, format string, args ...any) error {
	slot := sp.view.slots[entry]
	d := damagedPack(sp.view.id.Pack, sp.view.id.Gen, int64(sp.view.frames[slot.frame].offset), format, args...)
	d.Slot = int(slot.slot)
	return sp.s.damage(d)
}

// verify compares the blocks of a piece with their hashes.
func (sp *span) verify(p *piece) error {
	for i, b := range p.blocks {
		if sp.s.hash.blockHash(p.dst[i*BlockSize:(i+1)*BlockSize]) != sp.view.hashes[b.entry] {
			return sp.damage(b.entry, "the block does not have its hash")
		}
	}
	return nil
}

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
		if e, hit, err = sp.decoded(p, r, count, count); err != nil {
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

// Hashes sets out[i] to the hash of the block at addrs[i], from the packs'
// tables of contents.
func (s *Store) Hashes(addrs []Addr, out []Hash) error {
	if len(out) != len(addrs) {
		return fmt.Errorf("dedup: Hashes of %d blocks into %d", len(addrs), len(out))
	}
	return s.eachEntry(addrs, func(i int, v *view, entry int) { out[i] = v.hashes[entry] }, func(i int) { out[i] = Hash{} })
}

// Have returns nil when every address is in a pack of this store whose frames
// were found whole, else an error that names the first that is not.
func (s *Store) Have(addrs []Addr) error {
	bad := -1
	err := s.eachEntry(addrs, func(i int, v *view, entry int) {
		if bad < 0 && !v.trusts(entry) {
			bad = i
		}
	}, func(int) {})
	if err == nil && bad >= 0 {
		return fmt.Errorf("block %v is damaged or was never durable: %w", addrs[bad], ErrDamaged)
	}
	return err
}

func (s *Store) eachEntry(addrs []Addr, f func(i int, v *view, entry int), zero func(i int)) error {
	if s.closed.Load() {
		return ErrClosed
	}
	sp := span{s: s}
	for i, a := range addrs {
		if a == 0 {
			zero(i)
			continue
		}
		entry, err := sp.locate(a)
		if err != nil {
			return err
		}
		f(i, &sp.view, entry)
	}
	return nil
}

// eioUnlessErrno makes a failed read an I/O error to whoever maps errors to
// errno.
func eioUnlessErrno(err error) error {
	if _, ok := err.(syscall.Errno); ok {
		return err
	}
	return asEIO(err)
}
