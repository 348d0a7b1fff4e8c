package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
)

// The block index. Keys and values, integers big-endian:
//
//	's'                    → u8 version, store id: whose index this is
//	'b' hash[0:16]         → u40 pack, u16 slot
//	'p' u64 pack           → packRecord: its keys are in the index and it is durable
//	'o' u64 pack           → u32 generation, u32 slots, u64 size: an open pack of a clean shutdown
//	'v' u64 pack           → u64 nanoseconds since 1970: when all of it was last found good
//	'l' u64 pack           → u64 bytes of its frames whose compression was not tried, when there are any
//	'd' u64 pack           → damageRecord: what is known to be wrong with it
//
// It has no log of its own. A pack's keys and its 'p' record are one batch, so
// after a crash what is missing is known by its missing 'p' records.
const (
	indexVersion   = 2
	blockKeySize   = 1 + 16
	blockValueSize = 7
)

type index struct {
	o     indexOptions
	lock  *pebble.Lock
	db    *pebble.DB
	cache *pebble.Cache

	condemned sync.Once
	failed    chan error // holds an error of Pebble's background work

	mu     sync.RWMutex // held for reading around every use of db
	closed bool

	// blocks is held while 'b' keys are written: who looks whether a key is
	// still his before he writes it must not be overtaken.
	blocks sync.Mutex
}

type indexOptions struct {
	fs         vfs.FS
	dir        string
	store      [16]byte
	cacheBytes int64
	logger     pebble.Logger
}

var errIndexUseless = errors.New("block index cannot be used")

// rebuildName is a file in the index' directory that says: damage was met, make
// it new at the next start.
const rebuildName = "REBUILD"

// openIndex opens the database, made new if there is none. It is a hint, so
// whatever Pebble does not like about it is a reason to throw it away, which
// useless then tells; only what the operating system refuses is an error.
func openIndex(o indexOptions) (x *index, useless error, err error) {
	x, err = tryIndex(o)
	if !isUseless(err) {
		return x, nil, err
	}
	useless = err
	if err := o.fs.RemoveAll(o.dir); err != nil {
		return nil, useless, fmt.Errorf("remove the damaged block index: %w", err)
	}
	x, err = tryIndex(o)
	return x, useless, err
}

func isUseless(err error) bool {
	return errors.Is(err, errIndexUseless) || errors.Is(err, errIndexValue)
}

func tryIndex(o indexOptions) (*index, error) {
	if err := o.fs.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open block index: %w", err)
	}
	if _, err := o.fs.Stat(o.fs.PathJoin(o.dir, rebuildName)); err == nil {
		return nil, fmt.Errorf("%w: an earlier run found it damaged", errIndexUseless)
	}
	lock, err := pebble.LockDirectory(o.dir, o.fs)
	if err != nil {
		return nil, fmt.Errorf("open block index: %w", err)
	}
	x := &index{o: o, lock: lock, cache: pebble.NewCache(o.cacheBytes), failed: make(chan error, 1)}
	if x.db, err = pebble.Open(o.dir, x.options()); err != nil {
		x.cache.Unref()
		return nil, errors.Join(classify(err), lock.Close())
	}
	if err := x.claimFor(o.store); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

// classify tells a database that is not good from a system that is not: only
// the latter speaks in errno.
func classify(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.ENOENT {
		return fmt.Errorf("open block index: %w", err)
	}
	return fmt.Errorf("%w: %w", errIndexUseless, err)
}

// damaged marks what Pebble found corrupt; its own mark is not for errors.Is.
func damaged(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", errIndexUseless, err)
	}
	return err
}

// condemn has the index made new at the next start. Until then the damaged
// part of it finds nothing.
func (x *index) condemn() {
	x.condemned.Do(func() {
		// Best effort: without the file the next run meets the damage again.
		_ = atomicfile.Write(x.o.fs, x.o.fs.PathJoin(x.o.dir, rebuildName), nil)
	})
}

