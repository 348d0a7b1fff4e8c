package volume

import (
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
)

// TestSplit checks on all edges that head, blocks and tail cover a range once.
func TestSplit(t *testing.T) {
	const b = dedup.BlockSize
	for _, size := range []int64{1, b - 1, b, b + 1, 3*b - 1, 3 * b, 3*b + 100} {
		edges := []int64{0, 1, b - 1, b, b + 1, 2 * b, 3*b - 1, 3 * b, 3*b + 99, size}
		for _, off := range edges {
			for _, end := range edges {
				if off >= end || end > size {
					continue
				}
				head, tail, first, last := split(off, end, size)
				at := off
				if head.off < head.end {
					if head.off != at || head.end-head.off >= b {
						t.Fatalf("size %d [%d,%d): head %v", size, off, end, head)
					}
					at = head.end
				}
				if first < last {
					if first*b != at {
						t.Fatalf("size %d [%d,%d): blocks from %d, covered to %d", size, off, end, first*b, at)
					}
					at = min(last*b, size)
				}
				if tail.off < tail.end {
					if tail.off != at || tail.end-tail.off >= b {
						t.Fatalf("size %d [%d,%d): tail %v", size, off, end, tail)
					}
					at = tail.end
				}
				if at != end || first > last {
					t.Fatalf("size %d [%d,%d): covered to %d (head %v, blocks [%d,%d), tail %v)", size, off, end, at, head, first, last, tail)
				}
			}
		}
	}
}
