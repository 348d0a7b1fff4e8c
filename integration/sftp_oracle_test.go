package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
)

// openSSHServer runs OpenSSH's sftp-server over an empty folder, without SSH.
func (s *scene) openSSHServer() *sftp.Client {
	s.Helper()
	dir := s.path("oracle")
	s.must(os.Mkdir(dir, 0o700))
	cmd := exec.Command("/usr/lib/openssh/sftp-server", "-d", dir, "-u", "0022")
	in, err := cmd.StdinPipe()
	s.must(err)
	out, err := cmd.StdoutPipe()
	s.must(err, cmd.Start())
	s.Cleanup(func() { in.Close(); cmd.Wait() })
	c, err := sftp.NewClientPipe(out, in)
	s.must(err)
	return c
}

// twin does the same with two servers.
type twin struct {
	rng     *rand.Rand
	clients [2]*sftp.Client
	handles [][2]*sftp.File
	names   []string // of handles
	last    string   // what was done last
}

// TestSameAsOpenSSH gives our server and OpenSSH's the same random requests:
// both agree on what goes through, on what is read, and on the tree it makes.
func TestSameAsOpenSSH(t *testing.T) {
	t.Parallel()
	const requests = 4000
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	s := newFileScene(t)
	d := s.drop("vm")
	tw := &twin{rng: rand.New(rand.NewPCG(uint64(seed), 0)), clients: [2]*sftp.Client{d.sftpClient(), s.openSSHServer()}}
	through := 0
	for i := range requests {
		ours, theirs := tw.step()
		if ours.err == nil {
			through++
		}
		stat := strings.HasPrefix(tw.last, "stat ")
		if (ours.err == nil) != (theirs.err == nil) || stat && errors.Is(ours.err, fs.ErrNotExist) != errors.Is(theirs.err, fs.ErrNotExist) {
			t.Fatalf("request %d, %s: ours says %v, OpenSSH says %v", i, tw.last, ours.err, theirs.err)
		}
		if !bytes.Equal(ours.data, theirs.data) {
			t.Fatalf("request %d, %s: ours has %.80q (%d bytes), OpenSSH %.80q (%d)", i, tw.last, ours.data, len(ours.data), theirs.data, len(theirs.data))
		}
	}
	ours, theirs := tw.tree(0), tw.tree(1)
	if ours != theirs {
		t.Errorf("the trees differ; ours:\n%s\nOpenSSH's:\n%s", ours, theirs)
	}
	t.Logf("%d of %d requests went through; %d names in the end", through, requests, strings.Count(ours, "\n"))
}

// answer is what a server said to a request.
type answer struct {
	data []byte
	err  error
}

// both asks the two servers.
func (w *twin) both(ask func(i int) ([]byte, error)) (ours, theirs answer) {
	for i, a := range []*answer{&ours, &theirs} {
		a.data, a.err = ask(i)
	}
	return ours, theirs
}

func (w *twin) do(what string, ask func(c *sftp.Client) error) (ours, theirs answer) {
	w.last = what
	return w.both(func(i int) ([]byte, error) { return nil, ask(w.clients[i]) })
}

func (w *twin) name() string {
	parts := []string{"a", "b", "dir", "sub", "dir/a", "dir/b", "dir/sub", "dir/sub/a", "sub/a", "sub/dir", "ünï"}
	return parts[w.rng.IntN(len(parts))]
}

func (w *twin) step() (ours, theirs answer) {
	a, b := w.name(), w.name()
	switch w.rng.IntN(16) {
	case 0:
		return w.do("mkdir "+a, func(c *sftp.Client) error { return c.Mkdir(a) })
	case 1:
		return w.do("rmdir "+a, func(c *sftp.Client) error { return c.RemoveDirectory(a) })
	case 2:
		return w.do("remove "+a, func(c *sftp.Client) error { return removeFile(c, a) })
	case 3:
		return w.do("rename "+a+" "+b, func(c *sftp.Client) error { return c.Rename(a, b) })
	case 4:
		return w.do("posix-rename "+a+" "+b, func(c *sftp.Client) error { return c.PosixRename(a, b) })
	case 5:
		return w.do("link "+a+" "+b, func(c *sftp.Client) error { return c.Link(a, b) })
	case 6:
		size := w.rng.Int64N(200_000)
		return w.do(fmt.Sprintf("truncate %s to %d", a, size), func(c *sftp.Client) error { return c.Truncate(a, size) })
	case 7:
		w.last = "stat " + a
		return w.both(func(i int) ([]byte, error) { return describe(w.clients[i].Stat(a)) })
	case 8:
		w.last = "list " + a
		return w.both(func(i int) ([]byte, error) { return list(w.clients[i], a) })
	case 9, 10:
		return w.open(a)
	default:
		return w.handle()
	}
}

