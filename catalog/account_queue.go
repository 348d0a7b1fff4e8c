package catalog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// slotChange adds by to the counts of n slots of one pack.
type slotChange struct {
	addr  uint64
	n, by int32
}

// accountWork is one part of the queue on its way into the pages: one batch,
// which also takes the part off the queue, so that nothing is done twice.
type accountWork struct {
	db      *pebble.DB
	state   accountState
	batch   *pebble.Batch
	chunks  *pebble.Iterator // over chunk records
	changes []slotChange
	records int
	last    uint64 // queue number of the last entry begun

	maxRecords, maxChanges int

	chunk Chunk
	runs  []slotRun
	value []byte
	sum   *pageSum
	packs []uint64 // whose pages were written
}

// full says that the batch should be written. A chunk record more than that is
// fine.
func (w *accountWork) full() bool {
	return w.records >= w.maxRecords || len(w.changes) >= w.maxChanges
}

// open gives the work a batch and a view of the chunk records.
func (w *accountWork) open(db *pebble.DB) (err error) {
	w.db, w.changes, w.packs, w.records = db, w.changes[:0], w.packs[:0], 0
	if w.state, err = getAccountState(db); err != nil {
		return err
	}
	w.chunks, err = db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyChunk}, UpperBound: []byte{keyChunk + 1}})
	if err != nil {
		return unreadable("the chunk records", err)
	}
	w.batch = db.NewBatch()
	return nil
}

func (w *accountWork) close() error { return errors.Join(w.chunks.Close(), w.batch.Close()) }

// entry takes as much of a queue entry as fits.
func (w *accountWork) entry(key, value []byte) error {
	if len(key) != 9 {
		return fmt.Errorf("%w: a queue entry has the key %x", ErrAccounts, key)
	}
	w.last = binary.BigEndian.Uint64(key[1:])
	kind, runs, err := decodeQueue(value)
	if err != nil {
		return fmt.Errorf("%w: queue entry %d cannot be decoded", ErrAccounts, w.last)
	}
	for len(runs) > 0 && !w.full() {
		done, err := w.some(kind, runs[0])
		if err != nil {
			return err
		}
		if runs[0].count -= done; runs[0].count == 0 {
			runs = runs[1:]
		} else {
			runs[0].first += ChunkNo(done)
		}
	}
	if len(runs) == 0 {
		return w.batch.Delete(key, nil)
	}
	return w.batch.Set(key, appendQueue(nil, kind, runs), nil)
}

// some takes chunks from the front of a run and returns how many.
func (w *accountWork) some(kind uint64, run chunkRun) (done uint64, err error) {
	by := int32(1)
	if kind == queueDied {
		by = -1
	}
	for ok := w.chunks.SeekGE(chunkKey(run.first)); done < run.count && !w.full(); ok = w.chunks.Next() {
		no := run.first + ChunkNo(done)
		if err := w.record(ok, no, by); err != nil {
			return done, err
		}
		done++
	}
	if kind == queueDied {
		err = w.batch.DeleteRange(chunkKey(run.first), chunkKey(run.first+ChunkNo(done)), nil)
	}
	return done, err
}

// record takes the chunk record at which the iterator stands.
func (w *accountWork) record(ok bool, no ChunkNo, by int32) error {
	if err := w.chunks.Error(); err != nil {
		return unreadable(fmt.Sprintf("chunk %d", no), err)
	}
	if !ok || binary.BigEndian.Uint64(w.chunks.Key()[1:]) != uint64(no) {
		return fmt.Errorf("%w: chunk %d is queued and not recorded", ErrAccounts, no)
	}
	v, err := w.chunks.ValueAndErr()
	if err != nil {
		return unreadable(fmt.Sprintf("chunk %d", no), err)
	}
	w.chunk.Runs = w.chunk.Runs[:0]
	if err := w.chunk.decode(v); err != nil {
		return damaged(fmt.Sprintf("chunk %d", no), err)
	}
	w.add(by)
	w.records++
	return nil
}

// add takes the runs of the chunk just decoded.
func (w *accountWork) add(by int32) {
	for _, r := range w.chunk.Runs {
		w.changes = append(w.changes, slotChange{uint64(r.Addr), int32(r.Count), by})
	}
}

// pages puts the changed pages of an epoch and the state into the batch.
func (w *accountWork) pages(epoch byte) (err error) {
	slices.SortFunc(w.changes, func(a, b slotChange) int { return cmp.Compare(a.addr, b.addr) })
	for rest := w.changes; len(rest) > 0 && err == nil; {
		pack, n := rest[0].addr>>16, 1
		for n < len(rest) && rest[n].addr>>16 == pack {
			n++
		}
		err = w.page(epoch, pack, rest[:n])
		rest = rest[n:]
	}
	return err
}

// page changes the counts of one pack.
func (w *accountWork) page(epoch byte, pack uint64, changes []slotChange) (err error) {
	if w.runs, err = getPage(w.db, epoch, pack, w.runs[:0]); err != nil {
		return err
	}
	before := liveSlots(w.runs)
	for _, r := range w.runs {
		w.sum.add(r.first, r.n, int64(r.count))
	}
	for _, c := range changes {
		w.sum.add(uint32(c.addr&(pageSlots-1)), uint32(c.n), int64(c.by))
	}
	var ok bool
	if w.runs, ok = w.sum.take(w.runs[:0]); !ok {
		return fmt.Errorf("%w: blocks of pack %d have fewer references than chunks that died name", ErrAccounts, pack)
	}
	w.state.live += uint64(liveSlots(w.runs) - before)
	w.packs = append(w.packs, pack)
	if len(w.runs) == 0 {
		return w.batch.Delete(pageKey(epoch, pack), nil)
	}
	w.value = appendPage(w.value[:0], w.runs)
	return w.batch.Set(pageKey(epoch, pack), w.value, nil)
}

// commit writes the batch, which may be lost in a power cut: then the queue is
// what it was before as well.
func (w *accountWork) commit() error {
	err := w.batch.Set([]byte{keyAccounts}, w.state.encode(), nil)
	if err == nil {
		err = w.batch.Commit(pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	return nil
}

// decodeQueue decodes a queue entry.
func decodeQueue(b []byte) (kind uint64, runs []chunkRun, err error) {
	d := decoder{b: b}
	if kind = d.uvarint(); kind != queueBorn && kind != queueDied {
		return 0, nil, errDecode
	}
	for due := uint64(1); len(d.b) > 0; {
		first, count := d.size(maxChunkNo), d.size(maxChunkNo)
		if d.bad || first < due || count == 0 || count > maxChunkNo-first+1 {
			return 0, nil, errDecode
		}
		runs = append(runs, chunkRun{ChunkNo(first), count})
		due = first + count
	}
	return kind, runs, d.end()
}
