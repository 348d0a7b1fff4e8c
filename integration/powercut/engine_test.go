package powercut

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

var storeID = [16]byte{7}

// Directories of the two Pebble databases. Pebble counts on what journaling
// file systems do with names; everything else must stand any combination.
var (
	inCatalog = crashfs.Under("/data/catalog")
	inIndex   = crashfs.Under("/data/index")
)

func ours(dir string) bool { return !inCatalog(dir) && !inIndex(dir) }

// reserve is the space that is held back for everything but new data.
const reserve = 1 << 20

// engine is the whole of it, as the daemon puts it together.
type engine struct {
	fs    *crashfs.FS
	store *dedup.Store
	cat   *catalog.Catalog
	*volume.Manager
	maint *maintenance.Engine
}

// now is the clock of every engine of a test: a millisecond later each time.
var ticks atomic.Int64

func now() time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ticks.Add(1)) * time.Millisecond)
}

// start opens an engine on fs. Pebble's last words go to last.
func start(fs *crashfs.FS, boot string, last lastWords) (*engine, error) {
	e := &engine{fs: fs}
	t, err := tier.CreateDir(fs, "/data/tier0", storeID)
	if err != nil {
		return nil, err
	}
	e.store, err = dedup.Open(dedup.Options{FS: fs, Dir: "/data/index", Tier: t, StoreID: storeID,
		PackSize: dedup.MinPackSize, ReserveBytes: reserve, Logger: last,
		TOCCacheBytes: 1 << 20, FrameCacheBytes: 1 << 20, IndexCacheBytes: 1 << 20})
	if err != nil {
		return nil, fmt.Errorf("open the block store: %w", err)
	}
	e.cat, err = catalog.Open(catalog.Options{FS: fs, Dir: "/data/catalog", MetaDir: "/data/tier0/meta", StoreID: storeID,
		RootHash: e.store.RootHash, StoredBytes: e.store.StoredBytes, PackVersion: e.store.PackVersion, Clock: now, LogFileBytes: 4 << 10, CacheBytes: 1 << 20, Logger: last})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), e.stop())
	}
	e.Manager, err = volume.OpenManager(volume.Options{FS: fs, Dir: "/data/sessions", Blocks: e.store, Catalog: e.cat,
		Clock: now, BootID: boot})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the sessions: %w", err), e.stop())
	}
	e.maint, err = maintenance.New(maintenance.Options{Blocks: e.store, Catalog: e.cat, Volumes: e.Manager, Clock: now})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the maintenance: %w", err), e.stop())
	}
	return e, nil
}

// collect frees everything that can be freed.
func (e *engine) collect() error {
	_, err := e.maint.Collect(context.Background(), maintenance.CollectOptions{DeadRatio: 0.01})
	if errors.Is(err, maintenance.ErrBusy) {
		return nil
	}
	return err
}

// stop closes what is open, as SIGTERM does.
func (e *engine) stop() (err error) {
	if e.Manager != nil {
		err = e.Manager.Close()
	}
	if e.cat != nil {
		err = errors.Join(err, e.cat.Close())
	}
	return errors.Join(err, e.store.Close())
}

// lastWords is the logger of the databases. Fatalf means that the process must
// end: it never returns.
type lastWords struct{ fatal func(string) }

func (lastWords) Infof(string, ...any)  {}
func (lastWords) Errorf(string, ...any) {}

func (l lastWords) Fatalf(format string, args ...any) {
	l.fatal(fmt.Sprintf(format, args...))
	select {}
}

// mustLive is for runs without faults.
var mustLive = lastWords{fatal: func(s string) { panic(s) }}
