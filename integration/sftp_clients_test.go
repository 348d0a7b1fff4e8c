package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/internal/sshfs"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// TestOpenSSHSftp drives OpenSSH's sftp with a batch: what it can do goes
// through, and what this server does not do is refused without ending it.
func TestOpenSSHSftp(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	batch := s.path("batch")
	s.put(batch, fmt.Appendf(nil, `
put %s vda.raw.part
rename vda.raw.part vda.raw
mkdir notes
put %s notes/one
ln notes/one notes/two
chmod 600 notes/two
ls -la notes
df .
-ln -s /etc/passwd notes/link
-get ../../../../etc/passwd %[3]s
-mkdir restore
get vda.raw %[4]s
rm notes/one
reget notes/two %[5]s
!rm -f %[4]s.never
bye
`, base.Path, base.Files[0], s.path("passwd"), s.path("back.raw"), s.path("two")))
	out := s.tool("sftp", append(append([]string{"-b", batch}, d.client.Args("-P")...), d.client.Target())...)
	if !strings.Contains(out, "two") || !strings.Contains(out, "%") {
		t.Errorf("what sftp printed:\n%s", out)
	}
	s.absent(s.path("passwd"))
	s.must(testdisk.Equal(base.Path, s.path("back.raw")), testdisk.Equal(base.Files[0], s.path("two")))
	dir := d.mount()
	if names := s.names(filepath.Join(dir, "notes")); !slices.Equal(names, []string{"two"}) {
		t.Errorf("notes: %v", names)
	}
	s.restored("vm", "vda", d.commit("vda").Point, base.Path)
}

// TestScp copies with scp, which speaks SFTP; its old protocol wants a shell and
// is refused.
func TestScp(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	scp := func(args ...string) error {
		_, err := s.try("scp", append(append([]string{"-q"}, d.client.Args("-P")...), args...)...)
		return err
	}
	s.must(scp(base.Path, d.client.Target()+":/vda.img"),
		scp("-p", d.client.Target()+":/vda.img", s.path("back.img")),
		testdisk.Equal(base.Path, s.path("back.img")))
	if err := scp("-O", base.Path, d.client.Target()+":/old.img"); err == nil {
		t.Error("scp's old protocol went through: somebody ran a command")
	}
	r := d.commit("vda")
	s.restored("vm", "vda", r.Point, base.Path)
	d = s.drop("vm")
	s.must(scp("-r", d.client.Target()+":/restore/vm/"+r.Point+"/vda.chain", s.path("chain")))
	s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", s.path("chain/"+s.names(s.path("chain"))[0]), base.Path)
}

// TestRclone copies a tree with an independent client and lets it check.
func TestRclone(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	src := s.path("src")
	s.must(os.MkdirAll(filepath.Join(src, "a", "b"), 0o700), testdisk.Copy(base.Path, filepath.Join(src, "vda.raw")))
	for i, name := range []string{"one", "a/two", "a/b/three", "a/ünï cödé"} {
		s.put(filepath.Join(src, name), noise(uint64(i), 100_000*i))
	}
	rclone := func(args ...string) string {
		t.Helper()
		return s.tool("rclone", append(args, "--config", "/dev/null", "--sftp-host", d.client.Host, "--sftp-port", d.client.Port,
			"--sftp-user", d.client.User, "--sftp-key-file", d.client.Key, "--sftp-known-hosts-file", d.client.Hosts,
			"--sftp-disable-hashcheck", "--retries", "1")...)
	}
	rclone("copy", src, ":sftp:/")
	rclone("check", "--download", "--one-way", src, ":sftp:/")
	rclone("copy", ":sftp:/", s.path("back"), "--exclude", "/restore/**")
	s.tool("diff", "-r", src, s.path("back"))
	r := d.commit("vda")
	d = s.drop("vm")
	rclone("check", "--download", src, ":sftp:/restore/vm/"+r.Point+"/files")
}

