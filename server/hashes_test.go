package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/hashstream"
	"github.com/strongroom-backup/strongroom/server/api"
)

// readHashes reads a stream and compares it with content.
func readHashes(r io.Reader, content []byte) (zeros int64, err error) {
	s, err := hashstream.NewReader(r, int64(len(content)))
	for err == nil {
		var run hashstream.Run
		run, err = s.Next()
		for i := range run.Count {
			off := (run.First + i) * hashstream.BlockSize
			block := content[off:min(off+hashstream.BlockSize, int64(len(content)))]
			switch {
			case run.Hashes != nil && run.Hashes[i] != hashstream.HashBlock(block):
				return 0, errors.New("a hash is wrong")
			case run.Hashes == nil && len(bytes.Trim(block, "\x00")) > 0:
				return 0, errors.New("data is told to be zeros")
			case run.Hashes == nil:
				zeros++
			}
		}
	}
	if err == io.EOF {
		err = nil
	}
	return zeros, err
}

func TestHashes(t *testing.T) {
	w := start(t)
	content := make([]byte, 9*mib-512)
	copy(content[mib:], random(1, 3*mib+70_000))
	r := w.backup("vm1", "vda", content)
	for _, ref := range []string{r.Point, "vm1", "vm1@latest"} {
		stream, err := w.client.Hashes(t.Context(), ref, "vda")
		if err != nil {
			t.Fatal(err)
		}
		zeros, err := readHashes(stream, content)
		stream.Close()
		if err != nil || zeros != 144-48-2 {
			t.Errorf("%s: %d blocks of zeros, %v", ref, zeros, err)
		}
	}
	for disk, status := range map[string]int{"vdb": http.StatusNotFound, "/file": http.StatusBadRequest} {
		_, err := w.client.Hashes(t.Context(), r.Point, disk)
		wantRefusal(t, err, status, "")
	}
	_, err := w.client.Hashes(t.Context(), "vm2", "vda")
	wantRefusal(t, err, http.StatusNotFound, "vm2")
	// Content is not told to whoever reaches the address.
	tcp, err := api.NewClient("http://"+w.HTTPAddress(), api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_, err = tcp.Hashes(t.Context(), r.Point, "vda")
	wantRefusal(t, err, http.StatusForbidden, "token")
}

// Streams that nobody reads are few, and end with their clients and the server.
func TestHashesAbandoned(t *testing.T) {
	w := start(t)
	// So many hashes that the socket's buffers do not hold them: 320 KiB.
	const size = 640 * mib
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: size})
	c := w.write(b.Disks[0].Export)
	data := random(2, 8*mib)
	for off := int64(0); off < size; off += int64(len(data)) {
		if _, err := c.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	point := w.commit(b.Session).Point
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.hashing.Add(hashStreamsMax)
	_, err := w.client.Hashes(ctx, point, "vda")
	wantRefusal(t, err, http.StatusTooManyRequests, "already")
	w.hashing.Add(-hashStreamsMax)
	stream, err := w.client.Hashes(ctx, point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	if n := w.hashing.Load(); n != 1 {
		t.Errorf("%d streams", n)
	}
	cancel()
	stream.Close()
	eventually(t, "the stream ends with its client", func() bool { return w.hashing.Load() == 0 })
	if stream, err = w.client.Hashes(t.Context(), point, "vda"); err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	began := time.Now()
	w.shut()
	if d := time.Since(began); d > drainTimeoutDefault-time.Second {
		t.Errorf("the server's end waited %v for a client that does not read", d)
	}
}

// Damage is told in the stream and in the log.
func TestHashesOfDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	content := random(3, 3*mib)
	point := w.backup("vm1", "vda", content).Point
	w.shut()
	packs, err := filepath.Glob(filepath.Join(dir, "tier0/packs/*/*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packs {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) < 2*mib {
			continue
		}
		text[len(text)/2] ^= 1
		if err := os.WriteFile(p, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w = startOn(t, dir)
	stream, err := w.client.Hashes(t.Context(), point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	_, err = readHashes(stream, content)
	var f *hashstream.FailureError
	if !errors.As(err, &f) || !f.Damage {
		t.Fatal(err)
	}
	if !strings.Contains(w.log.String(), "hashes of a disk could not be told") {
		t.Errorf("the log:\n%s", w.log)
	}
}
