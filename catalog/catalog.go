package catalog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/catalog/metalog"
	"github.com/strongroom-backup/strongroom/internal/hist"
)

// A Catalog is an open catalog. All methods may be called concurrently.
type Catalog struct {
	o      Options
	blocks *pebble.Cache
	db     *pebble.DB
	chunks *chunkCache

	// life is held for reading by every method, for writing by Close.
	life struct {
		sync.RWMutex
		closed bool
	}

	// commit is held by all that changes the catalog, from the check that it
	// may to the end of its batch. It is taken after life.
	commit struct {
		sync.Mutex
		log *metalog.Log
		app *applier
	}

	accounts accounts

	failed  atomic.Pointer[error] // why nothing can be committed any more
	latency hist.H
}

// ErrClosed is returned by all methods after Close.
var ErrClosed = errors.New("the catalog is closed")

// Open opens the catalog in o.Dir and brings it up to date with the metadata
// log: what was committed there and is not in the database is applied. An
// empty or missing o.Dir is filled from the log, as is one of an older format.
// Points that were removed are forgotten.
//
// Files of a newer version fail with ErrNewer, damage with ErrCorrupt; neither
// changes anything.
func Open(o Options) (*Catalog, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	c := &Catalog{o: o, blocks: pebble.NewCache(blockCacheBytes), chunks: newChunkCache(o.CacheBytes)}
	if err := c.open(); err != nil {
		return nil, errors.Join(err, c.release())
	}
	return c, nil
}

func (c *Catalog) open() error {
	found, err := c.o.peek(c.blocks)
	if err != nil {
		return err
	}
	if err := c.openLog(found); err != nil {
		return err
	}
	if c.db, err = c.o.open(c.blocks, found, func(err error) { c.fail(err) }); err != nil {
		return err
	}
	c.commit.app = newApplier(c.db, found.mark, c.chunks.drop)
	if err := c.commit.app.totals.count(c.db); err != nil {
		return err
	}
	if err := c.replay(); err != nil {
		return err
	}
	if err := c.forgetAll(); err != nil {
		return err
	}
	return c.accounts.start(c)
}

// openLog opens the log behind what the database holds of it. If the database
// is to be made anew, the whole log must be sound, and hold what it knew.
func (c *Catalog) openLog(found found) (err error) {
	o := metalog.Options{FS: c.o.FS, Dir: c.o.MetaDir, StoreID: c.o.StoreID, Domain: c.o.Domain, RotateBytes: c.o.LogFileBytes}
	if found.outdated {
		l, err := metalog.Open(o, found.held)
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	c.commit.log, err = metalog.Open(o, found.mark.seq)
	return err
}

// replay applies what the log has above the watermark.
func (c *Catalog) replay() error {
	app, before := c.commit.app, c.commit.app.mark.seq
	err := c.commit.log.Replay(app.visit, func(seq uint64) error { return app.whole(seq, pebble.NoSync) })
	if err == nil && app.mark.seq != before {
		err = c.db.LogData(nil, pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("apply the metadata log to catalog %s: %w", c.o.Dir, err)
	}
	return nil
}

// Close waits for the calls under way and gives the files back. What a
// method did that returned without an error is durable without it.
func (c *Catalog) Close() error {
	c.accounts.halt()
	c.life.Lock()
	defer c.life.Unlock()
	if c.life.closed {
		return nil
	}
	c.life.closed = true
	return c.release()
}

func (c *Catalog) release() (err error) {
	if c.commit.app != nil {
		c.commit.app.close()
	}
	if c.db != nil {
		err = c.db.Close()
	}
	if c.commit.log != nil {
		err = errors.Join(err, c.commit.log.Close())
	}
	c.blocks.Unref()
	return err
}

// enter keeps the catalog open until leave is called.
func (c *Catalog) enter() error {
	c.life.RLock()
	if c.life.closed {
		c.life.RUnlock()
		return ErrClosed
	}
	return nil
}

func (c *Catalog) leave() { c.life.RUnlock() }

// Err is why the catalog is read-only, nil while it is not.
func (c *Catalog) Err() error {
	if e := c.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// fail makes the catalog read-only.
func (c *Catalog) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	c.failed.CompareAndSwap(nil, &err)
	return err
}

// now is server time in milliseconds, later than all times given before.
// commit must be held.
func (c *Catalog) now() time.Time {
	t := c.o.Clock().UTC().Truncate(time.Millisecond)
	if last := c.commit.app.mark.lastTime; !t.After(last) {
		t = last.Add(time.Millisecond)
	}
	return t
}

func isNotExist(err error) bool { return oserror.IsNotExist(err) }
