package maintenance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

const block = dedup.BlockSize

// world is everything an engine looks after, in memory.
type world struct {
	t  testing.TB
	fs *crashfs.FS
	io hooks

	mu    sync.Mutex
	clock time.Time

	config Config
	events Events
	after  func(time.Duration) <-chan time.Time
	free   uint64 // of 1000

	store *dedup.Store
	cat   *catalog.Catalog
	vols  *volume.Manager
	e     *Engine
}

func newWorld(t testing.TB, c Config) *world {
	w := &world{t: t, fs: crashfs.New(), clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), config: c, free: 500}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// now passes a millisecond at every look.
func (w *world) now() time.Time { return w.pass(time.Millisecond) }

func (w *world) pass(d time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
	return w.clock
}

func (w *world) start() {
	w.t.Helper()
	fs := hookedFS{w.fs, &w.io}
	tr, err := tier.CreateDir(fs, "data/tier0", [16]byte{1})
	w.must(err)
	w.store, err = dedup.Open(dedup.Options{FS: w.fs, Dir: "data/index", Tier: tr, StoreID: [16]byte{1}, PackSize: dedup.MinPackSize, Clock: w.now})
	w.must(err)
	w.cat, err = catalog.Open(catalog.Options{FS: w.fs, Dir: "data/catalog", MetaDir: "data/tier0/meta", StoreID: [16]byte{1},
		RootHash: w.store.RootHash, StoredBytes: w.store.StoredBytes, PackVersion: w.store.PackVersion, Clock: w.now})
	w.must(err)
	w.vols, err = volume.OpenManager(volume.Options{FS: fs, Dir: "data/sessions", Blocks: w.store, Catalog: w.cat, Clock: w.now, BootID: "boot"})
	w.must(err)
	w.e, err = New(Options{Blocks: w.store, Catalog: w.cat, Volumes: w.vols, Clock: w.now, After: w.after, Config: w.config, Events: w.events,
		Space: func() (uint64, uint64, error) { return w.free << 30, 1000 << 30, nil }})
	w.must(err)
}

func (w *world) stop() {
	w.t.Helper()
	for _, close := range []func() error{w.vols.Close, w.cat.Close, w.store.Close} {
		if err := close(); err != nil {
			w.t.Error(err)
		}
	}
}

// reopen starts everything again.
func (w *world) reopen() {
	w.t.Helper()
	w.stop()
	w.start()
}

// kill continues as kill -9 would.
func (w *world) kill() {
	w.t.Helper()
	after := w.fs.Kill()
	w.stop()
	w.fs = after
	w.start()
}

// noise makes n bytes that depend on seed and do not compress.
func noise(n int, seed uint64) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	r.Read(p)
	return p
}

// begin starts a backup of disk vda.
func (w *world) begin(r volume.StartRequest, size int64) (volume.Status, *volume.Disk, error) {
	if r.Disks == nil {
		r.Disks = []volume.DiskSpec{{Name: "vda", Size: size}}
	}
	st, err := w.vols.Start(r)
	if err != nil {
		return st, nil, err
	}
	d, err := w.vols.OpenExport(st.Disks[0].Token)
	return st, d, err
}

// put is bytes to be written somewhere.
type put struct {
	off  int64
	data []byte
}

// backup makes a point of vda with the given writes.
func (w *world) backup(r volume.StartRequest, size int64, puts ...put) catalog.Point {
	w.t.Helper()
	st, d, err := w.begin(r, size)
	w.must(err)
	for _, p := range puts {
		_, err := d.WriteAt(p.data, p.off)
		w.must(err)
	}
	rec, err := w.vols.Commit(st.Session)
	w.must(err)
	p, err := w.cat.Point(rec.Point)
	w.must(err)
	return p
}

// sameImage compares an image with what it should be.
func (w *world) sameImage(point string, want []byte) error {
	im, err := w.vols.OpenImage(point, "vda")
	if err != nil {
		return err
	}
	defer im.Close()
	return sameAs(im, want)
}

func sameAs(im interface {
	Size() int64
	ReadAt([]byte, int64) (int, error)
}, want []byte) error {
	if im.Size() != int64(len(want)) {
		return fmt.Errorf("%d bytes, want %d", im.Size(), len(want))
	}
	got := make([]byte, len(want))
	if _, err := im.ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				return fmt.Errorf("differs from byte %d on", i)
			}
		}
	}
	return nil
}

func (w *world) collect(o CollectOptions) CollectResult {
	w.t.Helper()
	res, err := w.e.Collect(w.t.Context(), o)
	w.must(err)
	return res
}

// all collects everything that can be.
var all = CollectOptions{DeadRatio: 0.0001}

// seedOf is STRONGROOM_SEED, or one of its own for each run.
func seedOf(t testing.TB) uint64 {
	seed := rand.Uint64() >> 32
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	return seed
}