func (x *index) options() *pebble.Options {
	opts := &pebble.Options{
		FS: x.o.fs, Cache: x.cache, Lock: x.lock, Logger: x.o.logger,
		EventListener:              x.listener(),
		FormatMajorVersion:         pebble.FormatValueSeparation,
		DisableWAL:                 true,
		MemTableSize:               indexMemTable,
		L0CompactionThreshold:      4,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
	}
	opts.Experimental.L0CompactionConcurrency = 2
	for i := range opts.Levels {
		l := &opts.Levels[i]
		l.BlockSize = 8 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	opts.TargetFileSizes[0] = 16 << 20
	return opts
}

func (x *index) listener() *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption: func(pebble.DataCorruptionInfo) { x.condemn() },
		BackgroundError: func(err error) {
			select {
			case x.failed <- err:
			default:
			}
		},
	}
}

// flush makes everything in the index durable. Pebble itself tries for ever
// when it cannot write, which would keep a server with a full or dead disk from
// stopping.
func (x *index) flush() error {
	select {
	case <-x.failed: // an old one
	default:
	}
	done, err := x.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case err := <-x.failed:
		return fmt.Errorf("write the block index: %w", err)
	}
}

// claimFor makes a new index the store's, and refuses another's.
func (x *index) claimFor(store [16]byte) error {
	want := append([]byte{indexVersion}, store[:]...)
	got, err := x.get([]byte("s"))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return x.db.Set([]byte("s"), want, pebble.NoSync)
	case err != nil:
		return err
	case string(got) != string(want):
		return fmt.Errorf("%w: it belongs to another store or version", errIndexUseless)
	}
	return nil
}

func (x *index) get(key []byte) ([]byte, error) {
	v, closer, err := x.db.Get(key)
	if err != nil {
		return nil, damaged(err)
	}
	defer closer.Close()
	return append([]byte(nil), v...), nil
}

// pack returns the record of a pack, pebble.ErrNotFound under the error when
// there is none.
func (x *index) pack(pack uint64) (packRecord, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return packRecord{}, ErrClosed
	}
	v, err := x.get(packKey('p', pack))
	if err != nil {
		return packRecord{}, err
	}
	return parsePackRecord(v)
}

// lookup returns where a block with this hash may be, 0 when nowhere.
func (x *index) lookup(h *Hash) (Addr, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return 0, ErrClosed
	}
	return x.find(h)
}

// find is lookup for callers that hold mu.
func (x *index) find(h *Hash) (Addr, error) {
	key := blockKey(h)
	v, closer, err := x.db.Get(key[:])
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	return parseBlockValue(v)
}

// preference decides between two places of a block.
type preference struct {
	// damaged places are not entered at all. May be nil.
	damaged func(Addr) bool
	// keep reports that the place the index has is better than the new one. nil:
	// the new one always is.
	keep func(old, new Addr) bool
}