// TestPkgSftp is the conformance run with pkg/sftp's client, which has several
// requests in flight.
func TestPkgSftp(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	c := d.sftpClient(sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	for _, name := range []string{"posix-rename@openssh.com", "hardlink@openssh.com", "statvfs@openssh.com", "fsync@openssh.com"} {
		if _, ok := c.HasExtension(name); !ok {
			t.Errorf("%s is not offered", name)
		}
	}
	data := noise(1, 5_000_001)
	f, err := c.Create("up.part")
	s.must(err)
	_, err = f.ReadFromWithConcurrency(bytes.NewReader(data), 16)
	s.must(err, f.Sync(), f.Close())
	when := time.Unix(1_700_000_000, 0)
	s.must(c.Chtimes("up.part", when, when), c.Chmod("up.part", 0o640), c.PosixRename("up.part", "up.bin"))
	info, err := c.Stat("up.bin")
	s.must(err)
	if info.Size() != int64(len(data)) || !info.ModTime().Equal(when) || info.Mode().Perm() != 0o640 {
		t.Errorf("up.bin: %d bytes of %v, mode %v", info.Size(), info.ModTime(), info.Mode())
	}
	f, err = c.Open("up.bin")
	s.must(err)
	var got bytes.Buffer
	_, err = f.WriteTo(&got)
	s.must(err, f.Close())
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("read back: %d bytes, not the same", got.Len())
	}
	s.must(c.MkdirAll("a/b/c"), c.Rename("up.bin", "a/b/c/d.bin"), c.Link("a/b/c/d.bin", "e.bin"), c.Truncate("e.bin", 1000))
	if info, err := c.Stat("a/b/c/d.bin"); err != nil || info.Size() != 1000 {
		t.Errorf("the other name of a truncated file: %v, %v", info, err)
	}
	if c.RemoveDirectory("a") == nil {
		t.Error("a folder with something in it was removed")
	}
	if c.Symlink("/etc/passwd", "link") == nil {
		t.Error("a symbolic link was made")
	}
	if _, err := c.ReadLink("e.bin"); err == nil {
		t.Error("a link was read")
	}
	if _, err := c.Stat("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of nothing: %v", err)
	}
	if _, err := c.OpenFile("e.bin", os.O_CREATE|os.O_EXCL|os.O_WRONLY); err == nil {
		t.Error("a file that exists was made exclusively")
	}
	if p, err := c.RealPath("a/./b/../../../.."); err != nil || p != "/" {
		t.Errorf("real path: %q, %v", p, err)
	}
	s.must(c.Remove("e.bin"), c.Remove("a/b/c/d.bin"), c.RemoveDirectory("a/b/c"))
	var names []string
	for w := c.Walk("/"); w.Step(); {
		s.must(w.Err())
		names = append(names, w.Path())
	}
	if !slices.Contains(names, "/a/b") || slices.Contains(names, "/a/b/c") || slices.Contains(names, "/e.bin") {
		t.Errorf("the tree: %v", names)
	}
}

// TestFileSemantics does with a mounted folder what programs do with files, with
// the options jobs use and with sshfs's own.
func TestFileSemantics(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	for i, options := range [][]string{{"direct_io"}, {"max_read=65536", "max_write=65536"}, {"direct_io", "max_read=65536", "max_write=65536"}, {"cache=no"}} {
		d := s.drop(fmt.Sprint("vm", i))
		dir := d.mount(options...)
		want := s.scatter(filepath.Join(dir, "scattered.bin"), uint64(i))
		s.namesOfFiles(dir)
		s.truthfulSpace(dir)
		s.sameFile(filepath.Join(d.mount(), "scattered.bin"), want)
		d.keptAs("scattered.bin", want)
	}
}

func (s *scene) sameFile(path string, want []byte) {
	s.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		s.Fatalf("%s: %d bytes, not the %d that were written; %v", path, len(got), len(want), err)
	}
}

