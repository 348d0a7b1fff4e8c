package inplace

import (
	"cmp"
	"slices"
	"sync"
)

// span is the bytes from off to end.
type span struct{ off, end int64 }

// Ranges is a set of byte ranges of a disk. It never loses a byte that was
// added, but has others too: ranges are rounded outwards to 4 KiB, and when there
// are more than a million of them to as much more as it takes. It is safe for
// concurrent use.
type Ranges struct {
	mu     sync.Mutex
	size   int64
	list   []span
	max    int
	grain  int64 // a power of two
	sorted bool  // list is ascending, and no two of it touch
}

// NewRanges is an empty set for a disk of size bytes.
func NewRanges(size int64) *Ranges {
	return &Ranges{size: size, max: rangesMax, grain: pieceBytes, sorted: true}
}

// Add adds the part of [off, off+n) that is within the disk. n may be negative.
func (r *Ranges) Add(off, n int64) {
	off, end := max(off, 0), min(off, r.size)+min(max(n, 0), r.size)
	end = min(end, r.size)
	if off >= end {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(r.round(span{off, end}))
}

func (r *Ranges) round(s span) span {
	s.off -= s.off % r.grain
	if s.end = min(s.end, r.size); s.end%r.grain != 0 {
		s.end = min(s.end-s.end%r.grain+r.grain, r.size)
	}
	return s
}

func (r *Ranges) add(s span) {
	if len(r.list) > 0 {
		last := &r.list[len(r.list)-1]
		if s.off >= last.off && s.off <= last.end {
			last.end = max(last.end, s.end)
			return
		}
		if s.off < last.off {
			r.sorted = false
		}
	}
	if len(r.list) >= r.max {
		r.tidy()
		for len(r.list) > r.max/2 {
			r.coarsen()
		}
		s = r.round(s)
		r.sorted = false // s may touch what is there by now
	}
	r.list = append(r.list, s)
}

// tidy sorts, and joins what touches.
func (r *Ranges) tidy() {
	if r.sorted {
		return
	}
	slices.SortFunc(r.list, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	out := r.list[:0]
	for _, s := range r.list {
		if n := len(out); n > 0 && s.off <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, s.end)
			continue
		}
		out = append(out, s)
	}
	r.list, r.sorted = out, true
}

func (r *Ranges) coarsen() {
	r.grain *= 2
	for i, s := range r.list {
		r.list[i] = r.round(s)
	}
	r.sorted = false
	r.tidy()
}

// Join adds what another set has. The other one must not change meanwhile.
func (r *Ranges) Join(other *Ranges) {
	for _, s := range other.spans() {
		r.Add(s.off, s.end-s.off)
	}
}

// spans is the set, ascending. It must not change while it is used.
func (r *Ranges) spans() []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tidy()
	return r.list
}

// Len is the number of ranges.
func (r *Ranges) Len() int { return len(r.spans()) }

// Bytes is how many bytes the ranges have.
func (r *Ranges) Bytes() (n int64) {
	for _, s := range r.spans() {
		n += s.end - s.off
	}
	return n
}

// Each calls yield for each range, ascending, until it returns an error. Nothing
// may be added meanwhile.
func (r *Ranges) Each(yield func(off, n int64) error) error {
	for _, s := range r.spans() {
		if err := yield(s.off, s.end-s.off); err != nil {
			return err
		}
	}
	return nil
}
