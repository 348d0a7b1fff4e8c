package crashfs

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestBehavesLikeTheRealOne runs random operations here and on the operating
// system and compares every result.
func TestBehavesLikeTheRealOne(t *testing.T) {
	rng := seeded(t)
	for range 40 {
		pair := &twins{t: t, mem: New(), dir: t.TempDir()}
		for range 150 {
			pair.step(rng)
		}
		pair.compareTrees("")
		pair.closeAll()
	}
}

type twins struct {
	t        *testing.T
	mem      *FS
	dir      string
	mfs, ofs []vfs.File
}

func (p *twins) real(name string) string { return filepath.Join(p.dir, name) }

func pick(rng *rand.Rand) string {
	names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "x/y/z"}
	return names[rng.IntN(len(names))]
}

func (p *twins) step(rng *rand.Rand) {
	name, other := pick(rng), pick(rng)
	what := fmt.Sprintf("%s %s", name, other)
	same := func(op string, f func(fs vfs.FS, path func(string) string) error) {
		p.t.Helper()
		mem := f(p.mem, func(s string) string { return s })
		os := f(vfs.Default, p.real)
		if class(mem) != class(os) {
			p.t.Fatalf("%s %s: here %v, the system %v", op, what, mem, os)
		}
	}
	switch rng.IntN(12) {
	case 0:
		p.open("create", func(fs vfs.FS, path func(string) string) (vfs.File, error) {
			return fs.Create(path(name), vfs.WriteCategoryUnspecified)
		})
	case 1:
		p.open("open rw", func(fs vfs.FS, path func(string) string) (vfs.File, error) {
			return fs.OpenReadWrite(path(name), vfs.WriteCategoryUnspecified)
		})
	case 2:
		p.open("open", func(fs vfs.FS, path func(string) string) (vfs.File, error) { return fs.Open(path(name)) })
	case 3:
		p.open("reuse", func(fs vfs.FS, path func(string) string) (vfs.File, error) {
			return fs.ReuseForWrite(path(name), path(other), vfs.WriteCategoryUnspecified)
		})
	case 4:
		same("remove", func(fs vfs.FS, path func(string) string) error { return fs.Remove(path(name)) })
	case 5:
		if rng.IntN(4) == 0 {
			same("remove all", func(fs vfs.FS, path func(string) string) error { return fs.RemoveAll(path(name)) })
		}
	case 6:
		same("rename", func(fs vfs.FS, path func(string) string) error { return fs.Rename(path(name), path(other)) })
	case 7:
		same("link", func(fs vfs.FS, path func(string) string) error { return fs.Link(path(name), path(other)) })
	case 8:
		same("mkdir", func(fs vfs.FS, path func(string) string) error { return fs.MkdirAll(path(name), 0o755) })
	case 9:
		same("list", func(fs vfs.FS, path func(string) string) error { _, err := fs.List(path(name)); return err })
	default:
		p.use(rng)
	}
}

// class reduces an error to what callers ask of it.
func class(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, os.ErrNotExist):
		return "not exist"
	case errors.Is(err, os.ErrExist):
		return "exist"
	case errors.Is(err, io.EOF):
		return "eof"
	}
	return "error"
}

func (p *twins) open(op string, f func(fs vfs.FS, path func(string) string) (vfs.File, error)) {
	m, merr := f(p.mem, func(s string) string { return s })
	o, oerr := f(vfs.Default, p.real)
	if class(merr) != class(oerr) {
		p.t.Fatalf("%s: here %v, the system %v", op, merr, oerr)
	}
	if merr == nil {
		p.mfs, p.ofs = append(p.mfs, m), append(p.ofs, o)
	}
}

// use does the same thing with a pair of handles.
func (p *twins) use(rng *rand.Rand) {
	if len(p.mfs) == 0 {
		return
	}
	i, kind := rng.IntN(len(p.mfs)), rng.IntN(5)
	n, off := 1+rng.IntN(9000), rng.Int64N(20000)
	data := make([]byte, n)
	for j := range data {
		data[j] = byte(rng.Uint32())
	}
	mbuf, mn, merr := useHandle(p.mfs[i], kind, slices.Clone(data), off)
	obuf, on, oerr := useHandle(p.ofs[i], kind, slices.Clone(data), off)
	if class(merr) != class(oerr) || mn != on || string(mbuf) != string(obuf) {
		p.t.Fatalf("handle use %d, %d bytes at %d: here %d, %v, the system %d, %v", kind, n, off, mn, merr, on, oerr)
	}
	if kind == 4 {
		p.mfs, p.ofs = slices.Delete(p.mfs, i, i+1), slices.Delete(p.ofs, i, i+1)
	}
}

