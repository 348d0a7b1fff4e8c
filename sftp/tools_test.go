package sftp_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/strongroom-backup/strongroom/internal/sshfs"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// OpenSSH's programs and sshfs against the server. A missing program is a
// failure: what has not been tried does not work.

// client keeps the files of a login to s.
func client(t testing.TB, s *sftptest.Server) *sshfs.Client {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(s.Private, "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := sshfs.NewClient(t.TempDir(), sshfs.Login{
		User: sftptest.User, PrivateKey: string(pem.EncodeToMemory(block)), Address: s.Addr, Path: "/",
		KnownHosts: knownhosts.Line([]string{s.Addr}, s.HostKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs a program and returns what it printed.
func run(t testing.TB, input, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// random is n bytes that do not repeat.
func random(n int) []byte {
	rng := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = rng.Read(b)
	return b
}

func TestOpenSSHSFTP(t *testing.T) {
	mem, s := serveMem(t, nil)
	c := client(t, s)
	dir := t.TempDir()
	data := random(3<<20 + 777)
	if err := os.WriteFile(filepath.Join(dir, "src"), data, 0o640); err != nil {
		t.Fatal(err)
	}
	batch := fmt.Sprintf(`lcd %s
mkdir d
cd d
put -p src
put -f src synced
ls -la
rename src moved
ln moved linked
get moved back
-symlink moved link
chmod 600 moved
df -h
rm linked
cd ..
pwd
-rmdir d
-get missing
`, dir)
	out, err := run(t, batch, "sftp", append(append(c.Args("-P"), "-b", "-"), c.Target())...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	back, _ := os.ReadFile(filepath.Join(dir, "back"))
	if !bytes.Equal(back, data) || !bytes.Equal(mem.Bytes("/d/moved"), data) || !bytes.Equal(mem.Bytes("/d/synced"), data) {
		t.Error("content differs")
	}
	if got := fmt.Sprint(mem.Names()); got != "[/d/ /d/moved /d/synced]" {
		t.Errorf("left behind: %s", got)
	}
	for _, want := range []string{"-rw-r-----", " .\n", "Operation unsupported", "not found", "512GB"} {
		if !strings.Contains(out, want) {
			t.Errorf("sftp does not print %q:\n%s", want, out)
		}
	}
}

func TestOpenSSHSCP(t *testing.T) {
	var j journal
	mem, s := serveMem(t, func(o *sftp.Options) { o.Events = j.events() })
	c := client(t, s)
	dir := t.TempDir()
	data := random(2<<20 + 1)
	for _, name := range []string{"in/a", "in/sub/b"} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	scp := func(args ...string) (string, error) { return run(t, "", "scp", append(c.Args("-P"), args...)...) }
	if out, err := scp("-s", "-rp", filepath.Join(dir, "in"), c.Target()+":/tree"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Equal(mem.Bytes("/tree/sub/b"), data) {
		t.Errorf("scp made %v", mem.Names())
	}
	if out, err := scp("-s", "-r", c.Target()+":/tree", filepath.Join(dir, "out")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "out/sub/b")); !bytes.Equal(got, data) {
		t.Error("content differs")
	}
	if out, err := scp("-O", filepath.Join(dir, "in/a"), c.Target()+":/x"); err == nil {
		t.Errorf("the old protocol, which runs a command, works: %s", out)
	}
	if out, err := run(t, "", "ssh", append(c.Args("-p"), c.Target(), "id")...); err == nil {
		t.Errorf("a command runs: %s", out)
	}
	if j.has(sftp.RefusedRequest, "exec") != 2 || mem.Bytes("/x") != nil {
		t.Errorf("events: %+v", j.refused)
	}
}

func TestSSHFS(t *testing.T) {
	for name, options := range map[string][]string{"recommended": sshfs.Recommended, "default": nil} {
		t.Run(name, func(t *testing.T) {
			mem, s := serveMem(t, nil)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			t.Cleanup(cancel)
			m, err := client(t, s).Mount(ctx, filepath.Join(t.TempDir(), "mnt"), options...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Unmount(); err != nil {
					t.Error(err)
				}
			})
			useMount(t, m.Dir, mem)
		})
	}
}

// useMount does to a mount what backup programs do.
func useMount(t *testing.T, dir string, mem *sftptest.FS) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	data := random(8<<20 + 123)
	name := filepath.Join(dir, "disk.part")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	must(err)
	_, err = f.Write(data)
	must(err)
	_, err = f.WriteAt([]byte("header, written again"), 8)
	must(err)
	copy(data[8:], "header, written again")
	must(f.Sync())
	if !bytes.Equal(mem.Bytes("/disk.part"), data) {
		t.Error("after fsync the server has other bytes")
	}
	must(f.Truncate(10 << 20))
	data = append(data, make([]byte, 10<<20-len(data))...)
	must(f.Close())
	must(os.Rename(name, filepath.Join(dir, "disk.raw")))
	got, err := os.ReadFile(filepath.Join(dir, "disk.raw"))
	must(err)
	if !bytes.Equal(got, data) {
		t.Error("other bytes are read back")
	}
	when := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
	must(os.Chtimes(filepath.Join(dir, "disk.raw"), when, when))
	st, err := os.Stat(filepath.Join(dir, "disk.raw"))
	must(err)
	if !st.ModTime().Equal(when) || st.Mode() != 0o640 || st.Size() != int64(len(data)) {
		t.Errorf("told %v %v %d", st.ModTime(), st.Mode(), st.Size())
	}
	if err := os.Symlink("disk.raw", filepath.Join(dir, "link")); err == nil {
		t.Error("a symbolic link was made")
	}
	f, err = os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(err)
	for i := range 100 {
		_, err = fmt.Fprintf(f, "line %d\n", i)
		must(err)
	}
	must(f.Close())
	if n := bytes.Count(mem.Bytes("/log"), []byte("\n")); n != 100 {
		t.Errorf("%d lines appended", n)
	}
	must(os.Remove(filepath.Join(dir, "disk.raw")))
	if got := fmt.Sprint(mem.Names()); got != "[/log]" {
		t.Errorf("left behind: %s", got)
	}
}
