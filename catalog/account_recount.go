package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// ErrAccounts is matched when the accounts differ from what they count. No data
// is concerned: RecountAccounts makes them anew.
var ErrAccounts = errors.New("the accounts of space are wrong")

// Recount is what RecountAccounts found.
type Recount struct {
	Chunks    int64 // chunk records counted
	Packs     int64 // packs with counted slots
	Differing int64 // packs whose counts were wrong
}

// RecountAccounts makes the accounts anew from all chunk records. Commits go on
// meanwhile; questions wait.
func (c *Catalog) RecountAccounts() (Recount, error) {
	if err := c.enter(); err != nil {
		return Recount{}, err
	}
	defer c.leave()
	a := &c.accounts
	a.asking.Lock()
	defer a.asking.Unlock()
	if err := a.apply(); err != nil && !errors.Is(err, ErrAccounts) {
		return Recount{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r, err := a.recount()
	a.mended = a.mended && err != nil
	return r, err
}

// recount makes pages of the other epoch from the chunk records of a snapshot
// that have references, and then, in one batch, lets these pages count and
// takes off the queue what the snapshot had in it. Until then a crash leaves
// everything as it was. mu is held.
func (a *accounts) recount() (r Recount, err error) {
	snap := a.c.db.NewSnapshot()
	defer snap.Close()
	old, err := getAccountState(snap)
	if errors.Is(err, ErrAccounts) {
		old, err = accountState{}, nil
	}
	if err != nil {
		return r, err
	}
	fresh := accountState{epoch: 1 - old.epoch}
	if err = a.dropPages(fresh.epoch); err == nil {
		r.Chunks, err = a.recountChunks(snap, &fresh)
	}
	if err == nil {
		r.Packs, r.Differing, err = a.comparePages(snap, old.epoch, fresh.epoch)
	}
	if err == nil {
		err = a.swapPages(snap, old.epoch, fresh)
	}
	if err != nil {
		return r, fmt.Errorf("make the accounts of space anew: %w", err)
	}
	a.touches.all()
	a.counters.recounts.Add(1)
	return r, nil
}

func (a *accounts) dropPages(epoch byte) error {
	prefix := accountsPrefix(epoch)
	return a.c.db.DeleteRange(prefix, keysAfter(prefix), pebble.NoSync)
}

// recountChunks makes the pages, some chunk records at a time.
func (a *accounts) recountChunks(snap *pebble.Snapshot, s *accountState) (chunks int64, err error) {
	refs := newRefReader(snap)
	w := &a.work
	flush := func() error {
		w.batch = a.c.db.NewBatch()
		defer w.batch.Close()
		w.state = *s
		if err := w.pages(s.epoch); err != nil {
			return err
		}
		*s = w.state
		w.changes, w.packs, w.records = w.changes[:0], w.packs[:0], 0
		return w.batch.Commit(pebble.NoSync)
	}
	w.db, w.changes, w.packs, w.records = a.c.db, w.changes[:0], w.packs[:0], 0
	err = scan(snap, []byte{keyChunk}, func(key, value []byte) error {
		no := ChunkNo(binary.BigEndian.Uint64(key[1:]))
		if n, err := refs.count(no); n == 0 || err != nil {
			return err
		}
		w.chunk.Runs = w.chunk.Runs[:0]
		if err := w.chunk.decode(value); err != nil {
			return damaged(fmt.Sprintf("chunk %d", no), err)
		}
		w.add(1)
		w.records++
		chunks++
		switch {
		case a.halted():
			return ErrClosed
		case w.full():
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return chunks, err
}

// dropLeftovers drops what a crash left of a recount.
func (a *accounts) dropLeftovers() error {
	s, err := getAccountState(a.c.db)
	if err != nil {
		return nil // the next question has them made anew
	}
	it, err := newPages(a.c.db, 1-s.epoch)
	if err != nil {
		return err
	}
	any := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil || !any {
		return err
	}
	return a.dropPages(1 - s.epoch)
}

// comparePages counts the new pages and the packs where old ones differ, which
// some do if something was queued.
func (a *accounts) comparePages(snap *pebble.Snapshot, old, fresh byte) (packs, differing int64, err error) {
	before, err := newPages(snap, old)
	if err != nil {
		return 0, 0, err
	}
	defer before.Close()
	now, err := newPages(a.c.db, fresh)
	if err != nil {
		return 0, 0, err
	}
	defer now.Close()
	for b, n := before.First(), now.First(); b || n; {
		order := -1
		switch {
		case !b:
			order = 1
		case n:
			order = bytes.Compare(before.Key()[2:], now.Key()[2:])
		}
		if order >= 0 {
			packs++
		}
		if order != 0 || !bytes.Equal(before.Value(), now.Value()) {
			differing++
		}
		if order <= 0 {
			b = before.Next()
		}
		if order >= 0 {
			n = now.Next()
		}
	}
	return packs, differing, errors.Join(before.Error(), now.Error())
}

// newPages is an iterator over the pages of an epoch.
func newPages(r pebble.Reader, epoch byte) (*pebble.Iterator, error) {
	prefix := accountsPrefix(epoch)
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keysAfter(prefix)})
	if err != nil {
		return nil, unreadable("the accounts", err)
	}
	return it, nil
}

// swapPages lets the pages of s count.
func (a *accounts) swapPages(snap *pebble.Snapshot, old byte, s accountState) error {
	b := a.c.db.NewBatch()
	defer b.Close()
	err := scan(snap, []byte{keyQueue}, func(key, value []byte) error {
		kind, runs, err := decodeQueue(value)
		if err != nil || kind != queueDied {
			runs = nil // whatever it was, the snapshot has it counted
		}
		for _, r := range runs {
			if err := b.DeleteRange(chunkKey(r.first), chunkKey(r.first+ChunkNo(r.count)), nil); err != nil {
				return err
			}
		}
		return b.Delete(key, nil)
	})
	prefix := accountsPrefix(old)
	err = errors.Join(err, b.DeleteRange(prefix, keysAfter(prefix), nil), b.Set([]byte{keyAccounts}, s.encode(), nil))
	if err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}
