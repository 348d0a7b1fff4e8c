package readahead

import (
	"sync"
	"time"
)

// Reader reads ahead for whoever calls ReadAt. It is safe for concurrent use.
type Reader struct {
	read   func(p []byte, off int64) error
	size   int64
	budget *Budget

	work sync.WaitGroup // goroutines that read

	mu      sync.Mutex
	streams []*stream
	idle    *time.Timer // runs while there are pieces
	closed  bool
}

// stream is requests that go on from one another.
type stream struct {
	next   int64 // where it goes on
	ahead  int64 // as far as pieces were begun
	streak int   // requests in a row
	used   time.Time
	pieces []*piece // ascending
}

// NewReader reads ahead by read, which fills p from byte off on or fails, and is
// called concurrently, never beyond size.
func NewReader(read func(p []byte, off int64) error, size int64, b *Budget) *Reader {
	return &Reader{read: read, size: size, budget: b}
}

// ReadAt fills p from byte off on; the caller sees to it that all of it is below
// the size. The error is read's for the bytes asked for.
func (r *Reader) ReadAt(p []byte, off int64) error {
	asking := int(r.budget.asking.Add(1))
	defer r.budget.asking.Add(-1)
	if cap(r.budget.tokens) > 0 {
		r.follow(off, len(p), asking >= cap(r.budget.slots))
		for len(p) > 0 {
			n := r.take(p, off)
			if n == 0 {
				break
			}
			p, off = p[n:], off+int64(n)
		}
	}
	if len(p) == 0 {
		return nil
	}
	return r.read(p, off)
}

// follow notes a request, and has read what comes next if it goes on from those
// before. Nothing new is begun when all cores have requests to serve.
func (r *Reader) follow(off int64, n int, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	end := off + int64(n)
	s := r.stream(off)
	s.used = time.Now()
	if end > s.next { // not overtaken by another
		s.next, s.streak = end, min(s.streak+1, maxPieces)
	}
	if s.streak < startAfter || busy {
		return
	}
	r.dropIf(s, func(x *piece) bool { return x.end() <= s.next-slack })
	most := min(r.budget.most, 2<<(s.streak-startAfter)) // twice as many each time
	for len(s.pieces) < most {
		from := max(s.next, s.ahead)
		if from >= r.size || !r.begin(s, from) {
			return
		}
	}
}

// stream finds the stream that a request at off belongs to. If there is none, a
// new one takes the place of that longest unused.
func (r *Reader) stream(off int64) *stream {
	oldest := 0
	for i, s := range r.streams {
		if off >= s.next-slack && off <= s.next+slack {
			return s
		}
		if s.used.Before(r.streams[oldest].used) {
			oldest = i
		}
	}
	s := &stream{next: off}
	if len(r.streams) < maxStreams {
		r.streams = append(r.streams, s)
	} else {
		r.dropIf(r.streams[oldest], func(*piece) bool { return true })
		r.streams[oldest] = s
	}
	return s
}

// begin has the stretch up to the next multiple of pieceSize read.
func (r *Reader) begin(s *stream, off int64) bool {
	x := r.budget.take()
	if x == nil {
		return false
	}
	x.off, x.size = off, int(min(pieceSize-off%pieceSize, r.size-off))
	x.left = x.size
	s.pieces, s.ahead = append(s.pieces, x), x.end()
	r.watch()
	r.work.Go(func() {
		r.budget.slots <- struct{}{}
		if !x.gone.Load() {
			x.good = r.read(x.mem[:x.size:x.size], x.off) == nil // who wants it is told why there is none
		}
		<-r.budget.slots
		close(x.done)
		x.unref()
	})
	return true
}

// take copies what was read ahead at off, waiting for it; 0 when there is none.
func (r *Reader) take(p []byte, off int64) int {
	s, x := r.find(off)
	if x == nil {
		return 0
	}
	defer x.unref()
	<-x.done
	if !x.good {
		return 0
	}
	n := copy(p, x.mem[off-x.off:x.size])
	r.taken(s, x, n)
	return n
}

// find returns the piece that has the byte at off, to be unreferenced.
func (r *Reader) find(off int64) (*stream, *piece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.streams {
		for _, x := range s.pieces {
			if off >= x.off && off < x.end() {
				x.refs.Add(1)
				return s, x
			}
		}
	}
	return nil, nil
}

// taken gives a piece back once all of it was taken.
func (r *Reader) taken(s *stream, x *piece, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.left -= n; x.left <= 0 {
		r.dropIf(s, func(y *piece) bool { return y == x })
	}
}

// dropIf forgets pieces of a stream.
func (r *Reader) dropIf(s *stream, which func(*piece) bool) {
	keep := s.pieces[:0]
	for _, x := range s.pieces {
		if which(x) {
			x.gone.Store(true)
			x.unref()
		} else {
			keep = append(keep, x)
		}
	}
	clear(s.pieces[len(keep):])
	s.pieces = keep
}

// watch sees to it that pieces nobody comes for are given back.
func (r *Reader) watch() {
	if r.idle == nil {
		r.idle = time.AfterFunc(stale, func() { r.expire(time.Now().Add(-stale)) })
	}
}

// expire drops the pieces of streams unused since then.
func (r *Reader) expire(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := 0
	for _, s := range r.streams {
		if s.used.Before(since) {
			r.dropIf(s, func(*piece) bool { return true })
			s.streak, s.ahead = 0, 0
		}
		left += len(s.pieces)
	}
	switch {
	case r.closed:
	case left > 0:
		r.idle.Reset(stale)
	default:
		r.idle = nil
	}
}

// Close gives everything back and returns when nothing is being read any more.
// Nobody may be in ReadAt.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed = true
	if r.idle != nil {
		r.idle.Stop()
	}
	for _, s := range r.streams {
		r.dropIf(s, func(*piece) bool { return true })
	}
	r.streams = nil
	r.mu.Unlock()
	r.work.Wait()
}
