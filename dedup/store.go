package dedup

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/tier"
)

// Options say where a store lives and how it works. FS, Dir, Tier and Key are
// needed, the rest has defaults.
type Options struct {
	FS   vfs.FS     // of the block index
	Dir  string     // of the block index; may be deleted whole while the store is closed
	Tier tier.Store // of the packs

	Key     [32]byte // of the dedup domain; hashes are keyed with what is derived from it
	StoreID [16]byte
	Domain  uint32

	PackSize     int64  // bytes to which packs are filled, MinPackSize … MaxPackSize (default)
	ReserveBytes uint64 // free space below which nothing new is stored (ENOSPC)

	TOCCacheBytes   int64 // tables of contents of sealed packs, default 64 MiB
	FrameCacheBytes int64 // decoded frames, default 64 MiB
	IndexCacheBytes int64 // blocks of the block index, default 64 MiB

	Clock  func() time.Time // default time.Now
	Events Events
	Logger pebble.Logger // of the block index; default: silent, and panics where Pebble cannot go on
}

func (o *Options) fill() error {
	if o.FS == nil || o.Tier == nil || o.Dir == "" {
		return errors.New("dedup: FS, Dir and Tier are needed")
	}
	if o.PackSize == 0 {
		o.PackSize = MaxPackSize
	}
	if o.PackSize < MinPackSize || o.PackSize > MaxPackSize {
		return fmt.Errorf("dedup: pack size %d is not between %d and %d bytes", o.PackSize, MinPackSize, MaxPackSize)
	}
	o.defaults()
	return nil
}

func (o *Options) defaults() {
	o.TOCCacheBytes = orDefault(o.TOCCacheBytes, defaultTOCCache)
	o.FrameCacheBytes = orDefault(o.FrameCacheBytes, defaultFrameCache)
	o.IndexCacheBytes = orDefault(o.IndexCacheBytes, defaultIndexCache)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = quietLogger{}
	}
}

func orDefault(n, def int64) int64 {
	if n <= 0 {
		return def
	}
	return n
}

// Store keeps blocks. It is safe for concurrent use. One process may have a
// directory open; the caller holds a lock that says so.
type Store struct {
	opts   Options
	tier   tier.Store
	hash   *hasher
	codec  *codec
	index  *index
	packs  *packSet
	recent *recent
	open   openSet
	space  space
	health health
	later  laterSet
	count  counters

	putAt atomic.Int64 // when a writer stored something last, monotonic, see busy

	cores   int          // that decode
	reading atomic.Int64 // cores that read for somebody

	readOnly    bool         // of a Reader: there is no index, and nothing is written
	sealedBytes atomic.Int64 // of the files of packs that are not open, graves included

	tocs   *cache[tier.ID, *toc]
	frames *cache[frameKey, *frameBuf]
	files  *cache[tier.ID, tier.File]

	pool    lanePool
	spare   spare
	sealing chan struct{} // holds one token per pack being sealed
	seals   sync.WaitGroup

	collectMu  sync.Mutex                 // held while a collection begins
	collecting atomic.Pointer[Collection] // the one that runs
	swaps      atomic.Uint64              // packs that changed their generation or went
	frozen     packNumbers                // packs whose blocks are no dedup hits, whatever happens
	graves     graves                     // files out of use
	rewriting  sync.Mutex                 // held while packs get new generations or go
	paused     func(at string)            // of tests

	failures atomic.Uint64 // packs given up; writers look at their packs when it grows
	writers  atomic.Int64
	closed   atomic.Bool

	batches   sync.Pool // of *batch
	requests  sync.Pool // of *request
	frameBufs [FrameBlocks]sync.Pool
}

// Open opens a store, made new if the tier is empty. What a crash left is put
// in order: packs without a footer are sealed behind their last good frame,
// and packs the block index does not know are indexed from their tables of
// contents, all of them when the index was deleted. When Open returns,
// everything in the store is durable.
func Open(o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s, err := open(o)
	if isUseless(err) { // the index looked good and was not
		if err := o.FS.RemoveAll(o.Dir); err != nil {
			return nil, fmt.Errorf("open store: remove the damaged block index: %w", err)
		}
		if s, err2 := open(o); err2 == nil {
			s.indexRebuilt(err)
			return s, nil
		} else {
			err = err2
		}
	}
	return s, err
}

func open(o Options) (*Store, error) {
	codec, err := newCodec()
	if err != nil {
		return nil, err
	}
	s := newStore(o, codec)
	if err := s.openIndex(); err != nil {
		codec.close()
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.abandon())
	}
	return s, nil
}

