package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/vma"
	"github.com/strongroom-backup/strongroom/server"
)

// importServer is a server in this process. Its data directory's path is short:
// a socket's has 107 bytes.
func importServer(t *testing.T) (data string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data = filepath.Join(dir, "data")
	c, _, err := server.Load(server.Sources{Flags: []server.Flag{{Path: "data", Value: data}, {Path: "nbd.listen", Value: "127.0.0.1:0"}, {Path: "http.listen", Value: "127.0.0.1:0"}, {Path: "store.reserve", Value: "1M"}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(server.Options{Config: c, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(stop)
	return data, stop
}

// vmaOf is an archive of disks with data in every other cluster.
func vmaOf(t *testing.T, disks int, size int64) []byte {
	t.Helper()
	h := vma.Header{Configs: []vma.Config{{Name: "qemu-server.conf", Data: []byte("cores: 1\n")}}}
	for i := range disks {
		h.Devices = append(h.Devices, vma.Device{ID: uint8(i + 1), Name: fmt.Sprint("drive-scsi", i), Size: size})
	}
	var out bytes.Buffer
	w, err := vma.NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n*vma.ClusterSize < size; n++ {
		for i := range disks { // next to each other in the archive, not on a disk
			var data []byte
			if (n+int64(i))%2 == 0 {
				data = bytes.Repeat([]byte(fmt.Sprintf("%8d", n*1000+int64(i))), vma.ClusterSize/8)
				data = data[:min(vma.ClusterSize, size-n*vma.ClusterSize)]
			}
			if err := w.Cluster(uint8(i+1), uint32(n), data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// command runs the command in this process.
func command(ctx context.Context, stdin io.Reader, data string, args ...string) (code int, stdout, stderr string) {
	var out, messages bytes.Buffer
	code = run(ctx, append(append([]string{"strongroom"}, args...), "--data", data), stdin, &out, &messages)
	return code, out.String(), messages.String()
}

// TestImportManyDisks imports as many disks as an archive takes, the second time
// without storing anything, and restores them.
func TestImportManyDisks(t *testing.T) {
	data, _ := importServer(t)
	const disks, size = 254, 5*vma.ClusterSize + 512
	archive := vmaOf(t, disks, size)
	for i := range 2 {
		code, out, messages := command(t.Context(), bytes.NewReader(archive), data, "import", "-", "web1", "--json")
		if code != 0 {
			t.Fatal(messages)
		}
		if n := strings.Count(out, `"disk": "drive-scsi`); n != disks {
			t.Errorf("%d disks", n)
		}
		if n := strings.Count(out, `"new_bytes": 0,`); i == 1 && n != disks {
			t.Errorf("%d disks without anything new", n)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	if code, _, messages := command(t.Context(), nil, data, "restore", "web1", "--output", dir); code != 0 {
		t.Fatal(messages)
	}
	r, err := vma.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	content := map[uint8][]byte{}
	for _, d := range r.Header().Devices {
		if content[d.ID], err = os.ReadFile(filepath.Join(dir, d.Name+".raw")); err != nil || len(content[d.ID]) != size {
			t.Fatalf("%s: %d bytes, %v", d.Name, len(content[d.ID]), err)
		}
	}
	for {
		dev, off, want, zero, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got := content[dev][off:min(off+vma.ClusterSize, size)]
		if zero {
			want = make([]byte, len(got))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("device %d differs at %d", dev, off)
		}
	}
}

// notifying calls then, once, when more than so much was read.
type notifying struct {
	io.Reader
	left int
	then func()
}

func (n *notifying) Read(p []byte) (int, error) {
	if n.left <= 0 && n.then != nil {
		n.then()
		n.then = nil
	}
	got, err := n.Reader.Read(p[:min(len(p), 64<<10)])
	n.left -= got
	return got, err
}

// TestImportInterrupted holds that an import that does not come to its end, for
// whatever reason, publishes nothing and leaves no backup open.
func TestImportInterrupted(t *testing.T) {
	data, _ := importServer(t)
	archive := vmaOf(t, 3, 8<<20)
	ctx, cancel := context.WithCancel(t.Context())
	stdin := &notifying{Reader: bytes.NewReader(archive), left: len(archive) / 2, then: cancel}
	if code, _, messages := command(ctx, stdin, data, "import", "-", "web1"); code != exitInterrupted || !strings.Contains(messages, "interrupted") {
		t.Errorf("interrupted: %d %s", code, messages)
	}
	if code, _, messages := command(t.Context(), bytes.NewReader(archive[:len(archive)/2]), data, "import", "-", "web1"); code != exitRefused {
		t.Errorf("cut off: %d %s", code, messages)
	}
	if code, out, _ := command(t.Context(), nil, data, "point", "ls", "web1"); code != exitNotFound {
		t.Errorf("there is a point:\n%s", out)
	}
	_, out, _ := command(t.Context(), nil, data, "backup", "status", "--json")
	if strings.Count(out, `"state": "aborted"`) != 2 || strings.Contains(out, `"state": "open"`) {
		t.Errorf("backups:\n%s", out)
	}
}

// TestImportServerGone has the server go away in the middle.
func TestImportServerGone(t *testing.T) {
	data, stop := importServer(t)
	archive := vmaOf(t, 3, 8<<20)
	stdin := &notifying{Reader: bytes.NewReader(archive), left: len(archive) / 2, then: stop}
	code, _, messages := command(t.Context(), stdin, data, "import", "-", "web1")
	if code == exitOK || !strings.Contains(messages, "could not be aborted") {
		t.Errorf("%d %s", code, messages)
	}
}
