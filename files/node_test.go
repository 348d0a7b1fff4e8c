package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// fake is a file in memory whose stores take a while, so that they overtake each
// other if they can.
type fake struct {
	mu     sync.Mutex
	data   []byte
	writes atomic.Int64
	delay  func(off int64) time.Duration
	fail   func(off int64) error
}

func (f *fake) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := copy(p, f.data[min(off, int64(len(f.data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *fake) WriteAt(p []byte, off int64) (int, error) {
	f.writes.Add(1)
	if f.delay != nil {
		time.Sleep(f.delay(off))
	}
	if f.fail != nil {
		if err := f.fail(off); err != nil {
			return 0, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := int(off) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	return copy(f.data[off:], p), nil
}

func (f *fake) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = append(f.data, make([]byte, max(0, int(size)-len(f.data)))...)[:size]
	return nil
}
func (f *fake) SetAttributes(time.Time, uint32) error { return nil }
func (f *fake) SetState(volume.FileState) error       { return nil }
func (f *fake) Flush() error                          { return nil }
func (f *fake) Close() error                          { return nil }

// alone is a service without an engine, and a node over f.
func alone(t testing.TB, f content, pieces int) *node {
	s := New(Options{})
	s.pieces = newPieces(pieces)
	home := newFolder(s, "vm", "", nil)
	n := home.adopt(f, &volume.FileStatus{ID: 1})
	n.links.Store(1)
	t.Cleanup(func() {
		if err := n.drop(); err != nil {
			t.Error(err)
		}
		if s.pieces.inUse() != 0 {
			t.Error("pieces are still out")
		}
	})
	return n
}

// Pairs of adjacent writes that overlap, none waited for, end as if applied one
// after the other.
func TestOverlappingPairs(t *testing.T) {
	const pairs, width = 20_000, 96
	f := &fake{delay: func(off int64) time.Duration { return time.Duration(off%64/63) * 100 * time.Microsecond }}
	n := alone(t, f, 4)
	r := seeded(t)
	want := make([]byte, 2<<20+width)
	write := func(off int, tag uint32) {
		p := make([]byte, width)
		for i := 0; i < len(p); i += 4 {
			binary.LittleEndian.PutUint32(p[i:], tag)
		}
		copy(want[off:], p)
		if _, err := n.write(p, int64(off), false); err != nil {
			t.Fatal(err)
		}
	}
	n.write(want[len(want)-1:], int64(len(want)-1), false)
	for i := range pairs {
		off := r.IntN(len(want) - width - width/2)
		write(off, uint32(2*i+1))
		write(off+r.IntN(width/2), uint32(2*i+2))
	}
	if err := n.finish(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.data, want) {
		t.Error("writes were applied in another order")
	}
}

// A stream of data with small rewrites of headers between reaches the volume in
// whole pieces.
func TestGatherAroundRewrites(t *testing.T) {
	f := &fake{}
	n := alone(t, f, maxPieces)
	data := make([]byte, 64<<10)
	const size = 64 << 20
	start := time.Now()
	for off := int64(1 << 20); off < size; off += int64(len(data)) {
		n.write(data, off, false)
		if off%(128<<10) == 0 {
			n.write(data[:8], off>>14, false) // a table grows
			n.write(data[:8], 24, false)      // and is counted
		}
	}
	if err := n.finish(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	// One per MiB of data, and the tables' piece whenever it became old.
	if got, most := f.writes.Load(), size>>20+8*(2+int64(took/agedFlush)); got > most {
		t.Errorf("%d writes reached the volume, want at most %d", got, most)
	}
}

// What nobody adds to or asks for is stored all the same.
func TestIdleFlush(t *testing.T) {
	f := &fake{}
	n := alone(t, f, 2)
	n.write([]byte("waiting"), 5, false)
	for deadline := time.Now().Add(10 * time.Second); n.s.pieces.inUse() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it still waits")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if string(f.data[5:]) != "waiting" {
		t.Errorf("%q", f.data)
	}
}

// Many files share few pieces, and all get on.
func TestPiecesShared(t *testing.T) {
	s := New(Options{})
	s.pieces = newPieces(3)
	home := newFolder(s, "vm", "", nil)
	var wg sync.WaitGroup
	for i := range 8 {
		f := &fake{delay: func(off int64) time.Duration { return time.Duration(off>>16&1) * 100 * time.Microsecond }}
		n := home.adopt(f, &volume.FileStatus{ID: uint64(i)})
		wg.Go(func() {
			want := make([]byte, 6<<20)
			for k := range 200 {
				off := int64(k*7919%96) << 16
				p := bytes.Repeat([]byte{byte(k + i)}, 70_000)[:min(70_000, len(want)-int(off))]
				copy(want[off:], p)
				n.write(p, off, false)
				if k%50 == 0 {
					got := make([]byte, len(p))
					if _, err := n.read(got, off); err != nil || !bytes.Equal(got, p) {
						t.Errorf("file %d reads differently: %v", i, err)
					}
				}
			}
			if err := n.drop(); err != nil || !bytes.Equal(f.data, want[:len(f.data)]) {
				t.Errorf("file %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if s.pieces.inUse() != 0 {
		t.Error("pieces are still out")
	}
}

// A write that is lost is told, stays told, and is forgotten when the file is emptied.
func TestLostWrite(t *testing.T) {
	broken := true
	f := &fake{fail: func(int64) error {
		if broken {
			return syscall.ENOSPC
		}
		return nil
	}}
	n := alone(t, f, 4)
	if _, err := n.write([]byte("x"), 0, false); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]error{"sync": n.sync(), "finish": n.finish(), "write": second(n.write([]byte("y"), 0, false))} {
		if !errors.Is(got, syscall.ENOSPC) {
			t.Errorf("%s: %v", what, got)
		}
	}
	broken = false
	if err := n.truncate(1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("truncate: %v", err)
	}
	if err := n.truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := n.write([]byte("z"), 0, false); err != nil {
		t.Error(err)
	}
	if err := n.sync(); err != nil || string(f.data) != "z" {
		t.Errorf("%v, %q", err, f.data)
	}
}

// Gathering neither copies twice nor allocates for each write.
func TestWriteAllocates(t *testing.T) {
	n := alone(t, &fake{}, maxPieces)
	p := make([]byte, 4096)
	n.write(p, 0, false)
	if got := testing.AllocsPerRun(100, func() { n.write(p, 8192, false) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// model is what a file should hold.
type model struct {
	data []byte
}

func (m *model) write(p []byte, off int) {
	if end := off + len(p); end > len(m.data) {
		m.data = append(m.data, make([]byte, end-len(m.data))...)
	}
	copy(m.data[off:], p)
}

func (m *model) truncate(n int) {
	if n > len(m.data) {
		m.data = append(m.data, make([]byte, n-len(m.data))...)
	}
	m.data = m.data[:n]
}

// Random histories of several handles, on a real store, against a model; now and
// then the server restarts.
func TestHistory(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	session, tree := w.job("vm")
	names := []string{"/a", "/b", "/d/c"}
	if err := tree.Mkdir("/d", 0o700); err != nil {
		t.Fatal(err)
	}
	models := map[string]*model{} // by name
	type open struct {
		f sftp.File
		m *model
	}
	var handles []open
	closeAll := func() {
		for _, h := range handles {
			if err := h.f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		handles = nil
	}
	check := func(h open) {
		t.Helper()
		if r.IntN(2) == 0 {
			a, err := h.f.Stat()
			if err != nil || a.Size != int64(len(h.m.data)) {
				t.Fatalf("size %d, want %d: %v", a.Size, len(h.m.data), err)
			}
		}
		off := r.IntN(len(h.m.data) + 1000)
		got := make([]byte, 1+r.IntN(200_000))
		n, err := h.f.ReadAt(got, int64(off))
		want := h.m.data[min(off, len(h.m.data)):min(off+len(got), len(h.m.data))]
		if !bytes.Equal(got[:n], want) || (n < len(got)) != errors.Is(err, io.EOF) || n == len(got) && err != nil {
			t.Fatalf("read of %d bytes at %d of %d: %d bytes, %v", len(got), off, len(h.m.data), n, err)
		}
	}
	for step := range 3000 {
		name := names[r.IntN(len(names))]
		if k := r.IntN(100); k < 8 || len(handles) == 0 {
			f, err := tree.Open(name, sftp.OpenFlags{Read: true, Write: true, Create: true}, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if models[name] == nil {
				models[name] = &model{}
			}
			handles = append(handles, open{f, models[name]})
			continue
		}
		i := r.IntN(len(handles))
		h := handles[i]
		switch k := r.IntN(100); {
		case k < 60:
			off := r.IntN(3 << 20)
			if r.IntN(2) == 0 {
				off = min(len(h.m.data), 3<<20)
			}
			p := noise(r, 1+r.IntN(1<<(1+r.IntN(17))))
			if r.IntN(4) == 0 {
				clear(p)
			}
			if _, err := h.f.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
			h.m.write(p, off)
		case k < 80:
			check(h)
		case k < 84:
			size := int64(r.IntN(3 << 20))
			if err := h.f.SetAttr(sftp.Changes{Size: &size}); err != nil {
				t.Fatal(err)
			}
			h.m.truncate(int(size))
		case k < 87:
			if err := h.f.Sync(); err != nil {
				t.Fatal(err)
			}
		case k < 93:
			if err := h.f.Close(); err != nil {
				t.Fatal(err)
			}
			handles = append(handles[:i], handles[i+1:]...)
		case k < 96:
			to := names[r.IntN(len(names))]
			if models[name] == nil || name == to {
				continue
			}
			if err := tree.Rename(name, to, true); err != nil {
				t.Fatal(err)
			}
			if models[name] != models[to] {
				models[to] = models[name]
				delete(models, name)
			}
		case k < 98:
			if models[name] == nil {
				continue
			}
			if err := tree.Remove(name); err != nil {
				t.Fatal(err)
			}
			delete(models, name)
		case k < 99:
			to := names[r.IntN(len(names))]
			if models[name] == nil || models[to] != nil {
				continue
			}
			if err := tree.Link(name, to); err != nil {
				t.Fatal(err)
			}
			models[to] = models[name]
		default:
			if step%5 > 0 {
				continue
			}
			closeAll()
			w.restart()
			tree = w.tree(session, fmt.Sprint("c", step))
			if models["/d/c"] == nil {
				tree.Mkdir("/d", 0o700)
			}
		}
	}
	closeAll()
	for name, m := range models {
		if got := w.get(tree, name); !bytes.Equal(got, m.data) {
			t.Errorf("%s differs in the end", name)
		}
	}
	if len(models) == 0 {
		return
	}
	got := w.commit(session)
	for name, m := range models {
		if !bytes.Equal(w.image(got.Point, name), m.data) {
			t.Errorf("%s differs in the point", name)
		}
	}
}

// Readers on other connections see each write as soon as it was answered.
func TestConcurrentReaders(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	f := w.open(tree, "/x", create)
	const size = 16 << 10
	var wg sync.WaitGroup
	var readers []chan int
	for i := range 3 {
		other := w.open(w.tree(session, fmt.Sprint("r", i)), "/x", readOnly)
		written := make(chan int, i) // the last ones run behind
		readers = append(readers, written)
		wg.Go(func() {
			p := make([]byte, size)
			for n := range written {
				if _, err := other.ReadAt(p, int64(n)*size); err != nil || p[0] != byte(n+1) || p[size-1] != byte(n+1) {
					t.Errorf("block %d: %d, %v", n, p[0], err)
				}
			}
			if err := other.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for n := range 200 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(n + 1)}, size), int64(n)*size); err != nil {
			t.Fatal(err)
		}
		for _, c := range readers {
			c <- n
		}
	}
	for _, c := range readers {
		close(c)
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
