package volume

import (
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// world is the whole engine under the manager, on a disk that can lose power.
type world struct {
	t     *testing.T
	fs    *crashfs.FS
	boot  string
	clock time.Time

	packSize int64
	small    bool // limits so small that everything happens soon

	ticking sync.Mutex // guards clock while the engine runs

	store *dedup.Store
	cat   *catalog.Catalog
	m     *Manager
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, fs: crashfs.New(), boot: "boot-1", packSize: 4 << 20, clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) now() time.Time {
	w.ticking.Lock()
	defer w.ticking.Unlock()
	w.clock = w.clock.Add(time.Millisecond)
	return w.clock
}

func (w *world) start() {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	tr, err := tier.CreateDir(w.fs, "data/tier0", [16]byte{1})
	must(err)
	w.store, err = dedup.Open(dedup.Options{FS: w.fs, Dir: "data/index", Tier: tr, StoreID: [16]byte{1}, PackSize: w.packSize})
	must(err)
	w.cat, err = catalog.Open(catalog.Options{FS: w.fs, Dir: "data/catalog", MetaDir: "data/tier0/meta", StoreID: [16]byte{1}, RootHash: w.store.RootHash, Clock: w.now})
	must(err)
	w.m, err = OpenManager(Options{FS: w.fs, Dir: "data/sessions", Blocks: w.store, Catalog: w.cat, Clock: w.now, BootID: w.boot})
	must(err)
	if w.small {
		w.m.residentChunks, w.m.maxRetired, w.m.rewriteFloor = 2, 200, 200<<10
	}
}

func (w *world) stop() {
	w.t.Helper()
	for _, close := range []func() error{w.m.Close, w.cat.Close, w.store.Close} {
		if err := close(); err != nil {
			w.t.Error(err)
		}
	}
}

// kill continues on the file system as kill -9 would leave it.
func (w *world) kill() {
	after := w.fs.Kill()
	w.stop()
	w.fs = after
}
