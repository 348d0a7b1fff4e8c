package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/identity"
)

// RebuildOptions say which data directory's databases are made anew.
type RebuildOptions struct {
	Config   Config
	Log      *slog.Logger          // nil: nothing is logged
	FS       vfs.FS                // nil: the operating system's
	Clock    func() time.Time      // nil: time.Now
	Progress func(RebuildProgress) // nil: nobody wants to know; from any goroutine
	Fatal    func(reason string)   // as Options.Fatal
}

// RebuildProgress is how far a rebuild is.
type RebuildProgress struct {
	Phase       string // packs or log
	Done, Total int64  // packs looked at, or files of the metadata log
}

// Rebuilt is what a rebuild found.
type Rebuilt struct {
	Data         string  `json:"data"`
	StoreID      string  `json:"store_id"`
	VMs          int     `json:"vms"`
	Points       int     `json:"points"`
	Trashed      int     `json:"trashed_points"`
	Images       int     `json:"images"`
	ChunkRecords uint64  `json:"chunk_records"`
	Packs        int     `json:"packs"`
	DamagedPacks int     `json:"damaged_packs"`
	LogBytes     int64   `json:"log_bytes"`
	Seconds      float64 `json:"seconds"`
}

// databases are the directories that can be made from the tier, and where they
// wait while that is done.
var databases = []string{"index", "catalog"}

const asideSuffix = ".old"

// Rebuild makes both databases anew from the packs and the metadata log. No
// server may run on the directory. The old databases are moved aside and removed
// when the new ones are complete and closed; when that fails, or ctx ends, they
// are put back. After a crash in between, a rebuild begins again, and a server
// makes the databases by itself.
func Rebuild(ctx context.Context, o RebuildOptions) (Rebuilt, error) {
	r := rebuild{o: o, begun: time.Now()}
	r.fill()
	if err := r.open(); err != nil {
		return Rebuilt{}, err
	}
	out, err := r.run(ctx)
	return out, errors.Join(err, r.dir.close())
}

type rebuild struct {
	o     RebuildOptions
	begun time.Time
	dir   *dataDir
}

func (r *rebuild) fill() {
	if r.o.Log == nil {
		r.o.Log = slog.New(slog.DiscardHandler)
	}
	if r.o.FS == nil {
		r.o.FS = vfs.Default
	}
	if r.o.Clock == nil {
		r.o.Clock = time.Now
	}
	if r.o.Progress == nil {
		r.o.Progress = func(RebuildProgress) {}
	}
}

// open takes the data directory, which must be a store's.
func (r *rebuild) open() (err error) {
	d := dataDir{fs: r.o.FS, path: r.o.Config.Data}
	_, fileErr := d.read(identityName)
	_, copyErr := d.read(d.copyName())
	if errors.Is(fileErr, fs.ErrNotExist) && errors.Is(copyErr, fs.ErrNotExist) {
		return fmt.Errorf("%s is no data directory: neither %s nor %s is in it", d.path, identityName, identity.FileName+" beside the packs in "+tierName)
	}
	r.dir, err = openDataDir(r.o.FS, r.o.Config.Data, r.o.Clock())
	return err
}

func (r *rebuild) run(ctx context.Context) (Rebuilt, error) {
	// Looked at before anything is moved: an empty mount is not a store whose
	// packs are gone.
	if _, err := r.dir.fs.Stat(r.dir.join(tierName, "packs")); err != nil {
		return Rebuilt{}, fmt.Errorf("the packs of %s are not there: is its disk mounted? %w", r.dir.path, err)
	}
	if err := r.moveAside(); err != nil {
		return Rebuilt{}, fmt.Errorf("move the old databases aside: %w", err)
	}
	out, err := r.make(ctx)
	if err != nil {
		return out, errors.Join(fmt.Errorf("rebuild the databases of %s: %w", r.dir.path, err), r.putBack())
	}
	if err := r.removeAside(); err != nil {
		return out, fmt.Errorf("the databases are rebuilt, but the old ones are still there: %w", err)
	}
	out.Seconds = time.Since(r.begun).Seconds()
	return out, nil
}

