package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a running server and its log.
type world struct {
	*Server
	t      *testing.T
	client *api.Client
	log    *logBuffer
	stop   context.CancelFunc
	ended  chan error
	tokens []string // that must not be in the log
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// testConfig is small and listens on free ports.
func testConfig(dir string) Config {
	c := NewConfig()
	c.Data = dir
	c.NBD.Listen, c.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0"
	c.NBD.BufferMemory = bufferMemoryMin
	c.Store.Reserve = units.MiB
	c.Store.IndexCache, c.Store.CatalogCache, c.Store.TOCCache, c.Store.ReadCache = cacheMin, cacheMin, cacheMin, cacheMin
	return c
}

// start runs a server on a new data directory.
func start(t *testing.T, change ...func(*Options)) *world {
	return startOn(t, filepath.Join(t.TempDir(), "data"), change...)
}

func startOn(t *testing.T, dir string, change ...func(*Options)) *world {
	t.Helper()
	log := &logBuffer{}
	o := Options{Config: testConfig(dir), Version: "test", Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Server: s, t: t, log: log, ended: make(chan error, 1)}
	if w.client, err = api.NewClient(s.APISocket(), api.ClientOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		w.client.Close()
		w.shut()
		for _, token := range w.tokens {
			if strings.Contains(log.String(), token) {
				t.Errorf("the log tells an export's token:\n%s", log)
			}
		}
	})
	return w
}

// shut ends the server as SIGTERM does, once.
func (w *world) shut() {
	w.t.Helper()
	if w.stop == nil {
		return
	}
	w.client.Close()
	w.stop()
	w.stop = nil
	select {
	case err := <-w.ended:
		if err != nil {
			w.t.Errorf("server ended with %v\n%s", err, w.log)
		}
	case <-time.After(time.Minute):
		w.t.Fatalf("server did not end\n%s", w.log)
	}
}

// open opens a backup of one VM.
func (w *world) open(vm string, disks ...api.DiskRequest) api.Backup {
	w.t.Helper()
	b, err := w.client.StartBackup(w.t.Context(), api.BackupRequest{VM: vm, Disks: disks})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range b.Disks {
		w.tokens = append(w.tokens, d.Export)
	}
	return b
}

// write opens an export over the unix socket for writing.
func (w *world) write(export string) *nbdio.Client {
	w.t.Helper()
	c, err := nbdio.Dial(w.t.Context(), "unix", w.info.NBD.Socket, export)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Drop)
	return c
}

// dial tries to open an export.
func (w *world) dial(export string) (*nbdclient.Conn, error) {
	return nbdclient.Dial(w.t.Context(), nbdclient.Target{Network: "unix", Address: w.info.NBD.Socket, Export: export})
}

// read returns the whole content of an export.
func (w *world) read(export string) []byte {
	w.t.Helper()
	c, err := w.dial(export)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	p := make([]byte, c.Size())
	for off := 0; off < len(p); off += mib {
		if _, err := c.ReadAt(p[off:min(off+mib, len(p))], int64(off)); err != nil {
			w.t.Fatal(err)
		}
	}
	return p
}

// backup makes a point of one disk with the given content.
func (w *world) backup(vm, disk string, content []byte) api.Receipt {
	w.t.Helper()
	b := w.open(vm, api.DiskRequest{Disk: disk, Size: int64(len(content))})
	c := w.write(b.Disks[0].Export)
	if _, err := c.WriteAt(content, 0); err != nil {
		w.t.Fatal(err)
	}
	c.Close()
	return w.commit(b.Session)
}

func (w *world) commit(session string) api.Receipt {
	w.t.Helper()
	r, err := w.client.Commit(w.t.Context(), session)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// finish waits for the end of a job that a request began.
func (w *world) finish(j api.Job, err error) api.Job {
	w.t.Helper()
	for err == nil && j.Running() {
		j, err = w.client.Job(w.t.Context(), j.ID, 30*time.Second)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// random is content that does not compress, of a seed.
func random(seed byte, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{seed})
	rng.Read(p)
	return p
}

// wantRefusal checks a refusal's status and that its text holds a word.
func wantRefusal(t *testing.T, err error, status int, word string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != status || !strings.Contains(e.Message, word) {
		t.Errorf("got %v, want status %d with %q", err, status, word)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}