// scatter writes at random places, leaves holes, truncates, grows and appends,
// and returns what the file must hold.
func (s *scene) scatter(path string, seed uint64) []byte {
	s.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	s.must(err)
	var want []byte
	write := func(off, n int) {
		data := noise(seed*1000+uint64(off), n)
		_, err := f.WriteAt(data, int64(off))
		s.must(err)
		if grow := off + n - len(want); grow > 0 {
			want = append(want, make([]byte, grow)...)
		}
		copy(want[off:], data)
	}
	for i := range 60 {
		write((i*7919)%300*10_007, 1+i*i*13%90_000)
	}
	write(9<<20, 1) // far behind the end
	s.must(f.Truncate(8<<20 + 5))
	want = want[:8<<20+5]
	s.must(f.Truncate(8<<20 + 100_000))
	want = append(want, make([]byte, 100_000-5)...)
	write(4<<20, 100)
	s.must(f.Close())
	a, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	s.must(err)
	for i := range 20 {
		tail := noise(seed+uint64(i), 999)
		_, err := a.Write(tail)
		s.must(err)
		want = append(want, tail...)
	}
	s.must(a.Close())
	s.sameFile(path, want)
	return want
}

// namesOfFiles renames over, links, removes what is open, and makes folders.
func (s *scene) namesOfFiles(dir string) {
	s.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	s.put(at("new"), []byte("new"))
	s.put(at("old"), []byte("old"))
	s.must(os.Rename(at("new"), at("old")))
	s.sameFile(at("old"), []byte("new"))
	s.absent(at("new"))
	s.must(os.Link(at("old"), at("linked")))
	s.sameFile(at("linked"), []byte("new"))
	if err := os.Symlink("/etc/passwd", at("link")); err == nil {
		s.Error("a symbolic link was made")
	}
	s.absent(at("link"))
	f, err := os.Open(at("old"))
	s.must(err, os.Remove(at("old")))
	if got, err := io.ReadAll(f); err != nil || string(got) != "new" {
		s.Errorf("a removed file that is open: %q, %v", got, err)
	}
	s.must(f.Close())
	s.absent(at("old"))
	s.must(os.MkdirAll(at("x/y"), 0o700), os.Rename(at("linked"), at("x/y/z")))
	if err := os.Remove(at("x")); !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EIO) {
		s.Errorf("removing a folder with something in it: %v", err)
	}
	s.sameFile(at("x/y/z"), []byte("new"))
	when := time.Unix(1_600_000_000, 0)
	s.must(os.Chtimes(at("x/y/z"), when, when))
	if info, err := os.Stat(at("x/y/z")); err != nil || !info.ModTime().Equal(when) {
		s.Errorf("the time that was set: %v, %v", info, err)
	}
	s.must(os.RemoveAll(at("x")))
	for _, name := range []string{"restore", "control\x01", string([]byte{0xff, 0xfe})} {
		if err := os.Mkdir(at(name), 0o700); err == nil {
			s.Errorf("a folder %q was made", name)
		}
	}
}

// truthfulSpace compares df with what the server says of its file system.
func (s *scene) truthfulSpace(dir string) {
	s.Helper()
	var df unix.Statfs_t
	s.must(unix.Statfs(dir, &df))
	st, err := s.srv.Stats(s.ctx)
	s.must(err)
	total, free := int64(df.Blocks)*df.Frsize, int64(df.Bavail)*df.Frsize
	const slack = 2 << 30 // others use the file system meanwhile
	if total > st.CapacityBytes || total < st.CapacityBytes/2 || free > st.UsableBytes+slack || free < st.UsableBytes-slack {
		s.Errorf("df says %d of %d bytes are free; the server has %d of %d", free, total, st.UsableBytes, st.CapacityBytes)
	}
}

