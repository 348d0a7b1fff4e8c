package readahead

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pieceSize is what is read at a time: long enough that a disk's seek or a
	// goroutine's start is little, short enough that several cores share what one
	// request takes.
	pieceSize = 512 << 10
	// maxPieces is how far ahead one stream is read at most, 8 MiB, and piecesPerCore
	// how far it is for each core that could: enough for the next piece to be ready
	// and another under way. More would be in no core's cache when it is taken.
	maxPieces     = 16
	piecesPerCore = 2
	// maxStreams is how many a Reader tells apart; clients read with up to that
	// many threads.
	maxStreams = 8
	// slack is how far from the furthest request of a stream others may be:
	// clients send several at a time, not always in order.
	slack = 1 << 20
	// startAfter is how many requests in a row make a sequential reader.
	startAfter = 3
	// stale is when a stream that stands still gives its pieces back.
	stale = 2 * time.Second
)

// Budget bounds the memory of all readers that share it.
type Budget struct {
	tokens chan struct{} // one for each piece that is out
	slots  chan struct{} // one for each goroutine that reads
	asking atomic.Int64  // requests under way, of all readers
	most   int           // pieces of one stream
	pool   sync.Pool     // of *[pieceSize]byte
}

// NewBudget is a budget of so many bytes; less than a piece's 512 KiB is none,
// and nothing is read ahead. cores is how many pieces are read at a time.
func NewBudget(bytes int64, cores int) *Budget {
	return &Budget{
		tokens: make(chan struct{}, max(0, bytes/pieceSize)), slots: make(chan struct{}, max(1, cores)),
		most: min(maxPieces, piecesPerCore*max(1, cores)),
		pool: sync.Pool{New: func() any { return new([pieceSize]byte) }},
	}
}

// InUse is what is out, in bytes.
func (b *Budget) InUse() int64 { return int64(len(b.tokens)) * pieceSize }

// take returns a piece, nil when the budget is used up.
func (b *Budget) take() *piece {
	select {
	case b.tokens <- struct{}{}:
	default:
		return nil
	}
	x := &piece{budget: b, mem: b.pool.Get().(*[pieceSize]byte), done: make(chan struct{})}
	x.refs.Store(2)
	return x
}

// piece is a stretch that is being read, or was.
type piece struct {
	budget *Budget
	mem    *[pieceSize]byte
	off    int64
	size   int
	good   bool // it was read; done tells when
	done   chan struct{}
	refs   atomic.Int32 // the stream's, the reading goroutine's, requests'
	gone   atomic.Bool  // the stream does not want it any more
	left   int          // bytes nobody has taken; guarded by Reader.mu
}

func (x *piece) end() int64 { return x.off + int64(x.size) }

// unref is the end of one use.
func (x *piece) unref() {
	if x.refs.Add(-1) == 0 {
		x.budget.pool.Put(x.mem)
		x.mem = nil
		<-x.budget.tokens
	}
}
