package bitrot

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

// Where the engines keep what they keep.
const (
	dataDir    = "/data"
	tierDir    = dataDir + "/tier0"
	packsDir   = tierDir + "/packs"
	metaDir    = tierDir + "/meta"
	indexDir   = dataDir + "/index"
	catalogDir = dataDir + "/catalog"
	sessionDir = dataDir + "/sessions"
)

var (
	storeID   = [16]byte{7, 7, 7}
	domainKey = [32]byte{1, 2, 3}
)

const domain = 1

// engine is everything below the server, as the server puts it together.
type engine struct {
	fs    *crashfs.FS
	store *dedup.Store
	cat   *catalog.Catalog
	*volume.Manager
	notices *notices
}

// notices is what an operator is told of.
type notices struct {
	mu   sync.Mutex
	list []string
}

func (n *notices) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

func (n *notices) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.list...)
}

func (n *notices) events() dedup.Events {
	return dedup.Events{
		PackGivenUp: func(id tier.ID, durable int, err error) { n.add("%v is given up at slot %d", id, durable) },
		PackRecovered: func(id tier.ID, slots int, torn int64) {
			n.add("%v recovered with %d slots, %d bytes torn", id, slots, torn)
		},
		PackMissing:  func(pack uint64, gen uint32) { n.add("pack %d generation %d is missing", pack, gen) },
		Damage:       func(err *dedup.DamageError) { n.add("%v", err) },
		IndexRebuilt: func(reason error) { n.add("the block index is built anew") },
		IndexError:   func(err error) { n.add("the block index cannot be read") },
		SealFailed:   func(id tier.ID, err error) { n.add("%v cannot be sealed", id) },
	}
}

// ticks is the clock of every engine: a millisecond later each time.
var ticks atomic.Int64

func now() time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ticks.Add(1)) * time.Millisecond)
}

// start opens the engines. What they have to say goes to n.
func start(fs *crashfs.FS, n *notices) (*engine, error) {
	e := &engine{fs: fs, notices: n}
	t, err := tier.OpenDir(fs, tierDir, storeID)
	if err != nil {
		return nil, err
	}
	logger := lastWords{n}
	e.store, err = dedup.Open(dedup.Options{FS: fs, Dir: indexDir, Tier: t, Key: domainKey, StoreID: storeID, Domain: domain,
		PackSize: dedup.MinPackSize, TOCCacheBytes: 1 << 20, FrameCacheBytes: 1 << 20, IndexCacheBytes: 1 << 20,
		Events: n.events(), Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("open the block store: %w", err)
	}
	e.cat, err = catalog.Open(catalog.Options{FS: fs, Dir: catalogDir, MetaDir: metaDir, StoreID: storeID, Domain: domain,
		RootHash: e.store.RootHash, StoredBytes: e.store.StoredBytes, PackVersion: e.store.PackVersion, Clock: now, CacheBytes: 1 << 20, LogFileBytes: 4 << 10, Logger: logger})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalog: %w", err), e.stop())
	}
	e.Manager, err = volume.OpenManager(volume.Options{FS: fs, Dir: sessionDir, Blocks: e.store, Catalog: e.cat, Clock: now,
		BootID: "boot", Events: volume.Events{Dead: func(session, vm, reason string) { n.add("session %s died: %s", session, reason) }}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the sessions: %w", err), e.stop())
	}
	return e, nil
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

// lastWords is the databases' logger. Pebble ends the process by it, which is
// told by a panic here.
type lastWords struct{ n *notices }

func (lastWords) Infof(string, ...any)  {}
func (lastWords) Errorf(string, ...any) {}

func (l lastWords) Fatalf(format string, args ...any) {
	l.n.add("database: "+format, args...)
	panic(fatal(fmt.Sprintf(format, args...)))
}

// fatal is how the process would have ended: with a message, to be started anew.
type fatal string