// TestOneWriterManyReaders: a file has one connection that writes it. Readers
// see what it has written.
func TestOneWriterManyReaders(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	dirs := []string{d.mount(), d.mount(), d.mount()}
	writer, err := os.OpenFile(filepath.Join(dirs[0], "disk.bin"), os.O_CREATE|os.O_RDWR, 0o600)
	s.must(err)
	// Several handles of the writer's own connection are welcome.
	second, err := os.OpenFile(filepath.Join(dirs[0], "disk.bin"), os.O_RDWR, 0)
	s.must(err)
	if f, err := os.OpenFile(filepath.Join(dirs[1], "disk.bin"), os.O_WRONLY, 0); !errors.Is(err, fs.ErrPermission) {
		f.Close()
		t.Errorf("a second writer: %v", err)
	}
	if err := os.Truncate(filepath.Join(dirs[1], "disk.bin"), 0); err == nil {
		t.Error("another connection truncated a file that is being written")
	}
	data := noise(5, 16<<20)
	var g errgroup.Group
	g.Go(func() error {
		for off := 0; off < len(data); off += 1 << 20 {
			f := writer
			if off>>20%2 == 1 {
				f = second
			}
			if _, err := f.WriteAt(data[off:off+1<<20], int64(off)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, dir := range dirs[1:] {
		g.Go(func() error { return follow(filepath.Join(dir, "disk.bin"), data) })
	}
	s.must(g.Wait(), second.Close(), writer.Close())
	f := s.openForWriting(filepath.Join(dirs[1], "disk.bin"))
	_, err = f.WriteAt([]byte("mine now"), 0)
	s.must(err, f.Close())
	copy(data, "mine now")
	s.sameFile(filepath.Join(dirs[2], "disk.bin"), data)
}

// openForWriting opens a file that another connection has just closed: sshfs
// sends CLOSE after close(2) has returned.
func (s *scene) openForWriting(path string) *os.File {
	s.Helper()
	for {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			return f
		}
		if !errors.Is(err, fs.ErrPermission) || s.ctx.Err() != nil {
			s.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// follow reads a file from its beginning while it grows to be data.
func follow(path string, data []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256<<10)
	for off := 0; off < len(data); {
		n, err := f.ReadAt(buf[:min(len(buf), len(data)-off)], int64(off))
		if err != nil && err != io.EOF {
			return err
		}
		// The writer's end may be within what was read: zeros follow then.
		for n > 0 && !bytes.Equal(buf[:n], data[off:off+n]) {
			n--
		}
		off += n
	}
	return nil
}

// TestJobPassword: a tool that only knows passwords gets in with the job's.
func TestJobPassword(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	l := d.SFTP
	l.PrivateKey = ""
	c, err := sshfs.NewClient(s.path("by-password"), l)
	s.must(err)
	m, err := c.Mount(s.ctx, s.path("mnt-password"))
	s.must(err)
	s.Cleanup(func() { s.must(m.Unmount()) })
	s.put(filepath.Join(m.Dir, "by-password"), []byte("ok"))
	s.sameFile(filepath.Join(d.mount(), "by-password"), []byte("ok"))
}

// TestKeepsHoles: what is nothing takes nothing.
func TestKeepsHoles(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	path := filepath.Join(d.mount(), "vda.raw")
	f, err := os.Create(path)
	s.must(err, f.Truncate(256<<20))
	_, err = f.WriteAt(noise(3, 100_000), 128<<20)
	s.must(err)
	_, err = f.WriteAt(make([]byte, 32<<20), 160<<20) // zeros, sent in full
	s.must(err, f.Close())
	r := d.commit("vda")
	if i := image(s, r, "vda"); i.Size != 256<<20 || i.NewBytes > 256<<10 {
		t.Errorf("a file with 100,000 bytes in it: %+v", i)
	}
	dir := filepath.Join(s.restores("vm"), r.Point)
	out := s.tool("qemu-img", "map", "--output=json", "-f", "qcow2", filepath.Join(dir, "vda.qcow2"))
	if info, err := os.Stat(filepath.Join(dir, "vda.qcow2")); err != nil || info.Size() > 2<<20 {
		t.Errorf("its flat qcow2: %v, %v\n%s", info, err, out)
	}
}
