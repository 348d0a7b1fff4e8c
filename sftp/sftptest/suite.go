package sftptest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"

	"github.com/strongroom-backup/strongroom/sftp"
)

// Suite is what TestTree needs of a tree.
type Suite struct {
	// Open opens the same tree for a new connection; required.
	Open func(sftp.Conn) (sftp.Tree, error)
	// Dir is a writable folder in which nothing of the suite's lies, "/" when
	// empty.
	Dir string
	// Many is how many files a folder gets; default 300.
	Many int
	// NoLinks is for trees that refuse Link.
	NoLinks bool
}

// suite is one test of it, with the independent client.
type suite struct {
	Suite
	*testing.T
	server *Server
	c      *pkgsftp.Client
	dir    string
}

// TestTree checks over SSH, with a client that knows nothing of the server, that
// a tree keeps the promises of sftp.Tree. Each of its tests works in a folder of
// its own under Dir, and leaves it there.
func TestTree(t *testing.T, o Suite) {
	t.Helper()
	if o.Dir == "" {
		o.Dir = "/"
	}
	if o.Many == 0 {
		o.Many = 300
	}
	for _, test := range []struct {
		name string
		f    func(*suite)
	}{
		{"sizes", (*suite).sizes}, {"history", (*suite).history}, {"append", (*suite).appending},
		{"open", (*suite).opening}, {"truncate", (*suite).truncating}, {"rename", (*suite).renaming},
		{"remove", (*suite).removing}, {"link", (*suite).linking}, {"folders", (*suite).folders},
		{"listing", (*suite).listing}, {"attributes", (*suite).attributes}, {"space", (*suite).space},
		{"sharing", (*suite).sharing}, {"symlinks", (*suite).symlinks}, {"names", (*suite).names},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := Start(t, o.Open, nil)
			s := &suite{Suite: o, T: t, server: server, c: server.Dial(t), dir: path.Join(o.Dir, "suite-"+test.name)}
			s.must(s.c.Mkdir(s.dir))
			test.f(s)
		})
	}
}

// Seed is STRONGROOM_SEED or a new one; it is logged.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("STRONGROOM_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STRONGROOM_SEED: %v", err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", seed)
	return seed
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// fails checks that err is like want, or any error when want is nil.
func (s *suite) fails(what string, err, want error) {
	s.Helper()
	if err == nil || want != nil && !errors.Is(err, want) {
		s.Errorf("%s: %v; want an error like %v", what, err, want)
	}
}

func (s *suite) path(name string) string { return path.Join(s.dir, name) }

func (s *suite) put(name string, data []byte) {
	s.Helper()
	f, err := s.c.Create(s.path(name))
	s.must(err)
	_, err = f.Write(data)
	s.must(errors.Join(err, f.Close()))
}

func (s *suite) check(name string, want []byte) {
	s.Helper()
	f, err := s.c.Open(s.path(name))
	s.must(err)
	got, err := io.ReadAll(f)
	s.must(errors.Join(err, f.Close()))
	if !bytes.Equal(got, want) {
		s.Errorf("%s has %d bytes, want %d; or other ones", name, len(got), len(want))
	}
	if st, err := s.c.Stat(s.path(name)); err != nil || st.Size() != int64(len(want)) {
		s.Errorf("STAT of %s: %v, %v; want a size of %d", name, st, err, len(want))
	}
}

// pattern is n bytes that say where they are.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8 ^ i*7 + 1)
	}
	return b
}

func (s *suite) sizes() {
	for _, n := range []int{0, 1, 4095, 32767, 32768, 32769, 65535, 65536, 65537, 1<<20 + 1} {
		name := fmt.Sprint(n)
		s.put(name, pattern(n))
		s.check(name, pattern(n))
	}
}

// history does random things to a file and to bytes in memory.
func (s *suite) history() {
	rng := rand.New(rand.NewPCG(Seed(s.T), 1))
	const limit = 1 << 20
	var want []byte
	grow := func(n int) {
		if n > len(want) {
			want = append(want, make([]byte, n-len(want))...)
		}
	}
	f, err := s.c.OpenFile(s.path("f"), os.O_RDWR|os.O_CREATE)
	s.must(err)
	for range 300 {
		off, n := rng.IntN(limit), rng.IntN(100<<10)
		switch op := rng.IntN(10); {
		case op < 5:
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			_, err := f.WriteAt(data, int64(off))
			s.must(err)
			if n > 0 {
				grow(off + n)
				copy(want[off:], data)
			}
		case op < 6:
			s.must(f.Truncate(int64(off)))
			grow(off)
			want = want[:off:off]
		case op < 7:
			st, err := f.Stat()
			s.must(err)
			if st.Size() != int64(len(want)) {
				s.Fatalf("size %d, want %d", st.Size(), len(want))
			}
		default:
			got := make([]byte, n)
			n, err := f.ReadAt(got, int64(off))
			if err != nil && !errors.Is(err, io.EOF) {
				s.Fatal(err)
			}
			expected := want[min(off, len(want)):min(off+len(got), len(want))]
			if !bytes.Equal(got[:n], expected) {
				s.Fatalf("%d bytes at %d: other ones, or %d", len(expected), off, n)
			}
		}
	}
	s.must(f.Sync())
	s.must(f.Close())
	s.check("f", want)
}

