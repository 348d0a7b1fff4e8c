package nbdtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
)

// minSuiteSize is the smallest disk TestDevice works on.
const minSuiteSize = 1 << 20

// TestDevice checks that a writable device keeps the promises of nbd.Device.
// open opens the same disk again and again, of at least 1 MiB, with any
// content; several devices may be open at once. The suite closes what it opens.
func TestDevice(t *testing.T, open func() nbd.Device) {
	t.Helper()
	s := &suite{open: open}
	for name, f := range map[string]func(*testing.T){
		"Size": s.size, "Boundaries": s.boundaries, "ZeroBoundaries": s.zeroBoundaries,
		"SliceNotKept": s.sliceNotKept, "Siblings": s.siblings, "Lanes": s.lanes,
		"ExtentsStop": s.extentsStop, "History": s.history, "EmptyRanges": s.emptyRanges,
	} {
		t.Run(name, f)
	}
}

// TestReadOnlyDevice checks a device that shows fixed content.
func TestReadOnlyDevice(t *testing.T, open func() nbd.Device, want []byte) {
	t.Helper()
	d := open()
	defer closeDevice(t, d)
	if d.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", d.Size(), len(want))
	}
	var wg sync.WaitGroup
	for _, step := range []int{len(want), 1 << 20, 65536, 65535, 4096 * 3} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for off := 0; off < len(want); off += step {
				n := min(step, len(want)-off)
				mustRead(t, d, int64(off), want[off:off+n])
			}
		}()
	}
	wg.Wait()
	size := int64(len(want))
	for _, r := range [][2]int64{{0, size}, {1, size - 1}, {size / 2, size - size/2}, {size / 3, size / 3}, {size - 1, 1}} {
		checkExtents(t, d, r[0], r[1], want)
	}
}

type suite struct{ open func() nbd.Device }

func closeDevice(t testing.TB, d nbd.Device) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// with opens a device for a test.
func (s *suite) with(t *testing.T) nbd.Device {
	t.Helper()
	d := s.open()
	t.Cleanup(func() { closeDevice(t, d) })
	if d.Size() < minSuiteSize {
		t.Fatalf("the device has %d bytes, the suite needs %d", d.Size(), minSuiteSize)
	}
	return d
}

func mustWrite(t testing.TB, d nbd.Device, off int64, p []byte) {
	t.Helper()
	if n, err := d.WriteAt(p, off); err != nil || n != len(p) {
		t.Errorf("WriteAt %d+%d: %d, %v", off, len(p), n, err)
	}
}

func mustZero(t testing.TB, d nbd.Device, off, n int64) {
	t.Helper()
	if err := d.Zero(off, n); err != nil {
		t.Errorf("Zero %d+%d: %v", off, n, err)
	}
}

func mustRead(t testing.TB, d nbd.Device, off int64, want []byte) {
	t.Helper()
	got := bytes.Repeat([]byte{0xEE}, len(want))
	if n, err := d.ReadAt(got, off); n != len(want) {
		t.Errorf("ReadAt %d+%d: %d, %v", off, len(want), n, err)
		return
	}
	if i := difference(got, want); i >= 0 {
		t.Errorf("ReadAt %d+%d: byte %d is %#x, want %#x", off, len(want), off+int64(i), got[i], want[i])
	}
}

func difference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// fill makes n bytes of which none is zero.
func fill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) + byte(i>>9) + seed
		if b[i] == 0 {
			b[i] = 0x5A
		}
	}
	return b
}

func (s *suite) size(t *testing.T) {
	a, b := s.with(t), s.with(t)
	if a.Size() != b.Size() {
		t.Errorf("sizes %d and %d", a.Size(), b.Size())
	}
}

// edges are ranges at places where implementations change their way.
func edges(size int64) (l [][2]int64) {
	for _, edge := range []int64{0, 512, 4096, 65536, 2 * 65536, 64 << 20, 128 << 20, size} {
		for _, off := range []int64{edge - 65536, edge - 513, edge - 1, edge, edge + 1} {
			for _, n := range []int64{1, 2, 511, 512, 4096, 65535, 65536, 65537, 200_000} {
				if off >= 0 && n <= size-off && off <= size {
					l = append(l, [2]int64{off, n})
				}
			}
		}
	}
	return l
}

func (s *suite) boundaries(t *testing.T) {
	d := s.with(t)
	for i, r := range edges(d.Size()) {
		p := fill(int(r[1]), byte(i))
		mustWrite(t, d, r[0], p)
		mustRead(t, d, r[0], p)
		checkExtents(t, d, r[0], r[1], nil)
		if t.Failed() {
			return
		}
	}
}

// zeroBoundaries checks that neighbours of a zeroed range stay.
func (s *suite) zeroBoundaries(t *testing.T) {
	d := s.with(t)
	const margin = 1000
	for i, r := range edges(d.Size()) {
		from := max(0, r[0]-margin)
		to := min(d.Size(), r[0]+r[1]+margin)
		want := fill(int(to-from), byte(i))
		mustWrite(t, d, from, want)
		mustZero(t, d, r[0], r[1])
		clear(want[r[0]-from : r[0]-from+r[1]])
		mustRead(t, d, from, want)
		if t.Failed() {
			return
		}
	}
	mustZero(t, d, 0, d.Size())
	mustRead(t, d, 0, make([]byte, minSuiteSize))
	checkExtents(t, d, 0, d.Size(), nil)
}

