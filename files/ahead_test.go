package files

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"
)

// flaky is a source that fails at one place, and counts.
type flaky struct {
	data  []byte
	bad   int64 // -1: nowhere
	reads atomic.Int64
}

var errFlaky = errors.New("damaged")

func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	f.reads.Add(1)
	if f.bad >= off && f.bad < off+int64(len(p)) {
		return 0, errFlaky
	}
	return copy(p, f.data[off:]), nil
}

// Requests in and out of order read what is there, whatever is read ahead.
func TestAheadHistory(t *testing.T) {
	r := seeded(t)
	src := &flaky{data: noise(r, 5<<20+777), bad: -1}
	for _, budget := range []int{0, 2, maxAhead} {
		b := newAheadBudget(budget)
		a := newAhead(src, int64(len(src.data)), b)
		off := int64(0)
		for range 2000 {
			switch r.IntN(20) {
			case 0:
				off = r.Int64N(int64(len(src.data)))
			case 1:
				off = max(0, off-r.Int64N(300_000)) // overtaken
			}
			p := make([]byte, 1+r.IntN(70_000))
			n, err := a.ReadAt(p, off)
			want := src.data[min(off, int64(len(src.data))):min(off+int64(len(p)), int64(len(src.data)))]
			if !bytes.Equal(p[:n], want) || (n < len(p)) != (err == io.EOF) || n == len(p) && err != nil {
				t.Fatalf("budget %d: %d bytes at %d: %d, %v", budget, len(p), off, n, err)
			}
			if off += int64(n); err == io.EOF {
				off = 0
			}
		}
		a.close()
		if b.inUse() != 0 {
			t.Errorf("budget %d: %d are still out", budget, b.inUse())
		}
	}
}

// Who reads on is read ahead for in big pieces; who jumps about is not.
func TestAheadCounts(t *testing.T) {
	src := &flaky{data: make([]byte, 16<<20), bad: -1}
	b := newAheadBudget(maxAhead)
	a := newAhead(src, int64(len(src.data)), b)
	p := make([]byte, 64<<10)
	for off := int64(0); off < int64(len(src.data)); off += int64(len(p)) {
		a.ReadAt(p, off)
	}
	a.close()
	if got, most := src.reads.Load(), int64(len(src.data)/aheadPiece+4); got > most {
		t.Errorf("%d reads, want at most %d", got, most)
	}
	src.reads.Store(0)
	a = newAhead(src, int64(len(src.data)), b)
	for i := range int64(64) {
		a.ReadAt(p, i*7919*4096%(15<<20))
	}
	a.close()
	if got := src.reads.Load(); got > 70 {
		t.Errorf("%d reads for 64 requests", got)
	}
}

// Damage fails the requests it concerns, and no others.
func TestAheadDamage(t *testing.T) {
	src := &flaky{data: make([]byte, 4<<20), bad: 2<<20 + 100}
	b := newAheadBudget(maxAhead)
	a := newAhead(src, int64(len(src.data)), b)
	p := make([]byte, 64<<10)
	for off := int64(0); off < int64(len(src.data)); off += int64(len(p)) {
		_, err := a.ReadAt(p, off)
		if hit := off == 2<<20; hit != errors.Is(err, errFlaky) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	a.close()
}
