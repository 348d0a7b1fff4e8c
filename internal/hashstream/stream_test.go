package hashstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a Source in memory; blocks that are zero are told as such.
type disk struct {
	content []byte
	bad     int64 // reads that touch this offset fail, if it is not negative
	reads   atomic.Int64
	open    atomic.Int64
	most    atomic.Int64
}

var errBad = errors.New("this block is damaged")

func (d *disk) Size() int64 { return int64(len(d.content)) }

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.most.Store(max(d.most.Load(), d.open.Add(1)))
	defer d.open.Add(-1)
	d.reads.Add(int64(len(p)))
	if d.bad >= off && d.bad < off+int64(len(p)) {
		return 0, errBad
	}
	return copy(p, d.content[off:]), nil
}

func (d *disk) Extents(off, n int64, yield func(int64, bool) bool) error {
	for n > 0 {
		k := min(n, BlockSize-off%BlockSize)
		if !yield(k, len(bytes.Trim(d.content[off:off+k], "\x00")) == 0) {
			break
		}
		off, n = off+k, n-k
	}
	return nil
}

// newDisk has data in about half of its blocks.
func newDisk(size int) *disk {
	d := &disk{content: make([]byte, size), bad: -1}
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	for off := 0; off < size; off += BlockSize {
		if rng.IntN(40) > 0 && off/BlockSize%60 < 30 {
			for i := off; i < min(off+BlockSize, size); i += 97 {
				d.content[i] = byte(rng.Uint32()) | 1
			}
		}
	}
	return d
}

func tell(err error) FailureError {
	return FailureError{Text: err.Error(), Damage: errors.Is(err, errBad)}
}

func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, BlockSize, BlockSize + 1, 3<<20 - 512, windowBytes + 5*BlockSize + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			d := newDisk(size)
			var stream bytes.Buffer
			if err := Send(t.Context(), &stream, d, tell); err != nil {
				t.Fatal(err)
			}
			if d.most.Load() > ahead+2 {
				t.Errorf("%d reads at once", d.most.Load())
			}
			check(t, &stream, d.content)
		})
	}
}

// check compares a stream with content.
func check(t *testing.T, stream io.Reader, content []byte) {
	t.Helper()
	r, err := NewReader(stream, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	next := int64(0)
	for {
		run, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if run.First != next || run.Hashes != nil && int64(len(run.Hashes)) != run.Count {
			t.Fatalf("run %d+%d with %d hashes; block %d is next", run.First, run.Count, len(run.Hashes), next)
		}
		for i := range run.Count {
			off := (run.First + i) * BlockSize
			block := content[off:min(off+BlockSize, int64(len(content)))]
			zero := len(bytes.Trim(block, "\x00")) == 0
			if run.Hashes == nil && !zero || run.Hashes != nil && run.Hashes[i] != HashBlock(block) {
				t.Fatalf("block %d is told wrong", run.First+i)
			}
		}
		next += run.Count
	}
	if next != Blocks(int64(len(content))) {
		t.Fatalf("%d blocks were told, of %d", next, Blocks(int64(len(content))))
	}
}

// drain reads a stream to its end.
func drain(stream []byte, size int64) error {
	r, err := NewReader(bytes.NewReader(stream), size)
	for err == nil {
		_, err = r.Next()
	}
	return err
}

// A stream that lacks bytes anywhere, or has one changed, never passes for whole.
func TestDamagedStream(t *testing.T) {
	d := newDisk(40*BlockSize - 100)
	var b bytes.Buffer
	if err := Send(t.Context(), &b, d, tell); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for n := range whole {
		if err := drain(whole[:n], d.Size()); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
		bad := slices.Clone(whole)
		bad[n] ^= 0x10
		var failure *FailureError
		if err := drain(bad, d.Size()); !errors.Is(err, ErrMalformed) && !errors.As(err, &failure) {
			t.Fatalf("with byte %d changed: %v", n, err)
		}
	}
	if err := drain(append(slices.Clone(whole), 0), d.Size()); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a byte behind: %v", err)
	}
	if err := drain(whole, d.Size()+1); !errors.Is(err, ErrMalformed) {
		t.Errorf("of another disk: %v", err)
	}
}

// Records that are moved or left out are noticed, though each is whole.
func TestRecordsInOrder(t *testing.T) {
	var b bytes.Buffer
	w, _ := NewWriter(&b, 4*BlockSize)
	at := []int{b.Len()}
	for i := range 4 {
		w.Hashes([]Hash{{byte(i)}})
		at = append(at, b.Len())
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	s := b.Bytes()
	swapped := slices.Concat(s[:at[1]], s[at[2]:at[3]], s[at[1]:at[2]], s[at[3]:])
	if err := drain(swapped, 4*BlockSize); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	if err := drain(s, 4*BlockSize); err != io.EOF {
		t.Error(err)
	}
}

func TestFailureIsTold(t *testing.T) {
	d := newDisk(100 * BlockSize)
	d.content[70*BlockSize] = 1
	d.bad = 70 * BlockSize
	var b bytes.Buffer
	if err := Send(t.Context(), &b, d, tell); !errors.Is(err, errBad) {
		t.Fatal(err)
	}
	err := drain(b.Bytes(), d.Size())
	var f *FailureError
	if !errors.As(err, &f) || !f.Damage || f.Text != errBad.Error() {
		t.Fatal(err)
	}
}

func TestSendEnds(t *testing.T) {
	d := newDisk(windowBytes)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Send(ctx, io.Discard, d, tell); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	gone := errors.New("the client went away")
	if err := Send(t.Context(), &failing{n: 3, err: gone}, d, tell); !errors.Is(err, gone) {
		t.Errorf("client gone: %v", err)
	}
}

type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestMisuse(t *testing.T) {
	w, _ := NewWriter(io.Discard, 3*BlockSize)
	if w.Zeros(4) == nil || w.End() == nil {
		t.Error("blocks beyond the disk were taken")
	}
	w, _ = NewWriter(io.Discard, 3*BlockSize)
	if w.Zeros(2) != nil || w.End() == nil {
		t.Error("an end was taken too early")
	}
	if _, err := NewWriter(io.Discard, sizeMax+1); err == nil {
		t.Error("a disk that is too large")
	}
}

// FuzzReader reads whatever comes: no panic, and a stream that ends well has told
// every block once.
func FuzzReader(f *testing.F) {
	const size = 33*BlockSize - 9
	var b bytes.Buffer
	w, _ := NewWriter(&b, size)
	w.Zeros(2)
	w.Hashes(make([]Hash, 3))
	w.Zeros(28)
	w.End()
	f.Add(b.Bytes())
	b.Reset()
	w, _ = NewWriter(&b, size)
	w.Zeros(1)
	w.Fail(FailureError{Text: "no\x00"})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		r, err := NewReader(bytes.NewReader(stream), size)
		told := int64(0)
		for err == nil {
			var run Run
			if run, err = r.Next(); err == nil && run.First != told {
				t.Fatalf("run at %d after %d blocks", run.First, told)
			}
			told += run.Count
		}
		if err == io.EOF && told != Blocks(size) {
			t.Fatalf("%d blocks", told)
		}
	})
}

func BenchmarkHashBlock(b *testing.B) {
	block := make([]byte, BlockSize)
	b.SetBytes(BlockSize)
	for b.Loop() {
		HashBlock(block)
	}
}
