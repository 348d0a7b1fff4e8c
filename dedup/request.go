package dedup

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/strongroom-backup/strongroom/tier"
)

// request reads the blocks of one call, or of a core's part of it. It is planned
// by address: for each pack, which frames hold what is wanted; frames that lie
// together are fetched by one read (fetch.go), each is decoded once (frames.go),
// and the blocks go where they belong in dst.
type request struct {
	s        *Store
	addrs    []Addr // the window of the disk
	from, to int    // what of it is wanted
	dst      []byte

	single  bool // one block alone: decode no more than it needs
	bytes   bool // of that, the bytes from byteOff on
	byteOff int
	quiet   bool // damage met now is not reported: the blocks will be tried one by one

	refs   []ref
	view   view
	pieces []piece
	blocks []pieceBlock

	buf      []byte // payloads fetched together
	at, have int64  // the file's bytes that are in it
	raw      []byte // a frame decoded beside its place
}

// ref is a wanted block.
type ref struct {
	addr  Addr
	index int // in dst
}

// piece is the part of a request that lies in one frame.
type piece struct {
	frame    int
	from, to int // its blocks
}

type pieceBlock struct {
	entry int // in the toc
	pos   int // in the frame
	index int // in dst
}

func newRequest(s *Store) *request {
	return &request{s: s, buf: make([]byte, readSpan), raw: make([]byte, frameRaw, frameRaw+decodeSlack)}
}

// request takes one out of the pool; end gives it back.
func (s *Store) request() *request { return s.requests.Get().(*request) }

func (r *request) end() {
	r.addrs, r.dst, r.view = nil, nil, view{}
	r.single, r.bytes, r.quiet = false, false, false
	r.s.requests.Put(r)
}

func (r *request) begin(addrs []Addr, from, to int, dst []byte) {
	r.addrs, r.from, r.to, r.dst = addrs, from, to, dst
	r.single, r.quiet = to-from == 1, to-from > 1
}

