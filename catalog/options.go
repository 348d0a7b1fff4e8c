package catalog

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
)

// Options say where a catalog is. FS, Dir, MetaDir and RootHash are needed.
type Options struct {
	FS      vfs.FS
	Dir     string // of the catalog database; may be empty or missing: it is rebuilt
	MetaDir string // of the metadata log

	// StoreID and Domain are stamped into the files; files of another store
	// are refused.
	StoreID [16]byte
	Domain  uint32

	// RootHash is (*dedup.Store).RootHash: the hash of an image from its size
	// and the hashes of its chunks, the zero Hash for a chunk of zeros.
	RootHash func(size int64, chunks []dedup.Hash) dedup.Hash

	// StoredBytes is (*dedup.Store).StoredBytes: it sets out[i] to what block
	// addrs[i] takes in its pack, 0 if it is not there. nil: nothing takes
	// anything.
	StoredBytes func(addrs []dedup.Addr, out []uint32) error
	// PackVersion returns a number that is another one whenever StoredBytes may
	// answer differently for blocks of the pack: its generation, and whether it
	// is there; for pack 0, whenever it may for any block. It must be cheap. nil:
	// nothing StoredBytes said is remembered.
	PackVersion func(pack uint64) uint64

	Clock      func() time.Time // nil: time.Now
	CacheBytes int64            // bound of the chunk cache; 0: DefaultCacheBytes

	// LogFileBytes is when a metadata log file is followed by the next; 0:
	// metalog.DefaultRotateBytes.
	LogFileBytes int64

	// Logger takes Pebble's messages. Its Fatalf must not return: Pebble calls
	// it when a write to the database fails for good, and the process must
	// end, to be started again. nil: nothing is logged and Fatalf panics.
	Logger pebble.Logger

	// idle is for tests: the accounts are brought up to date by questions only,
	// so that nothing is written but on request.
	idle bool
}

func (o *Options) fill() error {
	if o.FS == nil || o.Dir == "" || o.MetaDir == "" || o.RootHash == nil {
		return invalid("catalog options: FS, Dir, MetaDir and RootHash are needed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Logger == nil {
		o.Logger = quiet{}
	}
	return nil
}

// quiet is the Logger of somebody who wants none.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("catalog database: "+format, args...))
}
