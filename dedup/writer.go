package dedup

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Writer stores the blocks of one disk session or clone and knows which packs
// that session depends on. It is safe for concurrent use, except that nobody
// may be in another method when Close is called.
type Writer struct {
	s     *Store
	later bool // new frames are stored as they are, see NewLaterWriter

	lanesMu sync.Mutex
	lanes   []*lane
	turn    atomic.Uint32

	mu     sync.Mutex
	deps   map[*openPack]int // slots below which this writer needs
	failed error             // for ever: something it depended on is lost

	failures atomic.Uint64 // Store.failures when deps were last looked at
	closed   atomic.Bool
}

// lane is a pack one goroutine at a time appends to.
type lane struct {
	mu   sync.Mutex
	pack *openPack // nil before the first append and when the last pack was full
}

// NewWriter returns a writer. It takes packs to fill when it needs them and
// gives them back at Close, half filled or not, so that the next writer goes
// on in them.
func (s *Store) NewWriter() *Writer {
	s.writers.Add(1)
	return &Writer{s: s, deps: make(map[*openPack]int)}
}

// NewLaterWriter returns a writer like [Store.NewWriter] that does not spend its
// clients' time on compressing: new blocks are stored as they are, and
// [Store.CompressPack] makes good for it once their pack is sealed. It
// compresses all the same while the tier has little space left.
func (s *Store) NewLaterWriter() *Writer {
	w := s.NewWriter()
	w.later = true
	return w
}

// Close gives the writer's packs back. It does not sync.
func (w *Writer) Close() {
	if w.closed.Swap(true) {
		return
	}
	for _, l := range w.lanes {
		if l.pack != nil {
			w.s.pool.give(l.pack)
		}
	}
	w.s.writers.Add(-1)
}

// lockLane returns a lane of the writer, locked: the first free one, so that a
// quiet writer fills one pack, a new one while there may be more, else one in
// turn.
func (w *Writer) lockLane() *lane {
	w.lanesMu.Lock()
	for _, l := range w.lanes {
		if l.mu.TryLock() {
			w.lanesMu.Unlock()
			return l
		}
	}
	if len(w.lanes) < lanesPerWriter() {
		l := new(lane)
		l.mu.Lock()
		w.lanes = append(w.lanes, l)
		w.lanesMu.Unlock()
		return l
	}
	l := w.lanes[int(w.turn.Add(1))%len(w.lanes)]
	w.lanesMu.Unlock()
	l.mu.Lock()
	return l
}

// need records that the writer depends on a slot of an open pack.
func (w *Writer) need(p *openPack, slot uint16) {
	n := int(slot) + 1
	if p.durable(n) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.deps[p] {
		w.deps[p] = n
	}
	if len(w.deps) > maxWriterDeps {
		w.prune()
	}
}

// prune forgets what has become durable; w.mu is held.
func (w *Writer) prune() {
	for p, n := range w.deps {
		if p.durable(n) {
			delete(w.deps, p)
		}
	}
}

// check returns the writer's failure, after looking at its packs if any pack
// of the store has failed since it last looked.
func (w *Writer) check() error {
	if w.closed.Load() || w.s.closed.Load() {
		return ErrClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.s.failures.Load(); n != w.failures.Load() {
		w.failures.Store(n)
		for p, n := range w.deps {
			w.fail(p.err(n))
		}
	}
	return w.failed
}

// fail makes an error the writer's for ever; w.mu is held.
func (w *Writer) fail(err error) {
	if err != nil && w.failed == nil {
		w.failed = fmt.Errorf("the session's data is not safe and never will be: %w", err)
	}
}

// Depend says that the writer's content refers to addresses that Put of this
// writer did not return, as a journal's does after a restart: Sync makes them
// durable too. An address no pack has makes the writer fail for ever.
func (w *Writer) Depend(addrs ...Addr) {
	var v view
	for _, a := range addrs {
		if a == 0 {
			continue
		}
		var err error
		if v.toc == nil || v.id.Pack != a.Pack() {
			v, err = w.s.view(a.Pack())
		}
		if err == nil && v.find(a.Slot()) < 0 {
			err = fmt.Errorf("block %v: %w", a, ErrUnknownAddr)
		}
		if err != nil {
			w.mu.Lock()
			w.fail(err)
			w.mu.Unlock()
			return
		}
		if v.open != nil {
			w.need(v.open, a.Slot())
		}
	}
}

// Sync makes every block Put returned, and every one Depend named, before the
// call power-cut safe. Once it has failed the writer's content cannot be made
// safe: it fails for ever with an error that wraps EIO, and so does Put.
func (w *Writer) Sync() error {
	if err := w.check(); err != nil {
		return err
	}
	w.mu.Lock()
	w.prune()
	need := make(map[*openPack]int, len(w.deps))
	for p, n := range w.deps {
		need[p] = n
	}
	w.mu.Unlock()

	var g errgroup.Group
	for p, n := range need {
		g.Go(func() error { return w.s.sync(p, n) })
	}
	err := g.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(err)
	w.prune()
	return w.failed
}
