package nbdio

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// serve runs an nbdkit and returns its socket.
func serve(t *testing.T, args ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "nbd.sock")
	cmd := exec.Command("nbdkit", append([]string{"--foreground", "--exit-with-parent", "--unix", socket}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return socket
}

func dial(t *testing.T, socket, export string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		c, err := Dial(ctx, "unix", socket, export)
		if err == nil {
			t.Cleanup(c.Drop)
			return c
		}
		if ctx.Err() != nil || errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestReadWrite(t *testing.T) {
	c := dial(t, serve(t, "memory", "8M"), "any")
	if c.Size() != 8<<20 {
		t.Fatalf("size %d", c.Size())
	}
	data := bytes.Repeat([]byte("strongroom"), 1000)
	got := make([]byte, len(data))
	if _, err := c.WriteAt(data, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadAt(got, 12345); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read back: %v", err)
	}
	for _, clear := range []func(off, n int64) error{c.Zero, c.Trim} {
		if err := errors.Join(clear(12345, 4096), c.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.ReadAt(got, 12345); err != nil || !bytes.Equal(got[:4096], make([]byte, 4096)) || !bytes.Equal(got[4096:], data[4096:]) {
		t.Fatalf("after zeroing: %v", err)
	}
	if _, err := c.WriteAt(data, 8<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write past the end: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	socket := serve(t, "--filter=exportname", "memory", "1M", "exportname-strict=true", "exportname=known")
	dial(t, socket, "known")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := Dial(ctx, "unix", socket, "unknown"); !errors.Is(err, ErrRefused) {
		t.Fatalf("unknown export: %v", err)
	}
}