func (s *suite) sliceNotKept(t *testing.T) {
	d := s.with(t)
	p := fill(100_000, 1)
	mustWrite(t, d, 3, p)
	clear(p)
	mustRead(t, d, 3, fill(100_000, 1))
}

// siblings see each other's writes at once, and one flushes for all.
func (s *suite) siblings(t *testing.T) {
	a, b := s.with(t), s.with(t)
	for i := range 10 {
		p := fill(70_000, byte(i))
		mustWrite(t, a, int64(i)*1000, p)
		mustRead(t, b, int64(i)*1000, p)
		mustZero(t, b, int64(i)*1000, 500)
		mustRead(t, a, int64(i)*1000, make([]byte, 500))
		if err := b.Flush(); err != nil {
			t.Fatalf("Flush: %v", err)
		}
	}
}

// lanes are written and read at the same time without touching each other,
// although they share blocks.
func (s *suite) lanes(t *testing.T) {
	d := s.with(t)
	const lanes, lane = 8, 100_000
	var wg sync.WaitGroup
	for l := range lanes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(l)))
			base := int64(l) * lane
			model := make([]byte, lane)
			mustZero(t, d, base, lane)
			for range 40 {
				off := rnd.IntN(lane)
				n := 1 + rnd.IntN(lane-off)
				switch rnd.IntN(4) {
				case 0:
					mustZero(t, d, base+int64(off), int64(n))
					clear(model[off : off+n])
				case 1:
					if err := d.Flush(); err != nil {
						t.Errorf("Flush: %v", err)
					}
				default:
					p := fill(n, byte(rnd.Int()))
					mustWrite(t, d, base+int64(off), p)
					copy(model[off:], p)
				}
				mustRead(t, d, base, model)
			}
		}()
	}
	wg.Wait()
}

func (s *suite) extentsStop(t *testing.T) {
	d := s.with(t)
	mustZero(t, d, 0, minSuiteSize)
	for i := int64(0); i < minSuiteSize; i += 2 * 65536 {
		mustWrite(t, d, i, fill(65536, 1))
	}
	calls := 0
	if err := d.Extents(0, minSuiteSize, func(int64, bool) bool { calls++; return calls < 3 }); err != nil || calls != 3 {
		t.Errorf("Extents went on for %d calls, want 3 (%v)", calls, err)
	}
}

// emptyRanges must do nothing.
func (s *suite) emptyRanges(t *testing.T) {
	d := s.with(t)
	for _, off := range []int64{0, 1, d.Size()} {
		mustWrite(t, d, off, nil)
		mustRead(t, d, off, nil)
		mustZero(t, d, off, 0)
	}
}

// history runs random operations against a plain slice.
func (s *suite) history(t *testing.T) {
	const seed, size = 4711, minSuiteSize
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	d := s.with(t)
	model := make([]byte, size)
	mustZero(t, d, 0, size)
	for i := range 300 {
		off := rnd.IntN(size)
		n := 1 + rnd.IntN(min(size-off, 1<<(4+rnd.IntN(15))))
		if rnd.IntN(3) == 0 { // mostly aligned, as guests write
			off, n = off/4096*4096, min((n+4095)/4096*4096, size-off/4096*4096)
		}
		switch rnd.IntN(6) {
		case 0:
			mustZero(t, d, int64(off), int64(n))
			clear(model[off : off+n])
		case 1:
			mustRead(t, d, int64(off), model[off:off+n])
		case 2:
			checkExtents(t, d, int64(off), int64(n), model)
		case 3:
			p := make([]byte, n) // zeroes written as data
			mustWrite(t, d, int64(off), p)
			clear(model[off : off+n])
		default:
			p := fill(n, byte(i))
			mustWrite(t, d, int64(off), p)
			copy(model[off:], p)
		}
		if t.Failed() {
			t.Fatalf("operation %d", i)
		}
	}
	mustRead(t, d, 0, model)
	checkExtents(t, d, 0, size, model)
}

// checkExtents holds Extents against its contract: the range is covered
// exactly, neighbours differ, and what is called zero reads as zero. content
// is the whole disk when it is known, else the device is read.
func checkExtents(t testing.TB, d nbd.Device, off, n int64, content []byte) {
	t.Helper()
	at := off
	var last string
	err := d.Extents(off, n, func(length int64, zero bool) bool {
		kind := fmt.Sprint(zero)
		if length <= 0 || length > off+n-at || kind == last {
			t.Errorf("Extents %d+%d: extent of %d at %d, zero %v after %q", off, n, length, at, zero, last)
			return false
		}
		last = kind
		if zero {
			zeroes(t, d, at, length, content)
		}
		at += length
		return true
	})
	if err != nil || at != off+n && !t.Failed() {
		t.Errorf("Extents %d+%d ended at %d: %v", off, n, at, err)
	}
}

func zeroes(t testing.TB, d nbd.Device, off, n int64, content []byte) {
	t.Helper()
	n = min(n, 8<<20) // enough of a large hole
	got := make([]byte, n)
	if content != nil {
		copy(got, content[off:off+n])
	} else if k, err := d.ReadAt(got, off); int64(k) != n {
		t.Errorf("ReadAt %d+%d: %d, %v", off, n, k, err)
	}
	if i := difference(got, make([]byte, n)); i >= 0 {
		t.Errorf("Extents calls byte %d zero, it is %#x", off+int64(i), got[i])
	}
}
