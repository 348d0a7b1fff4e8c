package files

import (
	"io"
	"sync"
	"sync/atomic"
)

// ahead reads a file for one handle. When the handle reads on from where it
// read before, what comes next is decoded meanwhile, several pieces at a time:
// the requests of a connection come one by one, and would use one core.
type ahead struct {
	src    io.ReaderAt
	size   int64
	budget *aheadBudget
	slots  chan struct{} // who decodes

	mu     sync.Mutex
	next   int64 // where a sequential reader goes on
	streak int   // requests that did
	pieces []*aheadPart
	closed bool
}

// aheadPart is a stretch of the file that is being read, or was.
type aheadPart struct {
	off  int64
	buf  []byte // what was read, which is less than it should be after an error; done tells when
	done chan struct{}
	refs atomic.Int32 // the list, the goroutine, readers
	mem  *[aheadPiece]byte
}

// aheadSlack is how far behind the furthest request others may come: clients
// send several at a time, not always in order.
const aheadSlack = aheadPiece

func newAhead(src io.ReaderAt, size int64, b *aheadBudget) *ahead {
	return &ahead{src: src, size: size, budget: b, slots: make(chan struct{}, aheadWorkers)}
}

// ReadAt fills p; at the end of the file it returns io.EOF.
func (a *ahead) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= a.size {
		return 0, io.EOF
	}
	end := error(nil)
	if int64(len(p)) > a.size-off {
		p, end = p[:a.size-off], io.EOF
	}
	a.follow(off, len(p))
	for n < len(p) {
		if m := a.copy(p[n:], off+int64(n)); m > 0 {
			n += m
			continue
		}
		m, err := a.src.ReadAt(p[n:], off+int64(n))
		if n += m; n < len(p) {
			return n, err
		}
	}
	return n, end
}

// copy takes what was read ahead at off, waiting for it; 0 when there is none.
// A piece that failed counts as none: the request may not touch the damage.
func (a *ahead) copy(p []byte, off int64) int {
	part := a.part(off)
	if part == nil {
		return 0
	}
	defer a.budget.unref(part)
	<-part.done
	if at := off - part.off; at < int64(len(part.buf)) {
		return copy(p, part.buf[at:])
	}
	return 0
}

// follow notes a request, and when it goes on from those before has what comes
// next read.
func (a *ahead) follow(off int64, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if off > a.next+aheadSlack || off < a.next-aheadSlack {
		a.streak = 0
		a.drop(a.size)
	} else {
		a.streak++
	}
	if a.streak == 0 || off+int64(n) > a.next {
		a.next = off + int64(n)
	}
	a.drop(a.next - aheadSlack)
	if a.streak < 2 {
		return
	}
	for len(a.pieces) < aheadPieces {
		from := a.next
		if k := len(a.pieces); k > 0 {
			from = a.pieces[k-1].off + aheadPiece
			from -= from % aheadPiece
		}
		if from >= a.size || !a.start(from) {
			return
		}
	}
}

// start has the stretch up to the next multiple of aheadPiece read.
func (a *ahead) start(off int64) bool {
	part := a.budget.take()
	if part == nil {
		return false
	}
	part.off, part.buf = off, part.mem[:min(aheadPiece-off%aheadPiece, a.size-off)]
	a.pieces = append(a.pieces, part)
	go func() {
		a.slots <- struct{}{}
		n, _ := a.src.ReadAt(part.buf, off) // who wants the rest is told why there is none
		<-a.slots
		part.buf = part.buf[:n]
		close(part.done)
		a.budget.unref(part)
	}()
	return true
}

// part returns what has the byte at off, nil when nobody reads it.
func (a *ahead) part(off int64) *aheadPart {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.pieces {
		if off >= x.off && off < x.off+aheadPiece-x.off%aheadPiece {
			x.refs.Add(1)
			return x
		}
	}
	return nil
}

// drop forgets the pieces that end before off.
func (a *ahead) drop(off int64) {
	keep := a.pieces[:0]
	for _, x := range a.pieces {
		if x.off+aheadPiece-x.off%aheadPiece > off {
			keep = append(keep, x)
		} else {
			a.budget.unref(x)
		}
	}
	clear(a.pieces[len(keep):])
	a.pieces = keep
}

// close waits for what is being read.
func (a *ahead) close() {
	a.mu.Lock()
	a.closed = true
	pieces := a.pieces
	a.pieces = nil
	a.mu.Unlock()
	for _, x := range pieces {
		<-x.done
		a.budget.unref(x)
	}
	for range aheadWorkers { // and for what was dropped while it was read
		a.slots <- struct{}{}
	}
}

// aheadBudget bounds what is read ahead for all readers together, in pieces.
type aheadBudget struct {
	tokens chan struct{}
	pool   sync.Pool
}

func newAheadBudget(n int) *aheadBudget {
	return &aheadBudget{tokens: make(chan struct{}, n), pool: sync.Pool{New: func() any { return new([aheadPiece]byte) }}}
}

// take returns an empty part, nil when the budget is used up.
func (b *aheadBudget) take() *aheadPart {
	select {
	case b.tokens <- struct{}{}:
	default:
		return nil
	}
	part := &aheadPart{mem: b.pool.Get().(*[aheadPiece]byte), done: make(chan struct{})}
	part.refs.Store(2)
	return part
}

// unref is the end of one use.
func (b *aheadBudget) unref(part *aheadPart) {
	if part.refs.Add(-1) == 0 {
		b.pool.Put(part.mem)
		<-b.tokens
	}
}

// inUse is how many pieces are out.
func (b *aheadBudget) inUse() int { return len(b.tokens) }