// addPack indexes a durable pack of the given file size in one batch.
func (x *index) addPack(pack uint64, gen uint32, t *toc, size int64, p preference) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	x.blocks.Lock()
	defer x.blocks.Unlock()
	b := x.db.NewBatchWithSize(len(t.slots)*32 + 128)
	var value [8]byte
	for i, s := range t.slots {
		addr := MakeAddr(pack, s.slot)
		if s.flags&slotDamaged != 0 || p.damaged != nil && p.damaged(addr) || p.keep != nil && x.keeps(&t.hashes[i], addr, p.keep) {
			continue
		}
		key := blockKey(&t.hashes[i])
		if err := b.Set(key[:], appendBlockValue(value[:0], addr), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := writePack(b, pack, gen, t, size); err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
}

// keeps reports whether the address the index has for a block stays. What
// cannot be read does not.
func (x *index) keeps(h *Hash, addr Addr, keep func(old, new Addr) bool) bool {
	old, err := x.find(h)
	return err == nil && old != 0 && old != addr && keep(old, addr)
}

// writePack adds to a batch what is kept of a durable pack besides its blocks.
func writePack(b *pebble.Batch, pack uint64, gen uint32, t *toc, size int64) error {
	if err := writeLater(b, pack, t.laterBytes()); err != nil {
		return err
	}
	return b.Set(packKey('p', pack), newPackRecord(gen, t, size).append(nil), nil)
}

// replacePack records a new generation of a pack, whose blocks keep their
// addresses, and forgets the blocks that went with the old one.
func (x *index) replacePack(pack uint64, gen uint32, t *toc, size int64, gone []goneBlock) error {
	return x.dropBlocks(gone, func(b *pebble.Batch) error { return writePack(b, pack, gen, t, size) })
}

// removePack forgets a pack, all that is noted about it, and its blocks.
func (x *index) removePack(pack uint64, gone []goneBlock) error {
	return x.dropBlocks(gone, func(b *pebble.Batch) error {
		for _, kind := range []byte{'p', 'v', 'd', 'l'} {
			if err := b.Delete(packKey(kind, pack), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// goneBlock is a block that is not at its address any more.
type goneBlock struct {
	hash Hash
	addr Addr
}

// dropBlocks deletes the keys that still lead to blocks that are gone, in one
// batch with whatever more adds.
func (x *index) dropBlocks(gone []goneBlock, more func(*pebble.Batch) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	x.blocks.Lock()
	defer x.blocks.Unlock()
	b := x.db.NewBatch()
	for i := range gone {
		if at, err := x.find(&gone[i].hash); err != nil || at != gone[i].addr {
			continue // an entry that stays is never believed
		}
		key := blockKey(&gone[i].hash)
		if err := b.Delete(key[:], nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := more(b); err != nil {
		return errors.Join(err, b.Close())
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
}

// set and remove change one record; flushed makes what was changed durable.
func (x *index) set(key, value []byte) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	return x.db.Set(key, value, pebble.NoSync)
}

func (x *index) remove(key []byte) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	return x.db.Delete(key, pebble.NoSync)
}

func (x *index) flushed() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	return x.flush()
}

// page calls f with up to limit records of a kind from a pack on, in order of
// pack.
func (x *index) page(kind byte, from uint64, limit int, f func(pack uint64, value []byte) error) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return ErrClosed
	}
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: packKey(kind, from), UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	return eachRecord(it, limit, f)
}

// each calls f with the pack and value of every record of a kind, in order of
// pack.
func (x *index) each(kind byte, f func(pack uint64, value []byte) error) error {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	return eachRecord(it, math.MaxInt, f)
}

// eachRecord calls f with at most limit of an iterator's records and closes it.
func eachRecord(it *pebble.Iterator, limit int, f func(pack uint64, value []byte) error) (err error) {
	for ok := it.First(); ok && err == nil && limit > 0; ok = it.Next() {
		limit--
		if len(it.Key()) != 9 {
			err = fmt.Errorf("%w: key %x", errIndexUseless, it.Key())
			break
		}
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			err = damaged(err)
		} else {
			err = f(binary.BigEndian.Uint64(it.Key()[1:]), v)
		}
	}
	return errors.Join(err, damaged(it.Error()), damaged(it.Close()))
}

// takeOpenRecords returns the records of the last clean shutdown and deletes
// them durably: they must not outlive the first byte appended to those packs.
func (x *index) takeOpenRecords() (map[uint64]openRecord, error) {
	records := make(map[uint64]openRecord)
	err := x.each('o', func(pack uint64, v []byte) error {
		r, err := parseOpenRecord(v)
		records[pack] = r
		return err
	})
	if err != nil || len(records) == 0 {
		return nil, err
	}
	for pack := range records {
		if err := x.db.Delete(packKey('o', pack), pebble.NoSync); err != nil {
			return nil, err
		}
	}
	return records, x.flush()
}

func (x *index) putOpenRecord(pack uint64, r openRecord) error {
	return x.db.Set(packKey('o', pack), r.append(nil), pebble.NoSync)
}

func (x *index) metrics() *pebble.Metrics {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return nil
	}
	return x.db.Metrics()
}

// close makes everything durable and closes the database.
func (x *index) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	err := x.flush()
	err = errors.Join(err, x.db.Close(), x.lock.Close())
	x.cache.Unref()
	return err
}

// quietLogger is what Pebble talks to when Options has no Logger.
type quietLogger struct{}

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}
func (quietLogger) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("block index: "+format, args...))
}
