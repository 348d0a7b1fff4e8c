package files

import (
	"sync"
	"time"
)

// piece gathers writes to one pieceSize window of a file, in any order.
type piece struct {
	buf    []byte // pieceSize
	window int64  // offset in the file / pieceSize
	n      int    // spans used
	spans  [pieceSpans]span

	first, touched time.Time

	after *piece        // an earlier one of the same window that is still being stored
	done  chan struct{} // closed once it is stored, or never will be
}

// span is a run of gathered bytes; spans are ascending and do not touch.
type span struct{ lo, hi int }

// full reports whether nothing more can come.
func (pc *piece) full() bool { return pc.n == 1 && pc.spans[0] == span{0, pieceSize} }

// add takes p, content of the file at off, all of it in the window, and reports
// whether it could. If not, the piece has to be stored before.
func (pc *piece) add(p []byte, off int64) bool {
	lo := int(off % pieceSize)
	hi := lo + len(p)
	at := lo
	i := 0
	for i < pc.n && pc.spans[i].hi < lo {
		i++
	}
	j := i // spans i … j-1 overlap or touch p
	for j < pc.n && pc.spans[j].lo <= hi {
		lo, hi = min(lo, pc.spans[j].lo), max(hi, pc.spans[j].hi)
		j++
	}
	if i == j && pc.n == pieceSpans {
		return false
	}
	copy(pc.spans[i+1:], pc.spans[j:pc.n])
	pc.spans[i] = span{lo, hi}
	pc.n += 1 - (j - i)
	copy(pc.buf[at:], p)
	return true
}

// runs calls yield for every run of gathered bytes, off being its place in the file.
func (pc *piece) runs(yield func(p []byte, off int64) error) error {
	for _, s := range pc.spans[:pc.n] {
		if err := yield(pc.buf[s.lo:s.hi], pc.window*pieceSize+int64(s.lo)); err != nil {
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
