package sshfs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sshd runs OpenSSH's server over a directory and returns a login to it.
func sshd(t *testing.T, ctx context.Context) (l Login, stop func()) {
	t.Helper()
	dir := t.TempDir()
	must := func(err error, out []byte) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	must(os.MkdirAll("/run/sshd", 0o755), nil) // where it locks itself up; Debian's unit makes it
	for _, key := range []string{"host", "user"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput()
		must(err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(err, nil)
	l.Address = free.Addr().String()
	must(free.Close(), nil)
	host, port, _ := net.SplitHostPort(l.Address)
	config := fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %s/host\nAuthorizedKeysFile %[3]s/user.pub\nStrictModes no\nUsePAM no\n"+
		"PermitRootLogin prohibit-password\nPidFile none\nSubsystem sftp internal-sftp\n", host, port, dir)
	must(os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600), nil)
	path, err := exec.LookPath("sshd") // it wants its absolute path
	must(err, nil)
	cmd := exec.Command(path, "-D", "-e", "-f", filepath.Join(dir, "config"))
	must(cmd.Start(), nil)
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(stop)
	for {
		if c, err := net.Dial("tcp", l.Address); err == nil {
			c.Close()
			break
		}
		must(ctx.Err(), nil)
		time.Sleep(interval)
	}
	key, err := os.ReadFile(filepath.Join(dir, "user"))
	must(err, nil)
	hostKey, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	must(err, nil)
	me, err := user.Current()
	must(err, nil)
	l.User, l.PrivateKey, l.Path = me.Username, string(key), filepath.Join(dir, "root")
	l.KnownHosts = "[" + host + "]:" + port + " " + string(hostKey)
	must(os.Mkdir(l.Path, 0o700), nil)
	return l, stop
}

func TestMountAndPrograms(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	login, _ := sshd(t, ctx)
	c, err := NewClient(t.TempDir(), login)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Mount(ctx, filepath.Join(t.TempDir(), "mnt"), Recommended...)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("strongroom"), 20000)
	if err := os.WriteFile(filepath.Join(m.Dir, "file"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(login.Path, "file")); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("on the server: %d bytes, %v", len(got), err)
	}
	out, err := exec.CommandContext(ctx, "ssh", append(c.Args("-p"), c.Target(), "echo", "here")...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "here" {
		t.Fatalf("ssh: %v: %s", err, out)
	}
	for range 2 {
		if err := m.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMountRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	login, stop := sshd(t, ctx)
	login.KnownHosts = strings.Replace(login.KnownHosts, "AAAA", "AAAB", 1)
	c, err := NewClient(t.TempDir(), login)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mount(ctx, filepath.Join(t.TempDir(), "mnt")); err == nil || !strings.Contains(err.Error(), "did not mount") {
		t.Fatalf("mounted a server that is not the known one: %v", err)
	}
	stop()
	if _, err := c.Mount(ctx, filepath.Join(t.TempDir(), "mnt")); err == nil {
		t.Fatal("mounted a server that is not there")
	}
}

func TestContextEndsAMount(t *testing.T) {
	long, cancelLong := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancelLong()
	login, _ := sshd(t, long)
	c, err := NewClient(t.TempDir(), login)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(long)
	m, err := c.Mount(ctx, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-m.Exited()
	if _, err := os.ReadDir(m.Dir); err == nil {
		t.Error("a mount without sshfs can be read")
	}
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
}
