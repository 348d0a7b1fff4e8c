// Package hist is a lock-free latency histogram for hot paths.
//
// Buckets are fixed powers of two of a microsecond, from 1 µs to about 67 s,
// so that Observe is one bit scan and two atomic adds. The metrics package
// turns a Snapshot into a Prometheus histogram; nothing here knows of it.
package hist

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is the number of finite buckets. Bucket i counts observations of at
// most 2^i microseconds; slower ones are counted only in the total.
const Buckets = 27

// H is a histogram. The zero value is ready. It must not be copied.
type H struct {
	counts [Buckets + 1]atomic.Uint64
	nanos  atomic.Uint64
}

// Observe counts one duration; a negative one counts as zero.
func (h *H) Observe(d time.Duration) {
	d = max(d, 0)
	us := uint64((d + time.Microsecond - 1) / time.Microsecond)
	i := 0
	if us > 1 {
		i = min(bits.Len64(us-1), Buckets)
	}
	h.counts[i].Add(1)
	h.nanos.Add(uint64(d))
}

// Since counts the time from start to now.
func (h *H) Since(start time.Time) { h.Observe(time.Since(start)) }

// Snapshot is a histogram's state; Counts are per bucket, not cumulative.
type Snapshot struct {
	Counts [Buckets + 1]uint64
	Sum    time.Duration
}

// Count is the number of observations.
func (s Snapshot) Count() (n uint64) {
	for _, c := range s.Counts {
		n += c
	}
	return n
}

// UpperBound is the inclusive upper bound of finite bucket i.
func UpperBound(i int) time.Duration { return time.Duration(1<<i) * time.Microsecond }

// Snapshot reads the histogram; concurrent observations may be half counted.
func (h *H) Snapshot() (s Snapshot) {
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	s.Sum = time.Duration(h.nanos.Load())
	return s
}