func useHandle(f vfs.File, kind int, data []byte, off int64) ([]byte, int, error) {
	var n int
	var err error
	switch kind {
	case 0:
		n, err = f.Write(data)
		return nil, n, err
	case 1:
		n, err = f.WriteAt(data, off)
		return nil, n, err
	case 2:
		n, err = f.Read(data)
	case 3:
		n, err = f.ReadAt(data, off)
	case 4:
		return nil, 0, f.Close()
	}
	return data[:n], n, err
}

func (p *twins) compareTrees(dir string) {
	m, err := p.mem.List(dir)
	must(p.t, err)
	o, err := vfs.Default.List(p.real(dir))
	must(p.t, err)
	slices.Sort(m)
	slices.Sort(o)
	if !slices.Equal(m, o) {
		p.t.Fatalf("%q lists %v here, %v on the system", dir, m, o)
	}
	for _, name := range m {
		name = filepath.Join(dir, name)
		mi, err := p.mem.Stat(name)
		must(p.t, err)
		oi, err := vfs.Default.Stat(p.real(name))
		must(p.t, err)
		if mi.IsDir() != oi.IsDir() || !mi.IsDir() && mi.Size() != oi.Size() || mi.Name() != oi.Name() {
			p.t.Fatalf("%s: %v %d here, %v %d on the system", name, mi.IsDir(), mi.Size(), oi.IsDir(), oi.Size())
		}
		if mi.IsDir() {
			p.compareTrees(name)
			continue
		}
		b, err := os.ReadFile(p.real(name))
		must(p.t, err)
		if text(p.t, p.mem, name) != string(b) {
			p.t.Fatalf("%s differs", name)
		}
	}
}

func (p *twins) closeAll() {
	for i := range p.mfs {
		must(p.t, p.mfs[i].Close())
		must(p.t, p.ofs[i].Close())
	}
}

func TestClosedHandle(t *testing.T) {
	f := create(t, New(), "f", "x")
	must(t, f.Close())
	if _, err := f.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

func TestLocks(t *testing.T) {
	fs := New()
	durable(t, fs, "LOCK", "left over")
	l, err := fs.Lock("LOCK")
	must(t, err)
	if got := text(t, fs, "LOCK"); got != "" {
		t.Errorf("a lock file holds %q", got)
	}
	must(t, l.Close())
	_, err = fs.Lock("/LOCK")
	must(t, err)
	must(t, l.Close()) // stale: must not free the new one
	if _, err := fs.Lock("LOCK"); err == nil {
		t.Error("a lock was given twice")
	}
	if _, err := fs.Lock("no/dir"); !os.IsNotExist(err) {
		t.Errorf("lock in a missing directory: %v", err)
	}
}

// TestConcurrentUse is for the race detector: writers, readers, renames and
// clones at the same time.
func TestConcurrentUse(t *testing.T) {
	fs := New()
	must(t, fs.MkdirAll("d", 0))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() { hammer(t, fs, fmt.Sprintf("d/%d", w)) })
	}
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 30 {
			hammer(t, fs.Crash(rng, Random), "f")
			_, err := fs.List("d")
			must(t, err)
		}
	})
	wg.Wait()
}

func hammer(t *testing.T, fs *FS, name string) {
	for i := range 50 {
		f, err := fs.Create(name, "")
		if err != nil {
			t.Error(err)
			return
		}
		f.Write([]byte(strings.Repeat("x", 100*i)))
		f.Sync()
		f.ReadAt(make([]byte, 50), 10)
		f.Close()
		fs.Rename(name, name+"x")
	}
}

func BenchmarkWriteSync(b *testing.B) {
	buf := make([]byte, 64<<10)
	b.SetBytes(64 << 20)
	for range b.N {
		fs := New()
		f, err := fs.Create("pack", "")
		must(b, err)
		for range 1024 {
			f.Write(buf)
			f.SyncData()
		}
	}
}

func BenchmarkSmallAppendSync(b *testing.B) {
	f, err := New().Create("log", "")
	must(b, err)
	buf := make([]byte, 200)
	for range b.N {
		f.Write(buf)
		f.Sync()
	}
}

func BenchmarkCrash(b *testing.B) {
	fs := New()
	buf := make([]byte, 64<<10)
	for i := range 100 {
		f := create(b, fs, fmt.Sprint(i), "x")
		f.Write(buf)
		if i > 10 {
			f.Sync()
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b.ResetTimer()
	for range b.N {
		fs.Crash(rng, Random)
	}
}
