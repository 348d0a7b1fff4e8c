package volume

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/readahead"
)

// readsThrough reads an image in order and compares it.
func readsThrough(t *testing.T, x *Image, want []byte, from, step int) {
	got := make([]byte, step)
	for off := from; off < len(want); off += step {
		got = got[:min(step, len(want)-off)]
		if _, err := x.ReadAt(got, int64(off)); err != nil || !bytes.Equal(got, want[off:off+len(got)]) {
			t.Errorf("%d bytes at %d: %v, or other bytes", len(got), off, err)
			return
		}
	}
}

// TestReadAheadBesideCollections: readers that are read ahead for read what the
// image holds, while its point goes and packs are written anew under them.
func TestReadAheadBesideCollections(t *testing.T) {
	w := newWorld(t)
	w.m.ahead = readahead.NewBudget(3<<20, 4)
	const size = 12 << 20
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size), Mode: "full"})
	w.write(d, 0, size, 1)
	old := w.commit(st.Session).Point
	st, d = w.begin(StartRequest{VM: "vm", Disks: oneDisk(size), Mode: "incremental"})
	for off := int64(0); off < size; off += 3 * dedup.BlockSize {
		w.write(d, off, dedup.BlockSize, uint64(off+2))
	}
	last := w.commit(st.Session).Point

	var readers sync.WaitGroup
	for _, point := range []string{old, last} {
		want := w.imageContent(point, "vda")
		x := w.image(point)
		defer x.Close()
		for i, step := range []int{4 << 10, 64 << 10, 200_000} {
			readers.Go(func() { readsThrough(t, x, want, i*4<<20, step) })
		}
	}
	read := make(chan struct{})
	go func() { readers.Wait(); close(read) }()
	w.must(w.m.Remove(last))
	for going := true; going; {
		w.collect()
		select {
		case <-read:
			going = false
		default:
			runtime.Gosched()
		}
	}
	if w.store.Stats().Collections == 0 {
		t.Error("nothing was collected meanwhile")
	}
}

// TestCloseWaitsForReadAhead: as long as something is read ahead, the point stays
// pinned.
func TestCloseWaitsForReadAhead(t *testing.T) {
	w := newWorld(t)
	const size = 4 << 20
	point := w.point(size, 1)
	x, err := w.m.OpenImage(point, "vda")
	w.must(err)
	b, gate, begun := readahead.NewBudget(64<<20, 2), make(chan struct{}), make(chan struct{}, 100)
	x.ahead.Close()
	x.ahead = readahead.NewReader(func(p []byte, off int64) error {
		if len(p) > 4096 { // ahead
			begun <- struct{}{}
			<-gate
		}
		return x.read(p, off)
	}, size, b)
	got := make([]byte, 4096)
	for off := int64(0); len(begun) == 0; off += 4096 {
		if off == size {
			t.Fatal("nothing was read ahead")
		}
		if b.InUse() > 0 {
			<-begun // it is under way
			break
		}
		_, err := x.ReadAt(got, off)
		w.must(err)
	}
	closed := make(chan struct{})
	go func() {
		x.Close()
		close(closed)
	}()
	for range 100 {
		select {
		case <-closed:
			t.Fatal("the image was closed while it was read ahead")
		default:
			runtime.Gosched()
		}
		if !w.m.Pinned(point) {
			t.Fatal("the point is not pinned while it is read ahead")
		}
	}
	close(gate)
	<-closed
	if w.m.Pinned(point) || b.InUse() != 0 {
		t.Errorf("closed, and pinned (%v) or %d bytes are out", w.m.Pinned(point), b.InUse())
	}
}

// TestReadAheadSharesItsBudget: images together are read ahead no further than
// Options say, or not at all.
func TestReadAheadSharesItsBudget(t *testing.T) {
	w := newWorld(t)
	const size = 8<<20 + 1024
	point := w.point(size, 1)
	want := w.imageContent(point, "vda")
	for _, most := range []int64{-1, 1 << 20} {
		w.m.ahead = readahead.NewBudget(most, 2)
		var readers sync.WaitGroup
		for range 4 {
			x, err := w.m.OpenImage(point, "vda")
			w.must(err)
			readers.Go(func() {
				defer x.Close()
				step := 1000 + rand.IntN(100_000)
				for off := 0; off < len(want); off += 1 << 20 {
					readsThrough(t, x, want[:min(len(want), off+1<<20)], off, step)
					if n := w.m.Stats().ReadAheadBytes; n > max(0, most) {
						t.Errorf("%d bytes are read ahead, more than %d", n, most)
					}
				}
			})
		}
		readers.Wait()
		if n := w.m.Stats().ReadAheadBytes; n != 0 {
			t.Errorf("%d bytes are still out", n)
		}
	}
}
