package vma

import "math/bits"

const (
	pageBits  = 4096 // clusters: 256 MiB of a device
	pageWords = pageBits / 64
)

// page has a bit for each cluster that has come.
type page struct {
	words [pageWords]uint64
	count int
}

// full stands for every page without a bit missing, so that what comes in order
// takes no memory.
var full = &page{}

// seen knows which clusters of a device have come.
type seen struct {
	pages  map[uint32]*page
	count  int64
	recent *page // the page used last
	number uint32
}

// add notes a cluster; false when it has come before.
func (s *seen) add(cluster uint32) bool {
	n := cluster / pageBits
	if s.recent == nil || s.number != n {
		s.open(n)
	}
	if s.recent == full {
		return false
	}
	word, bit := &s.recent.words[cluster%pageBits/64], uint64(1)<<(cluster%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	s.count++
	if s.recent.count++; s.recent.count == pageBits {
		s.pages[n], s.recent = full, full
	}
	return true
}

func (s *seen) open(n uint32) {
	if s.pages == nil {
		s.pages = map[uint32]*page{}
	}
	s.recent, s.number = s.pages[n], n
	if s.recent == nil {
		s.recent = &page{}
		s.pages[n] = s.recent
	}
}

// missing is the first cluster that has not come. There is one.
func (s *seen) missing() int64 {
	for n := uint32(0); ; n++ {
		p := s.pages[n]
		if p == full {
			continue
		}
		if p == nil {
			return int64(n) * pageBits
		}
		for i, w := range p.words {
			if ^w != 0 {
				return int64(n)*pageBits + int64(i)*64 + int64(bits.TrailingZeros64(^w))
			}
		}
	}
}