// moveAside moves the databases away. One that is there already was left by a
// rebuild that did not end: it is the older one, and counts.
func (r *rebuild) moveAside() error {
	for _, name := range databases {
		path, aside := r.dir.join(name), r.dir.join(name+asideSuffix)
		if _, err := r.dir.fs.Stat(aside); err == nil {
			if err := r.dir.fs.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		if err := r.dir.fs.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return atomicfile.SyncDir(r.dir.fs, r.dir.path)
}

// putBack undoes moveAside. What was lost before stays lost.
func (r *rebuild) putBack() error {
	for _, name := range databases {
		path, aside := r.dir.join(name), r.dir.join(name+asideSuffix)
		if err := r.dir.fs.RemoveAll(path); err != nil {
			return err
		}
		if err := r.dir.fs.Rename(aside, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return atomicfile.SyncDir(r.dir.fs, r.dir.path)
}

func (r *rebuild) removeAside() error {
	for _, name := range databases {
		if err := r.dir.fs.RemoveAll(r.dir.join(name + asideSuffix)); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(r.dir.fs, r.dir.path)
}

// make opens the engines, which fill databases that are missing, asks them what
// they hold, and closes them: after that the new databases are durable.
func (r *rebuild) make(ctx context.Context) (out Rebuilt, err error) {
	watched := &watchedFS{FS: r.dir.fs, ctx: ctx}
	e := &engines{dir: &dataDir{fs: watched, path: r.dir.path, id: r.dir.id, hasFile: r.dir.hasFile, hasCopy: r.dir.hasCopy, lock: noLock{}}}
	defer func() { err = errors.Join(err, e.close(), ctx.Err()) }()
	if err := e.openTier(r.o.Clock, r.o.Log); err != nil {
		return out, err
	}
	packs, err := e.tier.List()
	if err != nil {
		return out, err
	}
	watched.watch(r.dir.join(tierName, "packs"), func(done int64) {
		r.o.Progress(RebuildProgress{Phase: "packs", Done: min(done, int64(len(packs))), Total: int64(len(packs))})
	})
	if err := e.openBlocks(&r.o.Config, r.o.Clock, r.o.Log, r.o.Fatal); err != nil {
		return out, err
	}
	files, err := r.dir.fs.List(r.dir.join(tierName, "meta"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	watched.watch(r.dir.join(tierName, "meta"), func(done int64) {
		r.o.Progress(RebuildProgress{Phase: "log", Done: min(done, int64(len(files))), Total: int64(len(files))})
	})
	if err := e.openCatalog(&r.o.Config, r.o.Clock, r.o.Log, r.o.Fatal); err != nil {
		return out, err
	}
	return r.count(e)
}

// count asks the new databases what they hold. The question about the space
// makes the accounts complete too.
func (r *rebuild) count(e *engines) (out Rebuilt, err error) {
	if _, err := e.cat.StoreUsage(); err != nil {
		return out, fmt.Errorf("make the accounts: %w", err)
	}
	trash, err := e.cat.TrashList()
	if err != nil {
		return out, err
	}
	cat, blocks := e.cat.Stats(), e.blocks.Stats()
	return Rebuilt{
		Data: r.dir.path, StoreID: r.dir.id.StoreID, VMs: cat.VMs, Points: cat.Points, Trashed: len(trash), Images: cat.Images,
		ChunkRecords: cat.Chunks, Packs: blocks.Packs, DamagedPacks: len(e.blocks.DamagedPacks()), LogBytes: cat.LogBytes,
	}, nil
}

// noLock is for a directory whose lock somebody else holds and lets go of.
type noLock struct{}

func (noLock) Close() error { return nil }