// planned reads everything, pack by pack.
func (r *request) planned() error {
	r.refs = r.refs[:0]
	sorted, zero := true, 0
	for i, a := range r.addrs[r.from:r.to] {
		if a == 0 {
			clear(r.dst[i*BlockSize : (i+1)*BlockSize])
			zero++
			continue
		}
		sorted = sorted && (len(r.refs) == 0 || r.refs[len(r.refs)-1].addr < a)
		r.refs = append(r.refs, ref{a, i})
	}
	r.s.count.readZero.Add(uint64(zero))
	if !sorted {
		slices.SortFunc(r.refs, func(x, y ref) int { return cmp.Or(cmp.Compare(x.addr, y.addr), x.index-y.index) })
	}
	for i := 0; i < len(r.refs); {
		n := 1
		for i+n < len(r.refs) && r.refs[i+n].addr.Pack() == r.refs[i].addr.Pack() {
			n++
		}
		if err := r.pack(r.refs[i : i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// oneByOne reads each block for itself. What cannot be read at its address is
// served from another copy of the same content.
func (r *request) oneByOne() error {
	dst := r.dst
	r.single, r.quiet = true, false
	for i, a := range r.addrs[r.from:r.to] {
		block := dst[i*BlockSize:][:BlockSize]
		if a == 0 {
			clear(block)
			continue
		}
		if err := r.block(a, block); err == nil {
			continue
		} else if err = r.s.heal(a, block, err); err != nil {
			return err
		}
	}
	return nil
}

// block reads one block.
func (r *request) block(a Addr, dst []byte) error {
	r.dst = dst[:len(dst):len(dst)]
	r.refs = append(r.refs[:0], ref{addr: a})
	return r.pack(r.refs)
}

// pack reads blocks of one pack, in order of address.
func (r *request) pack(refs []ref) error {
	for {
		r.view = view{} // it may have grown, been sealed or written anew
		if err := r.plan(refs); err != nil {
			return err
		}
		f, err := r.s.packFile(r.view.id)
		if err == nil {
			defer f.release()
			return r.readPieces(f.value)
		}
		if !r.s.moved(r.view.id, err) {
			return err
		}
	}
}

// plan groups blocks of a pack by frame.
func (r *request) plan(refs []ref) error {
	r.pieces, r.blocks, r.at, r.have = r.pieces[:0], r.blocks[:0], 0, 0
	for _, x := range refs {
		entry, err := r.locate(x.addr)
		if err != nil {
			return err
		}
		slot := r.view.slots[entry]
		if slot.flags&slotLost != 0 {
			return r.damage(entry, "it was lost before the pack was written anew")
		}
		r.blocks = append(r.blocks, pieceBlock{entry: entry, pos: int(slot.pos), index: x.index})
		if k := len(r.pieces); k > 0 && r.pieces[k-1].frame == int(slot.frame) {
			r.pieces[k-1].to++
		} else {
			r.pieces = append(r.pieces, piece{frame: int(slot.frame), from: len(r.blocks) - 1, to: len(r.blocks)})
		}
	}
	return nil
}

// locate finds the entry of an address.
func (r *request) locate(a Addr) (entry int, err error) {
	if r.view.toc == nil || r.view.id.Pack != a.Pack() {
		if r.view, err = r.s.view(a.Pack()); err != nil {
			return 0, err
		}
	}
	if entry = r.view.find(a.Slot()); entry >= 0 {
		return entry, nil
	}
	if r.view.lossy {
		return 0, r.report(lostSlot(r.view.id, a.Slot()))
	}
	return 0, fmt.Errorf("block %v: %w", a, ErrUnknownAddr)
}

// readPieces fetches what was planned, as far as it is not in the cache, and
// serves it.
func (r *request) readPieces(f tier.File) error {
	for i := 0; i < len(r.pieces); {
		n := 1
		switch p := &r.pieces[i]; {
		case isRaw(r.frame(p).codec) && !r.bytes:
			if err := r.readRaw(p, f); err != nil {
				return err
			}
			i++
			continue
		case !r.s.frames.has(r.key(p)):
			n = r.together(i)
			if err := r.fetchFrames(f, i, i+n); err != nil {
				return err
			}
		}
		for ; n > 0; n-- {
			if err := r.serve(&r.pieces[i], f); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}

// together is how many pieces from i on are fetched by one read: frames with
// little or nothing between them.
func (r *request) together(i int) int {
	start, n := r.frame(&r.pieces[i]).dataOffset(), 1
	for ; i+n < len(r.pieces); n++ {
		prev, next := r.frame(&r.pieces[i+n-1]), r.frame(&r.pieces[i+n])
		gap := int64(next.offset) - prev.end()
		if isRaw(next.codec) || gap < 0 || gap > readThrough || next.end()-start > readSpan {
			break
		}
	}
	return n
}

func (r *request) fetchFrames(f tier.File, from, to int) error {
	start, end := r.frame(&r.pieces[from]).dataOffset(), r.frame(&r.pieces[to-1]).end()
	r.at, r.have = start, 0
	if err := r.fetch(f, r.buf[:end-start], start, r.blocks[r.pieces[from].from].entry); err != nil {
		return err
	}
	r.have = end - start
	return nil
}

// payload is that of a piece's frame. One that left the cache after readPieces
// looked is fetched alone.
func (r *request) payload(p *piece, f tier.File) ([]byte, error) {
	frame := r.frame(p)
	if frame.dataOffset() >= r.at && frame.end() <= r.at+r.have {
		return r.buf[frame.dataOffset()-r.at : frame.end()-r.at], nil
	}
	b := make([]byte, frame.payload)
	return b, r.fetch(f, b, frame.dataOffset(), r.blocks[p.from].entry)
}

// readRaw reads blocks that are not compressed straight to where they go.
func (r *request) readRaw(p *piece, f tier.File) error {
	start, blocks := r.frame(p).dataOffset(), r.blocks[p.from:p.to]
	for i := 0; i < len(blocks); {
		n := 1
		for i+n < len(blocks) && blocks[i+n].pos == blocks[i].pos+n && blocks[i+n].index == blocks[i].index+n {
			n++
		}
		first := &blocks[i]
		dst := r.dst[first.index*BlockSize : (first.index+n)*BlockSize]
		if err := r.fetch(f, dst, start+int64(first.pos)*BlockSize, first.entry); err != nil {
			return err
		}
		i += n
	}
	for i := range blocks {
		if err := r.verify(&blocks[i], r.place(&blocks[i])); err != nil {
			return err
		}
	}
	return nil
}

// fetch reads bytes of the pack; bytes missing at its end are damage.
func (r *request) fetch(f tier.File, b []byte, off int64, entry int) error {
	r.s.count.packReads.Add(1)
	r.s.count.packReadBytes.Add(uint64(len(b)))
	err := readFull(f, b, off)
	if err == io.ErrUnexpectedEOF {
		return r.damage(entry, "the pack file ends before it")
	}
	if err != nil {
		return fmt.Errorf("read %v at %d: %w", r.view.id, off, eioUnlessErrno(err))
	}
	return nil
}

func (r *request) frame(p *piece) *tocFrame { return &r.view.frames[p.frame] }

// place is where a block goes.
func (r *request) place(b *pieceBlock) []byte {
	return r.dst[b.index*BlockSize : (b.index+1)*BlockSize]
}

// damage makes the error about the block at an entry.
func (r *request) damage(entry int, format string, args ...any) error {
	slot := r.view.slots[entry]
	var off int64
	if slot.flags&slotLost == 0 {
		off = int64(r.view.frames[slot.frame].offset)
	}
	d := damagedPack(r.view.id.Pack, r.view.id.Gen, off, format, args...)
	d.Slot = int(slot.slot)
	return r.report(d)
}

func (r *request) report(d *DamageError) error {
	if r.quiet {
		return d
	}
	return r.s.damage(d)
}

// eioUnlessErrno makes a failed read an I/O error to whoever maps errors to
// errno.
func eioUnlessErrno(err error) error {
	if _, ok := err.(syscall.Errno); ok {
		return err
	}
	return asEIO(err)
}