func (s *suite) appending() {
	s.put("f", pattern(100))
	f, err := s.c.OpenFile(s.path("f"), os.O_WRONLY|os.O_APPEND)
	s.must(err)
	_, err = f.WriteAt([]byte("one"), 0)
	s.must(err)
	_, err = f.WriteAt([]byte("two"), 1000)
	s.must(errors.Join(err, f.Close()))
	s.check("f", append(pattern(100), "onetwo"...))
}

func (s *suite) opening() {
	_, err := s.c.Open(s.path("missing"))
	s.fails("open of nothing", err, fs.ErrNotExist)
	_, err = s.c.OpenFile(s.path("no/folder"), os.O_RDWR|os.O_CREATE)
	s.fails("create in no folder", err, fs.ErrNotExist)
	s.put("f", []byte("kept"))
	_, err = s.c.OpenFile(s.path("f"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	s.fails("exclusive create of a file that is there", err, nil)
	s.check("f", []byte("kept"))
	_, err = s.c.OpenFile(s.dir, os.O_RDWR)
	s.fails("open of a folder", err, nil)
	f, err := s.c.Open(s.path("f"))
	s.must(err)
	_, err = f.Write([]byte("x"))
	s.fails("write to a file open for reading", err, fs.ErrPermission)
	s.must(f.Close())
	f, err = s.c.OpenFile(s.path("f"), os.O_WRONLY)
	s.must(err)
	_, err = f.ReadAt(make([]byte, 1), 0)
	s.fails("read of a file open for writing", err, fs.ErrPermission)
	s.must(f.Close())
}

func (s *suite) truncating() {
	s.put("f", pattern(100000))
	f, err := s.c.OpenFile(s.path("f"), os.O_RDWR)
	s.must(err)
	s.must(f.Truncate(70001))
	s.check("f", pattern(70001))
	s.must(f.Truncate(140001))
	s.check("f", append(pattern(70001), make([]byte, 70000)...))
	s.must(f.Close())
	s.must(s.c.Truncate(s.path("f"), 3))
	s.check("f", pattern(3))
	f, err = s.c.OpenFile(s.path("f"), os.O_WRONLY|os.O_TRUNC)
	s.must(errors.Join(err, f.Close()))
	s.check("f", nil)
}

func (s *suite) renaming() {
	s.put("a", []byte("A"))
	s.put("b", []byte("B"))
	s.fails("RENAME over a file", s.c.Rename(s.path("a"), s.path("b")), nil)
	s.check("b", []byte("B"))
	s.fails("rename of nothing", s.c.PosixRename(s.path("none"), s.path("b")), fs.ErrNotExist)
	s.must(s.c.PosixRename(s.path("a"), s.path("b")))
	s.check("b", []byte("A"))
	_, err := s.c.Stat(s.path("a"))
	s.fails("the old name", err, fs.ErrNotExist)

	f, err := s.c.OpenFile(s.path("b"), os.O_RDWR)
	s.must(err)
	s.must(s.c.Rename(s.path("b"), s.path("c")))
	_, err = f.WriteAt([]byte("still open"), 0)
	s.must(errors.Join(err, f.Close()))
	s.check("c", []byte("still open"))
}

func (s *suite) removing() {
	s.fails("remove of nothing", s.c.Remove(s.path("none")), nil)
	s.put("f", []byte("content"))
	f, err := s.c.Open(s.path("f"))
	s.must(err)
	s.must(s.c.Remove(s.path("f")))
	_, err = s.c.Stat(s.path("f"))
	s.fails("a removed file", err, fs.ErrNotExist)
	got := make([]byte, 7)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "content" {
		s.Errorf("a removed file that is open: %q, %v", got, err)
	}
	s.must(f.Close())
	s.put("f", []byte("another"))
	s.check("f", []byte("another"))
}

func (s *suite) linking() {
	s.put("a", []byte("A"))
	err := s.c.Link(s.path("a"), s.path("b"))
	if s.NoLinks {
		s.fails("link", err, nil)
		return
	}
	s.must(err)
	s.fails("link over a file", s.c.Link(s.path("a"), s.path("b")), nil)
	f, err := s.c.OpenFile(s.path("b"), os.O_WRONLY)
	s.must(err)
	_, err = f.Write([]byte("changed"))
	s.must(errors.Join(err, f.Close()))
	s.check("a", []byte("changed"))
	s.must(s.c.Remove(s.path("a")))
	s.check("b", []byte("changed"))
}

func (s *suite) folders() {
	s.must(s.c.Mkdir(s.path("d")))
	s.fails("mkdir of a folder that is there", s.c.Mkdir(s.path("d")), nil)
	s.put("d/f", []byte("x"))
	if st, err := s.c.Stat(s.path("d")); err != nil || !st.IsDir() {
		s.Errorf("STAT of a folder: %v, %v", st, err)
	}
	s.fails("rmdir of a full folder", s.c.RemoveDirectory(s.path("d")), nil)
	_, err := s.c.ReadDir(s.path("d/f"))
	s.fails("listing of a file", err, nil)
	s.must(s.c.Remove(s.path("d/f")))
	s.must(s.c.RemoveDirectory(s.path("d")))
	_, err = s.c.Stat(s.path("d"))
	s.fails("a removed folder", err, fs.ErrNotExist)
	_, err = s.c.ReadDir(s.path("d"))
	s.fails("listing of a removed folder", err, fs.ErrNotExist)
}

func (s *suite) listing() {
	var want []string
	for i := range s.Many {
		name := fmt.Sprintf("file %03d", i)
		want = append(want, name)
		s.put(name, pattern(i%3))
	}
	list, err := s.c.ReadDir(s.dir)
	s.must(err)
	var got []string
	for _, st := range list {
		got = append(got, st.Name())
		if n, _ := strconv.Atoi(st.Name()[5:]); st.Size() != int64(n%3) || !st.Mode().IsRegular() {
			s.Errorf("%s is told with a size of %d and as %v", st.Name(), st.Size(), st.Mode())
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Errorf("%d names listed, want %d", len(got), len(want))
	}
}

func (s *suite) attributes() {
	s.put("f", []byte("x"))
	when := time.Date(2020, 2, 29, 12, 30, 45, 0, time.UTC)
	s.must(s.c.Chtimes(s.path("f"), when, when))
	s.must(s.c.Chmod(s.path("f"), 0o600))
	s.must(s.c.Chown(s.path("f"), 1000, 1000)) // quietly ignored
	st, err := s.c.Lstat(s.path("f"))
	s.must(err)
	if !st.ModTime().Equal(when) || st.Mode() != 0o600 {
		s.Errorf("told %v and %v, want %v and 0600", st.ModTime().UTC(), st.Mode(), when)
	}
	s.fails("chmod of nothing", s.c.Chmod(s.path("none"), 0o600), fs.ErrNotExist)
	s.fails("chown of nothing", s.c.Chown(s.path("none"), 1, 1), fs.ErrNotExist)
}

func (s *suite) space() {
	st, err := s.c.StatVFS(s.dir)
	s.must(err)
	if st.TotalSpace() == 0 || st.FreeSpace() > st.TotalSpace() || st.Namemax == 0 {
		s.Errorf("told %+v", st)
	}
}

// sharing reads what another connection has written and not closed.
func (s *suite) sharing() {
	f, err := s.c.Create(s.path("f"))
	s.must(err)
	other := s.server.Dial(s.T)
	for i := range 20 {
		data := pattern(10000 * (i + 1))[10000*i:]
		_, err := f.WriteAt(data, int64(10000*i))
		s.must(err)
		g, err := other.Open(s.path("f"))
		s.must(err)
		got := make([]byte, len(data))
		if _, err := g.ReadAt(got, int64(10000*i)); err != nil || !bytes.Equal(got, data) {
			s.Fatalf("after write %d another connection sees other bytes (%v)", i, err)
		}
		s.must(g.Close())
	}
	s.must(f.Close())
}

func (s *suite) symlinks() {
	s.put("f", []byte("x"))
	s.fails("SYMLINK", s.c.Symlink(s.path("f"), s.path("l")), nil)
	_, err := s.c.ReadLink(s.path("f"))
	s.fails("READLINK", err, nil)
	_, err = s.c.Lstat(s.path("l"))
	s.fails("the link", err, fs.ErrNotExist)
}

func (s *suite) names() {
	for _, name := range []string{"ä ö", "日本", "-rf", ".hidden", "a..b", "...", `back\slash`, "x*?[]"} {
		s.put(name, []byte(name))
		s.check(name, []byte(name))
	}
	for _, name := range []string{"a\x00b", "a\nb", "\x7f", "\xff\xfe", string(bytes.Repeat([]byte("n"), 256))} {
		_, err := s.c.Create(s.dir + "/" + name)
		s.fails(fmt.Sprintf("the name %.20q", name), err, nil)
	}
	s.put("../suite-names/./x/../y", []byte("dots"))
	s.check("y", []byte("dots"))
}
