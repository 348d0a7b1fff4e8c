package life

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

var storeID = [16]byte{0x11}

// Directories of the databases. Pebble counts on what journaling file systems do
// with names; everything else must stand any combination.
var (
	inCatalog = crashfs.Under("/data/catalog")
	inIndex   = crashfs.Under("/data/index")
)

func isOurs(path string) bool { return !inCatalog(path) && !inIndex(path) }

// clock stands still but for what the histories say.
type clock struct {
	at atomic.Int64 // milliseconds
	// still is held by histories that go on together: for writing by what moves
	// the clock, for reading by everything else.
	still sync.RWMutex
}

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 28, 20, 0, 0, 0, time.UTC).UnixMilli()) // the clocks change that night
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(d.Milliseconds()) }

// setup is a set of options a history runs under.
type setup struct {
	name         string
	packSize     int64
	settings     maintenance.Settings
	deadRatio    float64
	logFileBytes int64
	concurrent   bool
}

// world is the engine as a server puts it together.
type world struct {
	fs    *crashfs.FS
	store *dedup.Store
	cat   *catalog.Catalog
	vols  *volume.Manager
	maint *maintenance.Engine
}

// open opens the engine on fs.
func open(fs *crashfs.FS, s *setup, c *clock, boot string) (*world, error) {
	w := &world{fs: fs}
	t, err := tier.CreateDir(fs, "/data/tier0", storeID)
	if err != nil {
		return nil, err
	}
	w.store, err = dedup.Open(dedup.Options{FS: fs, Dir: "/data/index", Tier: t, StoreID: storeID,
		PackSize: s.packSize, Clock: c.now, Logger: lastWords{}})
	if err != nil {
		return nil, fmt.Errorf("open the block store: %w", err)
	}
	w.cat, err = catalog.Open(catalog.Options{FS: fs, Dir: "/data/catalog", MetaDir: "/data/tier0/meta", StoreID: storeID,
		RootHash: w.store.RootHash, StoredBytes: w.store.StoredBytes, PackVersion: w.store.PackVersion, Clock: c.now, LogFileBytes: s.logFileBytes, Logger: lastWords{}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), w.stop())
	}
	w.vols, err = volume.OpenManager(volume.Options{FS: fs, Dir: "/data/sessions", Blocks: w.store, Catalog: w.cat,
		Clock: c.now, BootID: boot})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the sessions: %w", err), w.stop())
	}
	w.maint, err = maintenance.New(maintenance.Options{Blocks: w.store, Catalog: w.cat, Volumes: w.vols, Clock: c.now,
		Config: maintenance.Config{Settings: s.settings, GC: maintenance.GCConfig{DeadRatio: s.deadRatio}}})
	if err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

// stop closes what is open, as SIGTERM does.
func (w *world) stop() (err error) {
	if w.vols != nil {
		err = w.vols.Close()
	}
	if w.cat != nil {
		err = errors.Join(err, w.cat.Close())
	}
	return errors.Join(err, w.store.Close())
}

// lastWords is the logger of the databases, which must not fail here.
type lastWords struct{}

func (lastWords) Infof(string, ...any)              {}
func (lastWords) Errorf(string, ...any)             {}
func (lastWords) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
