package catalog

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// span is n consecutive numbers from first on, by times, with a tag.
type span struct {
	first uint64
	tag   uint32
	n     uint16
	by    int16
}

func (s *span) end() uint64 { return s.first + uint64(s.n) }

// spans gathers what lies in a window [from, to) of all numbers, in bounded
// memory: when there is too much, the window's end is drawn in, and the rest is
// left for the next window.
type spans struct {
	items    []span
	spare    []span // for sorting
	limit    int    // of items
	from, to uint64
	active   []span
}

const noEnd = 1 << 63

// window begins to gather anew.
func (s *spans) window(from uint64) { s.items, s.from, s.to = s.items[:0], from, noEnd }

// whole tells whether nothing is left for another window.
func (s *spans) whole() bool { return s.to == noEnd }

// add takes the part of n numbers from first on that is inside the window.
func (s *spans) add(first, n uint64, tag uint32, by int16) {
	end := min(first+n, s.to)
	for first = max(first, s.from); first < end; {
		n := min(end-first, math.MaxUint16)
		s.put(span{first: first, n: uint16(n), tag: tag, by: by})
		first += n
		end = min(end, s.to)
	}
}

func (s *spans) put(x span) {
	if k := len(s.items) - 1; k >= 0 && s.items[k].joins(&x) {
		s.items[k].n += x.n
		return
	}
	s.items = append(s.items, x)
	if len(s.items) >= s.limit {
		s.shrink()
	}
}

// joins tells whether y may be one with x. Slots of two packs may not.
func (x *span) joins(y *span) bool {
	return x.end() == y.first && x.tag == y.tag && x.by == y.by && y.first&(pageSlots-1) != 0 &&
		int(x.n)+int(y.n) <= math.MaxUint16
}

// shrink makes room: by drawing in the window's end, else by making one of
// equal spans, else by taking more memory.
func (s *spans) shrink() {
	s.to = max(s.median(), s.from+1)
	s.cut()
	if len(s.items) <= s.limit/4*3 {
		return
	}
	s.sort()
	if len(s.items) > s.limit/4*3 {
		s.limit *= 2
	}
}

// median is about that of the spans' beginnings.
func (s *spans) median() uint64 {
	const looks = 511
	var seen [looks]uint64
	for i := range seen {
		seen[i] = s.items[i*len(s.items)/looks].first
	}
	slices.Sort(seen[:])
	return seen[looks/2]
}

// cut drops what is outside the window.
func (s *spans) cut() {
	out := s.items[:0]
	for _, x := range s.items {
		if x.first >= s.to {
			continue
		}
		x.n = uint16(min(uint64(x.n), s.to-x.first))
		out = append(out, x)
	}
	s.items = out
}

// sort brings the spans in order and makes one of equal ones.
func (s *spans) sort() {
	s.order()
	out := s.items[:0]
	for rest := s.items; len(rest) > 0; {
		k := 1
		for k < len(rest) && rest[k].first == rest[0].first {
			k++
		}
		if k > 1 {
			slices.SortFunc(rest[:k], func(a, b span) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.n, b.n)) })
		}
		start := len(out)
		for _, x := range rest[:k] {
			out = append(out, x)
			if i := len(out) - 2; i >= start && out[i].sums(&x) {
				out[i].by += x.by
				out = out[:i+1]
			}
		}
		rest = rest[k:]
	}
	s.items = out
}

// sums tells whether y can be added to x.
func (x *span) sums(y *span) bool {
	by := int(x.by) + int(y.by)
	return x.tag == y.tag && x.n == y.n && by >= math.MinInt16 && by <= math.MaxInt16
}

// order sorts by first, in passes of eleven bits over those that differ.
func (s *spans) order() {
	const digit = 11
	if len(s.items) < 1<<digit {
		slices.SortFunc(s.items, func(a, b span) int { return cmp.Compare(a.first, b.first) })
		return
	}
	differ := uint64(0)
	for i := range s.items {
		differ |= s.items[i].first ^ s.items[0].first
	}
	s.spare = slices.Grow(s.spare[:0], len(s.items))[:len(s.items)]
	for shift := 0; shift < bits.Len64(differ); shift += digit {
		if differ>>shift&(1<<digit-1) == 0 {
			continue
		}
		var at [1 << digit]int
		for i := range s.items {
			at[s.items[i].first>>shift&(1<<digit-1)]++
		}
		sum := 0
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for i := range s.items {
			d := s.items[i].first >> shift & (1<<digit - 1)
			s.spare[at[d]] = s.items[i]
			at[d]++
		}
		s.items, s.spare = s.spare, s.items
	}
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
		kept := active[:0]
		for _, x := range active {
			if x.end() != next {
				kept = append(kept, x)
			}
		}
		active, at = kept, next
	}
	s.active = active
	return nil
}
