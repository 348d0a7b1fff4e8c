package dedup

import (
	"fmt"
	"io"
	"syscall"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// span reads consecutive addresses out of neighbouring frames of one pack.
type span struct {
	s      *Store
	view   view
	single bool // the caller wants one block: do not decode more than needed
	told   bool // damage met now has been reported already
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
		return 0, sp.s.damage(lostSlot(sp.view.id, a.Slot()))
	}
	return 0, fmt.Errorf("block %v: %w", a, ErrUnknownAddr)
}

// read serves as many of the leading addresses as one read of the pack can and
// says how many.
func (sp *span) read(addrs []Addr, dst []byte) (n int, err error) {
	if sp.view.open != nil {
		sp.view = view{} // it may have grown or been sealed
	}
	for {
		if n, err = sp.plan(addrs, dst); err != nil {
			return 0, err
		}
		f, err := sp.s.packFile(sp.view.id)
		if err == nil {
			defer f.release()
			return n, sp.readFrom(f.value)
		}
		if !sp.s.moved(sp.view.id, err) {
			return 0, err
		}
		sp.view = view{} // plan again, with the generation that is there now
	}
}

// readFrom reads what was planned.
func (sp *span) readFrom(f tier.File) error {
	if isRaw(sp.view.frames[sp.pieces[0].frame].codec) {
		return sp.readRaw(f)
	}
	return sp.readFrames(f)
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
		if slot.flags&slotLost != 0 {
			if n == 0 {
				return 0, sp.damage(entry, "it was lost before the pack was written anew")
			}
			break
		}
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
		if isRaw(prev.codec) || isRaw(next.codec) || int64(next.offset) != prev.end() || next.end()-first > readSpan {
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
	var off int64
	if slot.flags&slotLost == 0 {
		off = int64(sp.view.frames[slot.frame].offset)
	}
	d := damagedPack(sp.view.id.Pack, sp.view.id.Gen, off, format, args...)
	d.Slot = int(slot.slot)
	if sp.told {
		return d
	}
	return sp.s.damage(d)
}

// verify compares the blocks of a piece with their hashes.
func (sp *span) verify(p *piece) error {
	for i, b := range p.blocks {
		if !mutant.On("dedup/read-unverified") && sp.s.hash.blockHash(p.dst[i*BlockSize:(i+1)*BlockSize]) != sp.view.hashes[b.entry] {
			return sp.damage(b.entry, "the block does not have its hash")
		}
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
