package readahead

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// source is something to read, that counts and may fail at one place.
type source struct {
	data  []byte
	size  int64
	bad   int64 // -1: nowhere
	reads atomic.Int64
	now   atomic.Int64 // reads under way
	most  atomic.Int64 // of them at a time
}

var errBad = errors.New("damaged")

func (f *source) read(p []byte, off int64) error {
	f.reads.Add(1)
	n := f.now.Add(1)
	defer f.now.Add(-1)
	for m := f.most.Load(); n > m && !f.most.CompareAndSwap(m, n); m = f.most.Load() {
	}
	if off+int64(len(p)) > f.size {
		return errors.New("read beyond the end")
	}
	if f.bad >= off && f.bad < off+int64(len(p)) {
		return errBad
	}
	if f.data != nil {
		copy(p, f.data[off:])
	}
	return nil
}

func (f *source) reader(b *Budget) *Reader { return NewReader(f.read, f.size, b) }

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

func newSource(r *rand.Rand, n int) *source {
	f := &source{data: make([]byte, n), size: int64(n), bad: -1}
	for i := 0; i+8 < len(f.data); i += 64 {
		binary.LittleEndian.PutUint64(f.data[i:], r.Uint64())
	}
	return f
}

func emptied(t *testing.T, b *Budget) {
	t.Helper()
	if n := b.InUse(); n != 0 {
		t.Errorf("%d bytes are still out", n)
	}
}

// Requests in and out of order, of several clients at once, read what is there,
// whatever is read ahead, and the budget holds.
func TestHistory(t *testing.T) {
	rng := seeded(t)
	f := newSource(rng, 9<<20+777)
	for _, budget := range []int64{0, 2 * pieceSize, 1 << 30} {
		b := NewBudget(budget, 2)
		r := f.reader(b)
		var clients sync.WaitGroup
		for range 3 {
			rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
			clients.Go(func() { client(t, rng, f, r, b, budget) })
		}
		clients.Wait()
		r.Close()
		emptied(t, b)
	}
}

func client(t *testing.T, rng *rand.Rand, f *source, r *Reader, b *Budget, budget int64) {
	off, size := int64(0), int64(len(f.data))
	for range 300 {
		switch rng.IntN(20) {
		case 0:
			off = rng.Int64N(size)
		case 1:
			off = max(0, off-rng.Int64N(300_000)) // overtaken
		}
		p := make([]byte, min(1+rng.Int64N(200_000), size-off))
		if err := r.ReadAt(p, off); err != nil || !bytes.Equal(p, f.data[off:off+int64(len(p))]) {
			t.Errorf("budget %d: %d bytes at %d: %v", budget, len(p), off, err)
			return
		}
		if n := b.InUse(); n > budget {
			t.Errorf("%d bytes are out, the budget is %d", n, budget)
		}
		if off += int64(len(p)); off == size {
			off = 0
		}
	}
}

