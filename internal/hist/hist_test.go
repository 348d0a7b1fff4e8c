package hist

import (
	"testing"
	"time"
)

func TestObserveBoundaries(t *testing.T) {
	for _, c := range []struct {
		d      time.Duration
		bucket int
	}{
		{-time.Second, 0}, {0, 0}, {1, 0}, {time.Microsecond, 0},
		{time.Microsecond + 1, 1}, {2 * time.Microsecond, 1}, {3 * time.Microsecond, 2},
		{UpperBound(26), 26}, {UpperBound(26) + 1, Buckets}, {time.Hour, Buckets},
	} {
		var h H
		h.Observe(c.d)
		if s := h.Snapshot(); s.Counts[c.bucket] != 1 || s.Count() != 1 {
			t.Errorf("%v: counts %v, want one in bucket %d", c.d, s.Counts, c.bucket)
		}
	}
}
