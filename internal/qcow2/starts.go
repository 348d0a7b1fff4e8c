package qcow2

import "slices"

// starts checks that compressed clusters do not overlap. They may begin at any
// byte and share sectors, so that a bit per cluster does not tell; and all their
// places at once would be too much memory. So they are counted by ranges of the
// file first, and then compared range by range, startsMax at most at a time:
// once through the tables for nearly all images.
type starts struct {
	q       *Reader
	most    int64                // at a time
	shift   int                  // of a range's length
	ranges  [startBuckets]uint32 // how many begin in each
	total   int64
	minimum int64 // bytes to which a cluster can be compressed, at best
}

func newStarts(q *Reader) *starts {
	s := &starts{q: q, most: startsMax, minimum: minPacked(q.h.Compression, q.ClusterSize())}
	for q.fileSize>>s.shift >= startBuckets {
		s.shift++
	}
	return s
}

// minPacked is the least number of bytes that decompress to n. Deflate makes 258
// bytes of two bits at best. zstd repeats a byte for a block of 128 KiB at most, in
// four bytes, after a frame header of six.
func minPacked(method string, n int64) int64 {
	if method == compressedZstd {
		return 6 + 4*divUp(n, 128<<10)
	}
	return divUp(n, 258*4)
}

// count notes that a compressed cluster begins at host; false if too many do near
// it, more than there is room for.
func (s *starts) count(host int64) bool {
	s.total++
	n := &s.ranges[host>>s.shift]
	*n++
	return int64(*n) <= s.most
}

// check compares all that were counted.
func (s *starts) check() error {
	if s.total == 0 {
		return nil
	}
	for first := 0; first < startBuckets; {
		n, next := s.group(first)
		if err := s.compare(int64(first)<<s.shift, int64(next)<<s.shift, n); err != nil {
			return err
		}
		first = next
	}
	return nil
}

// group returns the end of the ranges from first on, one at least, in which most
// begin at most, and how many do.
func (s *starts) group(first int) (n int64, next int) {
	n, next = int64(s.ranges[first]), first+1
	for next < startBuckets && n+int64(s.ranges[next]) <= s.most {
		n += int64(s.ranges[next])
		next++
	}
	return n, next
}

// place is where a compressed cluster is: its first byte, below 2^51 because of
// hostClustersMax, above its number of sectors less one, below 2^13.
type place uint64

const placeSectors = 13

func placeOf(c cluster) place {
	return place(c.host)<<placeSectors | place((c.packed-1)/sectorSize)
}

func (p place) start() int64 { return int64(p >> placeSectors) }

// end is how far the bytes go at least: to the first of the last sector.
func (p place) end() int64 {
	sectors := int64(p & (1<<placeSectors - 1))
	return max(p.start(), p.start()/sectorSize*sectorSize+sectors*sectorSize) + 1
}

// compare looks at the n compressed clusters that begin from low to high.
func (s *starts) compare(low, high, n int64) error {
	if n == 0 {
		return nil
	}
	list := make([]place, 0, n)
	err := s.q.scan(0, s.q.Size(), visitor{
		hole:  func(int64, int64) error { return nil },
		table: func(int64, int64) error { return nil },
		cluster: func(c cluster, at, _, _ int64) error {
			if c.packed == 0 || c.host < low || c.host >= high {
				return nil
			}
			if int64(len(list)) == n {
				return malformed(at, "the tables changed while they were read")
			}
			list = append(list, placeOf(c))
			return nil
		},
	})
	if err != nil {
		return err
	}
	slices.Sort(list)
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; b.start() < max(a.end(), a.start()+s.minimum) {
			return malformed(b.start(), "the compressed clusters at %d and %d overlap", a.start(), b.start())
		}
	}
	return nil
}