// removeFile is REMOVE; pkg/sftp's own Remove tries RMDIR, too.
func removeFile(c *sftp.Client, name string) error {
	info, err := c.Lstat(name)
	if err == nil && info.IsDir() {
		return errors.New("is a folder")
	}
	return c.Remove(name)
}

// describe is what must agree of a file or folder.
func describe(info fs.FileInfo, err error) ([]byte, error) {
	if err != nil || info.IsDir() {
		return []byte("folder"), err
	}
	return fmt.Appendf(nil, "file of %d bytes, %v", info.Size(), info.Mode()), nil
}

func list(c *sftp.Client, dir string) ([]byte, error) {
	infos, err := c.ReadDir(dir)
	var lines []string
	for _, info := range infos {
		line, _ := describe(info, nil)
		lines = append(lines, info.Name()+" "+string(line))
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, "\n")), err
}

func (w *twin) open(name string) (ours, theirs answer) {
	flags := []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_TRUNC,
		os.O_WRONLY | os.O_CREATE | os.O_EXCL, os.O_WRONLY | os.O_APPEND | os.O_CREATE, os.O_WRONLY}[w.rng.IntN(7)]
	w.last = fmt.Sprintf("open %s %#x", name, flags)
	var pair [2]*sftp.File
	ours, theirs = w.both(func(i int) (data []byte, err error) {
		if info, err := w.clients[i].Stat(name); err == nil && info.IsDir() {
			return nil, errors.New("a folder, which OpenSSH opens for reading")
		}
		pair[i], err = w.clients[i].OpenFile(name, flags)
		return nil, err
	})
	if ours.err == nil && theirs.err == nil {
		w.handles, w.names = append(w.handles, pair), append(w.names, fmt.Sprintf("%s (%#x)", name, flags))
	}
	return ours, theirs
}

// handle does something with an open file.
func (w *twin) handle() (ours, theirs answer) {
	if len(w.handles) == 0 {
		return w.open(w.name())
	}
	k := w.rng.IntN(len(w.handles))
	pair, name := w.handles[k], w.names[k]
	off, n := w.rng.Int64N(150_000), 1+w.rng.IntN(50_000)
	switch w.rng.IntN(8) {
	case 0:
		w.last = "close " + name
		w.handles, w.names = slices.Delete(w.handles, k, k+1), slices.Delete(w.names, k, k+1)
		return w.both(func(i int) ([]byte, error) { return nil, pair[i].Close() })
	case 1:
		w.last = "fstat " + name
		return w.both(func(i int) ([]byte, error) { return describe(pair[i].Stat()) })
	case 2:
		w.last = fmt.Sprintf("ftruncate %s to %d", name, off)
		return w.both(func(i int) ([]byte, error) { return nil, pair[i].Truncate(off) })
	case 3, 4:
		w.last = fmt.Sprintf("read %d at %d of %s", n, off, name)
		return w.both(func(i int) ([]byte, error) {
			p := make([]byte, n)
			got, err := pair[i].ReadAt(p, off)
			if err == io.EOF {
				err = nil
			}
			return p[:got], err
		})
	default:
		w.last = fmt.Sprintf("write %d at %d of %s", n, off, name)
		data := noise(w.rng.Uint64(), n)
		return w.both(func(i int) ([]byte, error) {
			_, err := pair[i].WriteAt(data, off)
			return nil, err
		})
	}
}

// tree is everything a server has.
func (w *twin) tree(i int) string {
	var lines []string
	root := "."
	for walk := w.clients[i].Walk(root); walk.Step(); {
		if walk.Err() != nil {
			return walk.Err().Error()
		}
		name := walk.Path()
		if name == "restore" || strings.HasPrefix(name, "restore/") || name == root {
			continue
		}
		line, _ := describe(walk.Stat(), nil)
		if !walk.Stat().IsDir() {
			f, err := w.clients[i].Open(name)
			if err != nil {
				return name + ": " + err.Error()
			}
			var content bytes.Buffer
			_, err = f.WriteTo(&content)
			f.Close()
			line = fmt.Appendf(line, " %x %v", sha256.Sum256(content.Bytes()), err)
		}
		lines = append(lines, name+" "+string(line))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
