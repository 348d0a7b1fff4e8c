package overlayfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/internal/overlayfs/stone"
)

var files = []string{"/r/a", "/r/b", "/r/d/a", "/r/d/b", "/r/d/e/a", "/r/n/a", "/r/n"}

var dirs = []string{"/r", "/r/d", "/r/d/e", "/r/n", "/r/a"}

func seed(t *testing.T) uint64 {
	n := rand.Uint64()
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", n)
	return n
}

// TestLikeOneLayer does random things on an overlay and on a single file system
// that began with the same files.
func TestLikeOneLayer(t *testing.T) {
	n := seed(t)
	for round := range uint64(300) {
		rng := rand.New(rand.NewPCG(n, round))
		below, single := crashfs.New(), crashfs.New()
		for _, m := range []vfs.FS{below, single} {
			build(t, m)
		}
		root := ""
		above := crashfs.New()
		if round%2 == 0 {
			root = "/scratch"
			if err := above.MkdirAll(root, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		before := tree(t, below, "/r")
		p := pair{t, New(stone.FS{FS: below, Fail: t.Errorf}, above, root), single}
		for range 60 {
			p.step(rng)
			if t.Failed() {
				t.Fatalf("round %d", round)
			}
		}
		if a, b := tree(t, p.over, "/r"), tree(t, p.single, "/r"); a != b {
			t.Fatalf("round %d: the overlay holds\n%swant\n%s", round, a, b)
		}
		if after := tree(t, below, "/r"); after != before {
			t.Fatalf("round %d: the layer below was\n%sand is\n%s", round, before, after)
		}
	}
}

func build(t *testing.T, m vfs.FS) {
	if err := m.MkdirAll("/r/d/e", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files[:5] {
		write(t, m, name, "old "+name)
	}
}

func write(t *testing.T, m vfs.FS, name, text string) {
	t.Helper()
	f, err := m.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// tree is all names under a directory with what they hold.
func tree(t *testing.T, m vfs.FS, dir string) string {
	names, err := m.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		path := m.PathJoin(dir, name)
		info, err := m.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			fmt.Fprintf(&b, "%s/\n%s", path, tree(t, m, path))
			continue
		}
		fmt.Fprintf(&b, "%s %q\n", path, read(t, m, path))
	}
	return b.String()
}

func read(t *testing.T, m vfs.FS, path string) string {
	t.Helper()
	f, err := m.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type pair struct {
	t            *testing.T
	over, single vfs.FS
}

func (p pair) same(what string, f func(vfs.FS) error) {
	p.t.Helper()
	a, b := f(p.over), f(p.single)
	if (a == nil) != (b == nil) || errors.Is(a, fs.ErrNotExist) != errors.Is(b, fs.ErrNotExist) {
		p.t.Errorf("%s: %v on the overlay, want %v", what, a, b)
	}
}

// agree is same for what names two files: either may be what is wrong.
func (p pair) agree(what string, f func(vfs.FS) error) {
	p.t.Helper()
	a, b := f(p.over), f(p.single)
	if (a == nil) != (b == nil) {
		p.t.Errorf("%s: %v on the overlay, want %v", what, a, b)
	}
}

func (p pair) isDir(name string) bool {
	info, err := p.single.Stat(name)
	return err == nil && info.IsDir()
}

func (p pair) step(rng *rand.Rand) {
	one, two := files[rng.IntN(len(files))], files[rng.IntN(len(files))]
	dir := dirs[rng.IntN(len(dirs))]
	text := fmt.Sprint(rng.IntN(1000))
	switch rng.IntN(11) {
	case 0:
		if !p.isDir(one) {
			p.same("create "+one, func(m vfs.FS) error { return put(m.Create(one, vfs.WriteCategoryUnspecified))(text) })
		}
	case 1:
		if !p.isDir(one) {
			p.same("write "+one, func(m vfs.FS) error { return put(m.OpenReadWrite(one, vfs.WriteCategoryUnspecified))(text) })
		}
	case 2:
		if !p.isDir(one) && !p.isDir(two) && one != two {
			p.agree("rename "+one+" "+two, func(m vfs.FS) error { return m.Rename(one, two) })
		}
	case 3:
		if !p.isDir(one) && !p.isDir(two) && one != two {
			p.agree("reuse "+one+" "+two, func(m vfs.FS) error { return put(m.ReuseForWrite(one, two, vfs.WriteCategoryUnspecified))(text) })
		}
	case 4:
		if !p.isDir(one) {
			p.agree("link "+one+" "+two, func(m vfs.FS) error { return m.Link(one, two) })
		}
	case 5:
		p.same("remove "+one, func(m vfs.FS) error { return m.Remove(one) })
	case 6:
		if dir != "/r" {
			p.same("remove "+dir, func(m vfs.FS) error { return m.Remove(dir) })
		}
	case 7:
		if dir != "/r" && rng.IntN(3) == 0 {
			p.same("remove all "+dir, func(m vfs.FS) error { return m.RemoveAll(dir) })
		}
	case 8:
		p.same("mkdir "+dir, func(m vfs.FS) error { return m.MkdirAll(dir, 0o700) })
	case 9:
		p.same("stat "+one, func(m vfs.FS) error { _, err := m.Stat(one); return err })
	case 10:
		p.same("sync "+dir, func(m vfs.FS) error {
			d, err := m.OpenDir(dir)
			if err != nil {
				return err
			}
			return errors.Join(d.Sync(), d.Close())
		})
	}
}

// put writes text into a file just opened and closes it.
func put(f vfs.File, err error) func(string) error {
	return func(text string) error {
		if err != nil {
			return err
		}
		_, werr := f.Write([]byte(text))
		return errors.Join(werr, f.SyncData(), f.Close())
	}
}

// TestOpenForReading checks that what is opened to be read cannot be written.
func TestOpenForReading(t *testing.T) {
	below := vfs.NewMem()
	build(t, below)
	over := New(stone.FS{FS: below, Fail: t.Errorf}, vfs.NewMem(), "")
	f, err := over.Open("/r/a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("written")
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written")
	}
	if err := f.Preallocate(0, 1); err == nil {
		t.Error("preallocated")
	}
	if whole, err := f.SyncTo(1); !whole || err != nil {
		t.Errorf("sync: %v, %v", whole, err)
	}
	if err := errors.Join(f.Sync(), f.SyncData()); err != nil {
		t.Error(err)
	}
}

// TestDatabase opens a database that lies below, writes to it, and finds both.
func TestDatabase(t *testing.T) {
	dir := t.TempDir()
	db := open(t, vfs.Default, filepath.Join(dir, "db"))
	if err := db.Set([]byte("old"), []byte("1"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, over := range []*FS{
		New(stone.FS{FS: vfs.Default, Fail: t.Errorf}, vfs.NewMem(), ""),
		New(stone.FS{FS: vfs.Default, Fail: t.Errorf}, vfs.Default, t.TempDir()),
	} {
		for _, key := range []string{"new", "newer"} {
			db := open(t, over, filepath.Join(dir, "db"))
			if _, closer, err := db.Get([]byte("old")); err != nil {
				t.Error(err)
			} else {
				closer.Close()
			}
			if err := errors.Join(db.Set([]byte(key), nil, pebble.Sync), db.Flush(), db.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

func open(t *testing.T, m vfs.FS, dir string) *pebble.DB {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FS: m, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