func newStore(o Options, c *codec) *Store {
	s := &Store{
		opts: o, tier: o.Tier, hash: newHasher(o.Key), codec: c, cores: runtime.GOMAXPROCS(0),
		packs: newPackSet(), recent: newRecent(),
		space:   space{tier: o.Tier, reserve: o.ReserveBytes, now: o.Clock},
		tocs:    newCache[tier.ID](o.TOCCacheBytes, func(*toc) {}),
		files:   newCache[tier.ID](maxOpenFiles, func(f tier.File) { f.Close() }), // opened for reading: Close has nothing to lose
		sealing: make(chan struct{}, maxSealing),
	}
	s.frames = newCache[frameKey](o.FrameCacheBytes, s.putFrameBuf)
	s.open.packs = make(map[uint64]*openPack)
	s.batches.New = func() any { return newBatch(s) }
	s.requests.New = func() any { return newRequest(s) }
	for i := range s.frameBufs {
		s.frameBufs[i].New = func() any { return &frameBuf{data: make([]byte, (i+1)*BlockSize, (i+1)*BlockSize+decodeSlack)} }
	}
	return s
}

func (s *Store) openIndex() (err error) {
	var useless error
	s.index, useless, err = openIndex(indexOptions{
		fs: s.opts.FS, dir: s.opts.Dir, store: s.opts.StoreID, cacheBytes: s.opts.IndexCacheBytes, logger: s.opts.Logger,
	})
	if err == nil && useless != nil {
		s.indexRebuilt(useless)
	}
	return err
}

func (s *Store) indexRebuilt(why error) {
	if s.opts.Events.IndexRebuilt != nil {
		s.opts.Events.IndexRebuilt(why)
	}
}

// Close syncs the open packs, so that the next Open goes on in them, and the
// index. Writers must be closed first and nobody may be in a call.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.seals.Wait()
	var errs []error
	if n := s.writers.Load(); n != 0 {
		errs = append(errs, fmt.Errorf("store closed with %d writers open", n))
	}
	for _, p := range s.pool.drain() {
		if p.usable() == nil { // else its writers have heard of it
			errs = append(errs, s.park(p))
		}
	}
	errs = append(errs, s.spare.discard(s))
	_, err := s.reap(true) // nobody reads any more
	errs = append(errs, err)
	return errors.Join(append(errs, s.abandon())...)
}

// park makes an open pack durable and remembers that nothing is to be
// recovered in it.
func (s *Store) park(p *openPack) error {
	slots := p.view.Load().nextSlot()
	if err := p.syncTo(slots, s.fsync); err != nil {
		return err
	}
	return s.index.putOpenRecord(p.id.Pack, openRecord{gen: p.id.Gen, slots: uint32(slots), size: p.size})
}

// abandon lets go of everything without making anything durable but the index.
func (s *Store) abandon() error {
	var errs []error
	for _, p := range s.open.all() {
		errs = append(errs, p.file.Close())
	}
	s.files.clear()
	s.frames.clear()
	s.tocs.clear()
	if s.index != nil {
		errs = append(errs, s.index.close())
	}
	s.codec.close()
	return errors.Join(errs...)
}

// lanesPerWriter is how many packs one writer fills at a time.
func lanesPerWriter() int { return runtime.GOMAXPROCS(0) }

// packNumbers is a set of a few packs, and cheap to ask when empty.
type packNumbers struct {
	n  atomic.Int64
	mu sync.Mutex
	m  map[uint64]bool
}

func (p *packNumbers) add(pack uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = make(map[uint64]bool)
	}
	p.m[pack] = true
	p.n.Store(int64(len(p.m)))
}

func (p *packNumbers) has(pack uint64) bool {
	if p.n.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m[pack]
}

// openSet is the packs without a footer, by number.
type openSet struct {
	mu    sync.RWMutex
	packs map[uint64]*openPack
}

func (o *openSet) get(pack uint64) *openPack {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.packs[pack]
}

func (o *openSet) put(p *openPack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.packs[p.id.Pack] = p
}

func (o *openSet) delete(pack uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.packs, pack)
}

func (o *openSet) all() []*openPack {
	o.mu.RLock()
	defer o.mu.RUnlock()
	all := make([]*openPack, 0, len(o.packs))
	for _, p := range o.packs {
		all = append(all, p)
	}
	return all
}

func (o *openSet) count() int {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return len(o.packs)
}
