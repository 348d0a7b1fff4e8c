package files

import (
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

const pieceBlocks = pieceSize / dedup.BlockSize

// piece gathers writes to one pieceSize window of a file: of each block in it,
// one run of bytes.
type piece struct {
	buf      []byte // pieceSize
	window   int64  // offset in the file / pieceSize
	lo, hi   [pieceBlocks]int
	complete int // blocks that are there whole

	first, touched time.Time

	after *piece        // an earlier one of the same window that is still being stored
	done  chan struct{} // closed once it is stored, or never will be
}

// add takes as much of p, content of the file at off in the window, as can be
// gathered, and returns how much that is. Less than all of it: the piece has to
// be stored before the rest can be taken.
func (pc *piece) add(p []byte, off int64) (taken int) {
	for taken < len(p) {
		at := int(off % pieceSize)
		b, in := at/dedup.BlockSize, at%dedup.BlockSize
		n := min(len(p)-taken, dedup.BlockSize-in)
		lo, hi := pc.lo[b], pc.hi[b]
		switch {
		case lo == hi:
			lo, hi = in, in+n
		case in > hi || in+n < lo:
			return taken
		default:
			lo, hi = min(lo, in), max(hi, in+n)
		}
		if hi-lo == dedup.BlockSize && pc.hi[b]-pc.lo[b] < dedup.BlockSize {
			pc.complete++
		}
		pc.lo[b], pc.hi[b] = lo, hi
		copy(pc.buf[at:], p[taken:taken+n])
		taken, off = taken+n, off+int64(n)
	}
	return taken
}

// runs calls yield for every run of gathered bytes, off being its place in the file.
func (pc *piece) runs(yield func(p []byte, off int64) error) error {
	for b := 0; b < pieceBlocks; b++ {
		if pc.lo[b] == pc.hi[b] {
			continue
		}
		from, to := b*dedup.BlockSize+pc.lo[b], b*dedup.BlockSize+pc.hi[b]
		for to%dedup.BlockSize == 0 && b+1 < pieceBlocks && pc.lo[b+1] == 0 && pc.hi[b+1] > 0 {
			b++
			to = b*dedup.BlockSize + pc.hi[b]
		}
		if err := yield(pc.buf[from:to], pc.window*pieceSize+int64(from)); err != nil {
			return err
		}
	}
	return nil
}

// pieces is the budget that all files share.
type pieces struct {
	tokens chan struct{}
	pool   sync.Pool
}

func newPieces(n int) *pieces {
	return &pieces{tokens: make(chan struct{}, n), pool: sync.Pool{New: func() any { return &piece{buf: make([]byte, pieceSize)} }}}
}

// try returns an empty piece, nil when the budget is used up.
func (b *pieces) try() *piece {
	select {
	case b.tokens <- struct{}{}:
		return b.take()
	default:
		return nil
	}
}

// wait returns an empty piece once there is one.
func (b *pieces) wait() *piece {
	b.tokens <- struct{}{}
	return b.take()
}

func (b *pieces) take() *piece {
	pc := b.pool.Get().(*piece)
	*pc = piece{buf: pc.buf, done: make(chan struct{})}
	return pc
}

func (b *pieces) give(pc *piece) {
	// Whoever waits for it holds on to the channel's struct, so only the buffer is used again.
	b.pool.Put(&piece{buf: pc.buf})
	<-b.tokens
}

// inUse is how many pieces are out.
func (b *pieces) inUse() int { return len(b.tokens) }
