package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// accounts count, for every slot of every pack, how often chunk records that
// images name lead to it. The counts are made from the queue of chunks born
// and died, some time after the batch that queued them; a question first has
// the rest of the queue applied, so its answer is exact.
//
// Only questions rely on the counts. What may be deleted is decided by the
// garbage collection's own mark, which audits them.
type accounts struct {
	c    *Catalog
	wake chan struct{} // capacity 1: there may be something in the queue
	stop chan struct{} // closed to end everything
	done chan struct{} // closed when the worker has ended
	once sync.Once     // stop is closed once

	// mu is held while a part of the queue is applied and while the accounts
	// are made anew. It is taken after asking and before commit.
	mu     sync.Mutex
	work   accountWork
	window accountWindow
	mended bool // the accounts were made anew for a mistake in them

	catchUp  hist.H // time questions waited for the queue
	counters accountCounters
	asking   askState
	touches  touches
}

// accountWindow bounds what a question gathers; see windowNumbers.
type accountWindow struct{ numbers, slots, places, records int }

// start begins to work on the queue.
func (a *accounts) start(c *Catalog) error {
	a.c, a.wake = c, make(chan struct{}, 1)
	a.stop, a.done = make(chan struct{}), make(chan struct{})
	a.work.sum = newPageSum()
	a.work.maxRecords, a.work.maxChanges = accountRecords, accountChanges
	a.window = accountWindow{windowNumbers, windowSlots, windowPlaces, windowRecords}
	if err := a.dropLeftovers(); err != nil {
		return err
	}
	a.kick()
	if c.o.idle {
		close(a.done)
		return nil
	}
	go a.run()
	return nil
}

// kick says that something may have been queued.
func (a *accounts) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// halt ends the worker, and questions with ErrClosed.
func (a *accounts) halt() {
	if a.stop == nil { // never started
		return
	}
	a.once.Do(func() { close(a.stop) })
	<-a.done
}

func (a *accounts) halted() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

// run is the worker.
func (a *accounts) run() {
	defer close(a.done)
	for {
		select {
		case <-a.stop:
			return
		case <-a.wake:
		}
		if err := a.apply(); err != nil && !errors.Is(err, ErrClosed) {
			a.counters.err.Store(&err)
		} else {
			a.counters.err.Store(nil)
		}
	}
}

// apply applies what is queued now. Entries that come meanwhile may be left.
func (a *accounts) apply() error {
	last, ok, err := lastQueued(a.c.db)
	for more := ok; more && err == nil; {
		if a.halted() {
			return ErrClosed
		}
		a.mu.Lock()
		if more, err = a.step(last); a.mistaken(err) {
			more = true
			_, err = a.recount()
		}
		a.mu.Unlock()
	}
	return err
}

// lastQueued returns the number of the newest entry of the queue.
func lastQueued(r pebble.Reader) (n uint64, ok bool, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyQueue}, UpperBound: []byte{keyQueue + 1}})
	if err != nil {
		return 0, false, unreadable("the queue of the accounts", err)
	}
	if ok = it.Last(); ok && len(it.Key()) == 9 {
		n = binary.BigEndian.Uint64(it.Key()[1:])
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return 0, false, unreadable("the queue of the accounts", err)
	}
	return n, ok, nil
}

// step applies a part of the queue up to entry last and tells whether there may
// be more. mu is held.
func (a *accounts) step(last uint64) (more bool, err error) {
	w := &a.work
	it, err := a.c.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyQueue}, UpperBound: queueKey(last + 1)})
	if err != nil {
		return false, unreadable("the queue of the accounts", err)
	}
	defer it.Close()
	if !it.First() {
		return false, it.Error()
	}
	if err := w.open(a.c.db); err != nil {
		return false, err
	}
	defer w.close()
	for more = true; more && err == nil && !w.full(); more = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			err = w.entry(it.Key(), v)
		}
	}
	if err == nil {
		err = it.Error()
	}
	if err == nil {
		err = w.pages(w.state.epoch)
	}
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		return false, fmt.Errorf("bring the accounts up to date: %w", err)
	}
	a.applied()
	return true, nil
}

// applied follows a batch in memory.
func (a *accounts) applied() {
	a.counters.applied.Store(a.work.last)
	a.counters.records.Add(uint64(a.work.records))
	a.touches.add(a.work.packs)
}

// accountView is the catalog at a moment when nothing was queued.
type accountView struct {
	*pebble.Snapshot
	epoch   byte   // of the pages
	live    uint64 // slots with references
	touched uint64 // changes of pages so far
}

// settled returns a view as of now or later.
func (a *accounts) settled() (*accountView, error) {
	start := time.Now()
	defer func() { a.catchUp.Since(start) }()
	for range settleTries {
		if s, err := a.settle(); s != nil || err != nil {
			return s, err
		}
	}
	return a.settleAlone()
}

// settle applies what is queued now and returns a view if nothing is after that.
func (a *accounts) settle() (*accountView, error) {
	if err := a.apply(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view()
}

// settleAlone keeps commits out while it applies what came since the last try.
func (a *accounts) settleAlone() (*accountView, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.c.commit.Lock()
	defer a.c.commit.Unlock()
	last, more, err := lastQueued(a.c.db)
	for more && err == nil {
		more, err = a.step(last)
	}
	if err != nil {
		return nil, err
	}
	v, err := a.view()
	if v == nil && err == nil {
		err = fmt.Errorf("%w: the queue does not end though nobody adds to it", ErrAccounts)
	}
	return v, err
}

// view returns a view as of now, unless something is queued. mu is held.
func (a *accounts) view() (*accountView, error) {
	v := &accountView{Snapshot: a.c.db.NewSnapshot(), touched: a.touches.number()}
	_, queued, err := lastQueued(v)
	if err == nil && !queued {
		var s accountState
		if s, err = getAccountState(v); err == nil {
			v.epoch, v.live = s.epoch, s.live
			return v, nil
		}
	}
	return nil, errors.Join(err, v.Close())
}

// mistaken tells whether to make the accounts anew for an error. mu is held. It
// is done once: a mistake that comes back is a fault to be seen, not to be
// mended for ever.
func (a *accounts) mistaken(err error) bool {
	if !errors.Is(err, ErrAccounts) || a.mended {
		return false
	}
	a.mended = true
	return true
}

// mend makes the accounts anew if an error asks for it and tells whether it is
// worth asking again.
func (a *accounts) mend(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.mistaken(err) {
		return false
	}
	_, err = a.recount()
	return err == nil
}
