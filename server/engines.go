package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/metrics"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

// engines are the layers below, opened on a data directory.
type engines struct {
	dir    *dataDir
	tier   *tier.Dir
	blocks *dedup.Store
	cat    *catalog.Catalog
	vols   *volume.Manager
	// sessions turns what vols tells into log lines.
	sessions *sessionLog
	opened   metrics.Opened // how the databases were opened
}

// openEngines opens everything from the bottom up. On an error what was opened
// is closed again.
func openEngines(c *Config, fs vfs.FS, clock func() time.Time, log *slog.Logger, fatal, ended func(string)) (e *engines, err error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	e = &engines{sessions: newSessionLog(log, ended)}
	if e.dir, err = openDataDir(fs, c.Data, clock()); err != nil {
		return nil, err
	}
	for _, name := range databases {
		if _, err := fs.Stat(e.dir.join(name + asideSuffix)); err == nil {
			log.Warn("a rebuild of the databases did not end; what it moved aside can be removed", keyPath, e.dir.join(name+asideSuffix))
		}
	}
	err = e.openTier(clock, log)
	if err == nil {
		err = e.openBlocks(c, clock, log, fatal)
	}
	if err == nil {
		err = e.openCatalog(c, clock, log, fatal)
	}
	if err == nil {
		e.vols, err = volume.OpenManager(volume.Options{
			FS: fs, Dir: e.dir.join("sessions"), Blocks: e.blocks, Catalog: e.cat,
			Clock: clock, BootID: boot, Events: e.sessions.events(),
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory %s: %w", c.Data, err), e.close())
	}
	e.sessions.open(e.vols.Clones())
	return e, nil
}

func (e *engines) openTier(clock func() time.Time, log *slog.Logger) (err error) {
	open := tier.OpenDir
	if !e.dir.hasFile {
		open = tier.CreateDir
	}
	if e.tier, err = open(e.dir.fs, e.dir.join(tierName), e.dir.id.Store); err != nil {
		return err
	}
	written, err := e.dir.settle()
	switch {
	case err != nil:
		return err
	case !e.dir.hasFile && !e.dir.hasCopy:
		log.Info("made a new store", keyPath, e.dir.path, "store", e.dir.id.StoreID)
	case written != "":
		log.Warn("wrote the store's identity again from its copy", keyPath, e.dir.join(written))
	}
	return nil
}

func (e *engines) openBlocks(c *Config, clock func() time.Time, log *slog.Logger, fatal func(string)) (err error) {
	begun, events := time.Now(), dedupEvents(log)
	e.opened.Index.Rebuilt = e.lacks("index")
	events.IndexRebuilt = both(events.IndexRebuilt, func(error) { e.opened.Index.Rebuilt = true })
	defer func() { e.opened.Index.Took = time.Since(begun) }()
	e.blocks, err = dedup.Open(dedup.Options{
		FS: e.dir.fs, Dir: e.dir.join("index"), Tier: e.tier,
		Key: e.dir.id.Key, StoreID: e.dir.id.Store, Domain: e.dir.id.Domain,
		ReserveBytes:    uint64(c.Store.Reserve),
		TOCCacheBytes:   int64(c.Store.TOCCache),
		FrameCacheBytes: int64(c.Store.ReadCache),
		IndexCacheBytes: int64(c.Store.IndexCache),
		Clock:           clock,
		Events:          events,
		Logger:          databaseLogger("index", log, fatal),
	})
	return err
}

func (e *engines) openCatalog(c *Config, clock func() time.Time, log *slog.Logger, fatal func(string)) (err error) {
	begun := time.Now()
	e.opened.Catalog.Rebuilt = e.lacks("catalog")
	defer func() { e.opened.Catalog.Took = time.Since(begun) }()
	e.cat, err = catalog.Open(catalog.Options{
		FS: e.dir.fs, Dir: e.dir.join("catalog"), MetaDir: e.dir.join(tierName, "meta"),
		StoreID: e.dir.id.Store, Domain: e.dir.id.Domain, RootHash: e.blocks.RootHash,
		StoredBytes: e.blocks.StoredBytes, PackVersion: e.blocks.PackVersion,
		Clock: clock, CacheBytes: int64(c.Store.CatalogCache),
		Logger: databaseLogger("catalog", log, fatal),
	})
	return err
}

// lacks reports whether a store that is not new has lost a database.
func (e *engines) lacks(name string) bool {
	_, err := e.dir.fs.Stat(e.dir.join(name))
	return e.dir.hasFile && errors.Is(err, fs.ErrNotExist)
}

// both calls two hooks.
func both[T any](a, b func(T)) func(T) {
	return func(v T) { a(v); b(v) }
}

func databaseLogger(name string, log *slog.Logger, fatal func(string)) pebble.Logger {
	return pebbleLogger{log: log.With("database", name), fatal: fatal}
}

// close closes what is open, from the top down, and returns every error.
func (e *engines) close() error {
	var errs []error
	if e.vols != nil {
		errs = append(errs, e.vols.Close())
	}
	if e.cat != nil {
		errs = append(errs, e.cat.Close())
	}
	if e.blocks != nil {
		errs = append(errs, e.blocks.Close())
	}
	return errors.Join(append(errs, e.dir.close())...)
}
