package catalog

import (
	"cmp"
	"slices"
)

// span is n consecutive numbers from first on, by times, with a tag.
type span struct {
	first uint64
	n     uint32
	tag   uint32
	by    int32
}

func (s *span) end() uint64 { return s.first + uint64(s.n) }

// spans gathers what lies in a window [from, to) of all numbers, in bounded
// memory: when there is too much, the window's end is drawn in, and the rest is
// left for the next window.
type spans struct {
	items    []span
	limit    int
	from, to uint64
	active   []span
}

// window begins to gather anew.
func (s *spans) window(from uint64) { s.items, s.from, s.to = s.items[:0], from, noEnd }

// whole tells whether nothing is left for another window.
func (s *spans) whole() bool { return s.to == noEnd }

const noEnd = 1 << 63

// add takes the part of x inside the window.
func (s *spans) add(x span) {
	first, end := max(x.first, s.from), min(x.end(), s.to)
	if first >= end {
		return
	}
	x.first, x.n = first, uint32(end-first)
	if k := len(s.items) - 1; k >= 0 && s.items[k].end() == first && s.items[k].tag == x.tag && s.items[k].by == x.by && s.items[k].joins(&x) {
		s.items[k].n += x.n
		return
	}
	s.items = append(s.items, x)
	if len(s.items) >= max(s.limit, 1) {
		s.shrink()
	}
}

// joins tells whether y may be one with x, which it follows: slots of two packs
// may not, and one window's length must fit.
func (x *span) joins(y *span) bool {
	return y.first&(pageSlots-1) != 0 && uint64(x.n)+uint64(y.n) < 1<<31
}

// shrink makes room. When all begins at one number it has to grow instead.
func (s *spans) shrink() {
	s.sort()
	if len(s.items) <= s.limit/2 {
		return
	}
	s.to = s.items[len(s.items)/2].first
	if s.to == s.from {
		s.to++
	}
	k, _ := slices.BinarySearchFunc(s.items, s.to, func(x span, to uint64) int { return cmp.Compare(x.first, to) })
	s.items = s.items[:k]
	for i := range s.items {
		if x := &s.items[i]; x.end() > s.to {
			x.n = uint32(s.to - x.first)
		}
	}
	s.sort() // what was cut may be equal now
	if len(s.items) > s.limit/4*3 {
		s.limit *= 2
	}
}

// sort brings the spans in order and makes one of equal ones.
func (s *spans) sort() {
	slices.SortFunc(s.items, func(a, b span) int {
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		if a.tag != b.tag {
			return cmp.Compare(a.tag, b.tag)
		}
		return cmp.Compare(a.n, b.n)
	})
	out := s.items[:0]
	for _, x := range s.items {
		if k := len(out) - 1; k >= 0 && out[k].first == x.first && out[k].tag == x.tag && out[k].n == x.n {
			out[k].by += x.by
			continue
		}
		out = append(out, x)
	}
	s.items = out
}

// sweep calls visit for all numbers any span covers, in order, in ranges that
// every span covers whole or not at all, with the spans that do, by tag.
func (s *spans) sweep(visit func(first uint64, n uint32, over []span) error) error {
	s.sort()
	active, at := s.active[:0], uint64(0)
	for rest := s.items; len(rest) > 0 || len(active) > 0; {
		if len(active) == 0 {
			at = rest[0].first
		}
		for len(rest) > 0 && rest[0].first == at {
			i, _ := slices.BinarySearchFunc(active, rest[0].tag, func(x span, tag uint32) int { return cmp.Compare(x.tag, tag) })
			active = slices.Insert(active, i, rest[0])
			rest = rest[1:]
		}
		next := active[0].end()
		for i := range active {
			next = min(next, active[i].end())
		}
		if len(rest) > 0 {
			next = min(next, rest[0].first)
		}
		if err := visit(at, uint32(next-at), active); err != nil {
			return err
		}
		active = slices.DeleteFunc(active, func(x span) bool { return x.end() == next })
		at = next
	}
	s.active = active
	return nil
}
