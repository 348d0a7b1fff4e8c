package nbdclient

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// serve runs a server that listens on the socket its arguments name as SOCKET.
func serve(t *testing.T, name string, args ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "SOCKET", socket)
	}
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return socket
}

// scribble writes and zeroes at random, many calls at once, and reads all back.
func scribble(t *testing.T, c *Conn, content []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	const part = 1 << 20
	for off := 0; off < len(content); off += part {
		p := content[off:min(off+part, len(content))]
		zero, n := rng.IntN(3) == 0, 1+rng.IntN(len(p))
		wg.Go(func() {
			if zero {
				clear(p[:n])
				if err := c.Zero(int64(off), int64(n)); err != nil {
					t.Error(err)
				}
				return
			}
			rand.NewChaCha8([32]byte{byte(off >> 20)}).Read(p[:n])
			before := bytes.Clone(p[:n])
			if k, err := c.WriteAt(p[:n], int64(off)); err != nil || k != n {
				t.Errorf("%d, %v", k, err)
			}
			if !bytes.Equal(p[:n], before) {
				t.Error("a write changed its payload")
			}
		})
	}
	wg.Wait()
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	got := make([]byte, len(content))
	for off := 0; off < len(got); off += ReadMax {
		if _, err := c.ReadAt(got[off:min(off+ReadMax, len(got))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, content) {
		t.Fatal("what was written does not read back")
	}
}

// Each server answers in its own way: QEMU with simple replies to writes, nbdkit
// with structured ones; without WRITE_ZEROES zeros are written, without FLUSH
// there is none.
func TestWrite(t *testing.T) {
	for name, args := range map[string][]string{
		"qemu-nbd":          {"qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", "SOCKET", "DISK"},
		"nbdkit":            {"nbdkit", "-f", "-U", "SOCKET", "file", "DISK"},
		"nbdkit, no zeroes": {"nbdkit", "-f", "-U", "SOCKET", "--filter=nozero", "file", "DISK", "zeromode=none"},
		"nbdkit, no flush":  {"nbdkit", "-f", "-U", "SOCKET", "--filter=fua", "file", "DISK", "fuamode=discard"},
	} {
		t.Run(name, func(t *testing.T) {
			path, content := makeDisk(t)
			for i, a := range args {
				args[i] = strings.ReplaceAll(a, "DISK", path)
			}
			c, err := dial(t, serve(t, args[0], args[1:]...), "disk")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.ReadOnly() {
				t.Error("a writable export is called read-only")
			}
			scribble(t, c, content)
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("the file differs, %v", err)
			}
		})
	}
}

func TestRefusedWrites(t *testing.T) {
	path, content := makeDisk(t)
	c, err := dial(t, serve(t, "qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", "SOCKET", path), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, r := range []struct{ off, n int64 }{{diskSize, 1}, {-1, 1}, {diskSize - 1, 2}, {0, WriteMax + 1}, {1<<63 - 1, 1}} {
		if _, err := c.WriteAt(make([]byte, r.n), r.off); err == nil {
			t.Errorf("write of %d at %d succeeded", r.n, r.off)
		}
	}
	for _, r := range []struct{ off, n int64 }{{diskSize, 1}, {-1, 1}, {0, -1}, {0, diskSize + 1}, {1, 1<<63 - 1}} {
		if c.Zero(r.off, r.n) == nil {
			t.Errorf("zeroing of %d at %d succeeded", r.n, r.off)
		}
		if c.Status(Allocation, r.off, r.n, func(_, _ int64, _ uint32) error { return nil }) == nil {
			t.Errorf("status of %d at %d succeeded", r.n, r.off)
		}
	}
	if n, err := c.WriteAt(nil, diskSize); n != 0 || err != nil || c.Zero(diskSize, 0) != nil {
		t.Errorf("empty write: %d, %v", n, err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file changed, %v", err)
	}
	ro, err := dial(t, serveFile(t, path), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	_, err = ro.WriteAt([]byte("x"), 0)
	if !ro.ReadOnly() || err == nil || !strings.Contains(err.Error(), "read-only") || ro.Zero(0, 1) == nil {
		t.Errorf("a read-only export took a write: %v", err)
	}
}

// What the server says of an error arrives.
func TestServersErrors(t *testing.T) {
	script := filepath.Join(t.TempDir(), "plugin")
	text := "#!/bin/sh\ncase $1 in\nget_size) echo 1048576 ;;\ncan_write|can_flush) ;;\npwrite) cat >/dev/null; echo ENOSPC the store is full >&2; exit 1 ;;\nflush) echo EIO it burns >&2; exit 1 ;;\npread) dd if=/dev/zero bs=$3 count=1 2>/dev/null ;;\n*) exit 2 ;;\nesac\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := dial(t, serve(t, "nbdkit", "-f", "-U", "SOCKET", "sh", script), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var e *ServerError
	if _, err := c.WriteAt(make([]byte, 4096), 8192); !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &e) || !strings.Contains(err.Error(), "write 4096 bytes at 8192") {
		t.Errorf("write: %v", err)
	}
	if err := c.Zero(0, 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("zero: %v", err)
	}
	if err := c.Flush(); !errors.Is(err, syscall.EIO) {
		t.Errorf("flush: %v", err)
	}
	if _, err := c.ReadAt(make([]byte, 4096), 0); err != nil {
		t.Errorf("the connection is not in step: %v", err)
	}
}

// A bitmap of QEMU's, beside base:allocation.
func TestBitmapOfQEMU(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	for _, args := range [][]string{
		{"create", "-q", "-f", "qcow2", path, "64M"},
		{"bitmap", "--add", "-g", "64K", path, "b0"},
	} {
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
	}
	if out, err := exec.Command("qemu-io", "-c", "write 1M 128k", "-c", "write -z 40M 64k", path).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	socket := serve(t, "qemu-nbd", "-t", "-r", "-e", "4", "-f", "qcow2", "-B", "b0", "-x", "disk", "-k", "SOCKET", path)
	const bitmap = "qemu:dirty-bitmap:b0"
	if c, err := dial(t, socket, "disk"); err != nil {
		t.Fatal(err)
	} else {
		if err := c.Status(bitmap, 0, 1, func(_, _ int64, _ uint32) error { return nil }); err == nil || !strings.Contains(err.Error(), "not selected") {
			t.Errorf("a context nobody selected: %v", err)
		}
		c.Close()
	}
	target := Target{Network: "unix", Address: socket, Export: "disk", Contexts: []string{bitmap, Allocation, bitmap}}
	c, err := Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type part struct {
		off, n int64
		flags  uint32
	}
	ask := func(name string, off, n int64) (got []part) {
		t.Helper()
		if err := c.Status(name, off, n, func(off, n int64, flags uint32) error { got = append(got, part{off, n, flags}); return nil }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	const mib, kib64 = 1 << 20, 64 << 10
	want := []part{{0, mib, 0}, {mib, 2 * kib64, Dirty}, {mib + 2*kib64, 39*mib - 2*kib64, 0}, {40 * mib, kib64, Dirty}, {40*mib + kib64, 24*mib - kib64, 0}}
	if got := ask(bitmap, 0, c.Size()); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := ask(bitmap, mib+kib64, 10); !slices.Equal(got, []part{{mib + kib64, 10, Dirty}}) {
		t.Errorf("of 10 bytes: %v", got)
	}
	if got := ask(Allocation, 0, mib); len(got) != 1 || got[0].flags&Zero == 0 {
		t.Errorf("allocation: %v", got)
	}
	stop := errors.New("enough")
	if err := c.Status(bitmap, 0, c.Size(), func(_, _ int64, _ uint32) error { return stop }); err != stop {
		t.Errorf("stopped with %v", err)
	}
	target.Contexts = []string{bitmap, "qemu:dirty-bitmap:nope"}
	var missing *NoContextError
	if _, err := Dial(t.Context(), target); !errors.As(err, &missing) || missing.Context != "qemu:dirty-bitmap:nope" || missing.Export != "disk" {
		t.Errorf("a context the server does not have: %v", err)
	}
	target.Contexts = make([]string, contextsMax)
	for i := range target.Contexts {
		target.Contexts[i] = "x:" + strings.Repeat("y", i)
	}
	if _, err := Dial(t.Context(), target); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too many contexts: %v", err)
	}
}