// Who reads on is read ahead for in big pieces, several of them in turns too; who
// jumps about is not.
func TestStreams(t *testing.T) {
	const part, far = 8 << 20, 1 << 30
	f := &source{size: maxStreams * far, bad: -1}
	b := NewBudget(1<<30, 2)
	p := make([]byte, 64<<10)
	for _, streams := range []int64{1, 4, maxStreams} {
		f.reads.Store(0)
		r := f.reader(b)
		for off := int64(0); off < part; off += int64(len(p)) {
			for s := range streams {
				if err := r.ReadAt(p, s*far+off); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.Close()
		if got, most := f.reads.Load(), streams*(part/pieceSize+maxPieces+startAfter); got > most {
			t.Errorf("%d streams: %d reads, want at most %d", streams, got, most)
		}
	}
	f.reads.Store(0)
	r := f.reader(b)
	for i := range int64(64) {
		if err := r.ReadAt(p, i*5*7919*4096%far); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	if got := f.reads.Load(); got > 70 {
		t.Errorf("%d reads for 64 requests", got)
	}
	emptied(t, b)
}

// Damage fails the requests it concerns, and no others.
func TestDamage(t *testing.T) {
	f := newSource(rand.New(rand.NewPCG(1, 1)), 8<<20)
	f.bad = 4<<20 + 100
	b := NewBudget(64<<20, 2)
	r := f.reader(b)
	p := make([]byte, 64<<10)
	for off := int64(0); off < int64(len(f.data)); off += int64(len(p)) {
		err := r.ReadAt(p, off)
		if hit := off == 4<<20; hit != errors.Is(err, errBad) || !hit && err != nil {
			t.Errorf("at %d: %v", off, err)
		}
	}
	r.Close()
	emptied(t, b)
}

// Many readers together keep to the budget and to as many reads at a time as
// there are cores.
func TestBudget(t *testing.T) {
	f := newSource(rand.New(rand.NewPCG(1, 1)), 16<<20)
	b := NewBudget(4*pieceSize, 2)
	var readers []*Reader
	p := make([]byte, 256<<10)
	for range 6 {
		readers = append(readers, f.reader(b))
	}
	for off := int64(0); off < int64(len(f.data)); off += int64(len(p)) {
		for _, r := range readers {
			if err := r.ReadAt(p, off); err != nil {
				t.Fatal(err)
			}
			if n := b.InUse(); n > 4*pieceSize {
				t.Fatalf("%d bytes are out", n)
			}
		}
	}
	for _, r := range readers {
		r.Close()
	}
	if most := f.most.Load(); most > 3 { // two that read ahead, and the request
		t.Errorf("%d reads at a time", most)
	}
	emptied(t, b)
}

// A client that keeps all cores busy itself is not read ahead for.
func TestBusy(t *testing.T) {
	f := newSource(rand.New(rand.NewPCG(1, 1)), 16<<20)
	b := NewBudget(64<<20, 2)
	r := f.reader(b)
	b.asking.Add(1) // somebody else's request, all the time
	p := make([]byte, 256<<10)
	for off := int64(0); off < int64(len(f.data)); off += int64(len(p)) {
		if err := r.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := f.reads.Load(), int64(len(f.data)/len(p)); got != want {
		t.Errorf("%d reads for %d requests", got, want)
	}
	r.Close()
}

// Close returns when nothing is being read any more, and what was not begun is
// not begun then.
func TestCloseWhileReading(t *testing.T) {
	f := newSource(rand.New(rand.NewPCG(1, 1)), 16<<20)
	b := NewBudget(64<<20, 1)
	r := f.reader(b)
	b.slots <- struct{}{} // somebody else reads ahead: this reader's pieces wait
	p := make([]byte, 64<<10)
	for off := range int64(startAfter) {
		if err := r.ReadAt(p, off*int64(len(p))); err != nil {
			t.Fatal(err)
		}
	}
	if b.asking.Load() != 0 {
		t.Fatal("a request is still counted")
	}
	closed := make(chan struct{})
	before := f.reads.Load()
	go func() { r.Close(); close(closed) }()
	select {
	case <-closed:
		if b.InUse() != 0 {
			t.Error("closed while a piece waits")
		}
	case <-time.After(10 * time.Millisecond):
	}
	<-b.slots
	<-closed
	if got := f.reads.Load(); got != before {
		t.Errorf("%d pieces were read for nobody", got-before)
	}
	emptied(t, b)
}

// A stream that stands still gives its pieces back, and is read ahead for again
// when it goes on.
func TestStandstill(t *testing.T) {
	f := newSource(rand.New(rand.NewPCG(1, 1)), 16<<20)
	b := NewBudget(64<<20, 2)
	r := f.reader(b)
	p := make([]byte, 64<<10)
	off := int64(0)
	on := func(n int) {
		for range n {
			if err := r.ReadAt(p, off); err != nil || !bytes.Equal(p, f.data[off:off+int64(len(p))]) {
				t.Fatal(err)
			}
			off += int64(len(p))
		}
	}
	on(8)
	r.expire(time.Now().Add(time.Hour))
	r.work.Wait()
	emptied(t, b)
	on(8)
	if b.InUse() == 0 {
		t.Error("it goes on, and is not read ahead for")
	}
	r.Close()
	emptied(t, b)
}
