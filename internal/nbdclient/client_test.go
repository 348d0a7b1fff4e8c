package nbdclient

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveFile runs qemu-nbd on a raw file and returns its socket.
func serveFile(t *testing.T, path string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command("qemu-nbd", "-t", "-r", "-e", "8", "-f", "raw", "-x", "disk", "-k", socket, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return socket
}

// dial waits for the server to listen.
func dial(t *testing.T, socket, export string) (*Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	for {
		c, err := Dial(ctx, Target{Network: "unix", Address: socket, Export: export})
		var op *net.OpError
		if err == nil || !errors.As(err, &op) || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const diskSize = 40<<20 + 512

func makeDisk(t *testing.T) (path string, content []byte) {
	t.Helper()
	content = make([]byte, diskSize)
	rng := rand.NewChaCha8([32]byte{1})
	path = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 8 << 20, 9 << 20, 32 << 20} {
		rng.Read(content[at:][:1<<20])
		if _, err := f.WriteAt(content[at:][:1<<20], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestReadAgainstQEMU(t *testing.T) {
	path, content := makeDisk(t)
	c, err := dial(t, serveFile(t, path), "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Size() != diskSize {
		t.Fatalf("size %d, want %d", c.Size(), diskSize)
	}
	got := make([]byte, diskSize)
	var wg sync.WaitGroup
	err = c.Extents(func(e Extent) error {
		if e.Zero {
			if bytes.Trim(content[e.Offset:][:e.Length], "\x00") != nil {
				t.Errorf("extent %+v is not zero", e)
			}
			return nil
		}
		for off := e.Offset; off < e.Offset+e.Length; off += 1 << 20 {
			wg.Go(func() {
				n := min(1<<20, e.Offset+e.Length-off)
				if _, err := c.ReadAt(got[off:][:n], off); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	wg.Wait()
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("content differs, or %v", err)
	}
}

func TestRefusals(t *testing.T) {
	path, _ := makeDisk(t)
	socket := serveFile(t, path)
	if _, err := dial(t, socket, "other"); !errors.Is(err, ErrRefused) {
		t.Errorf("unknown export: %v", err)
	}
	c, err := dial(t, socket, "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, r := range []struct{ off, n int64 }{{diskSize, 1}, {-1, 1}, {diskSize - 1, 2}, {0, ReadMax + 1}} {
		if _, err := c.ReadAt(make([]byte, r.n), r.off); err == nil {
			t.Errorf("read of %d at %d succeeded", r.n, r.off)
		}
	}
	if n, err := c.ReadAt(nil, diskSize); n != 0 || err != nil {
		t.Errorf("empty read: %d, %v", n, err)
	}
}

func TestServerDies(t *testing.T) {
	path, _ := makeDisk(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	if c, err := dial(t, serveFile(t, path), "disk"); err != nil {
		t.Fatal(err)
	} else {
		c.nc.Close()
		if _, err := c.ReadAt(make([]byte, 10), 0); err == nil {
			t.Error("a read on a dead connection succeeded")
		}
		if err := c.Extents(func(Extent) error { return nil }); err == nil {
			t.Error("a status request on a dead connection succeeded")
		}
		c.Close()
	}
	cause := errors.New("enough")
	cancel(cause)
	if _, err := Dial(ctx, Target{Network: "unix", Address: "/nonexistent"}); err == nil {
		t.Error("dial succeeded")
	}
}
