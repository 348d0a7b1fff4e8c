package catalog

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Record types of the metadata log (1 is the log's own commit record).
const (
	recChunk     = 2 // uvarint chunk number, chunk record
	recImage     = 3 // point id, disk, chunk list
	recBlob      = 4 // point id, name, bytes
	recPoint     = 5 // point
	recTombstone = 6 // point id, time
)

// applier turns transactions of the metadata log into the database. Commit,
// Remove and the replay at Open all go through it, so a rebuilt database is
// equal to the one that was lost.
//
// Chunk records, images and blobs are reachable only through a point. They may
// reach the database in batches of their own; the point or the removal, the
// VM's summary and the watermark go in one batch, the last.
type applier struct {
	db    *pebble.DB
	mark  watermark
	batch *pebble.Batch
	limit int     // bytes of batch from which on it is flushed early
	next  ChunkNo // mark.next once the transaction is whole

	point *Point
	value []byte // of point, as stored
	gone  *tombstone

	mu       sync.Mutex // guards totals and recorded
	totals   totals
	recorded ChunkNo // chunk records made so far
}

// tombstone says that a point was removed.
type tombstone struct {
	id   string
	time time.Time
}

func newApplier(db *pebble.DB, mark watermark) *applier {
	return &applier{db: db, mark: mark, batch: db.NewBatch(), limit: batchBytes, next: mark.next, recorded: mark.next - 1}
}

func (a *applier) close() { a.batch.Close() }

// visit takes one record of a transaction.
func (a *applier) visit(typ uint16, payload []byte) (err error) {
	switch typ {
	case recChunk:
		err = a.chunk(payload)
	case recImage:
		err = a.part(keyImage, payload)
	case recBlob:
		err = a.part(keyBlob, payload)
	case recPoint:
		err = a.setPoint(payload)
	case recTombstone:
		err = a.setGone(payload)
	default:
		err = fmt.Errorf("%w: metadata log record of type %d", ErrNewer, typ)
	}
	if err == nil && a.batch.Len() >= a.limit {
		err = a.flush(pebble.NoSync)
	}
	return err
}

func (a *applier) chunk(payload []byte) error {
	d := decoder{b: payload}
	no := ChunkNo(d.size(maxChunkNo))
	h, _, err := decodeChunkHead(d.b)
	if d.bad || no == 0 || err != nil {
		return badRecord("chunk")
	}
	key := chunkKey(no)
	a.next = max(a.next, no+1)
	return errors.Join(a.batch.Set(key, d.b, nil), a.batch.Set(chunkHashKey(h), key[1:], nil))
}

// part stores an image or a blob.
func (a *applier) part(kind byte, payload []byte) error {
	d := decoder{b: payload}
	id, name := d.string(maxName), d.string(maxName)
	if d.bad {
		return badRecord("image or blob")
	}
	return a.batch.Set(partKey(kind, id, name), d.b, nil)
}

func (a *applier) setPoint(payload []byte) error {
	p, err := decodePoint(payload)
	if err != nil {
		return badRecord("point")
	}
	a.point, a.value = &p, append([]byte(nil), payload...)
	return nil
}

func (a *applier) setGone(payload []byte) error {
	d := decoder{b: payload}
	t := tombstone{id: d.string(maxName), time: d.time()}
	if d.end() != nil {
		return badRecord("tombstone")
	}
	a.gone = &t
	return nil
}

func badRecord(kind string) error {
	return fmt.Errorf("metadata log holds a %s record that is %w: it cannot be decoded", kind, ErrCorrupt)
}

// whole ends the transaction whose commit record is seq.
func (a *applier) whole(seq uint64, o *pebble.WriteOptions) error {
	mark := watermark{seq: seq, next: a.next, lastTime: a.mark.lastTime}
	var before, after VM
	var err error
	switch {
	case a.point != nil:
		before, after, err = a.addPoint()
		mark.lastTime = later(mark.lastTime, a.point.Time)
	case a.gone != nil:
		before, after, err = a.removePoint()
		mark.lastTime = later(mark.lastTime, a.gone.time)
	}
	if err == nil {
		err = a.batch.Set([]byte{keyWatermark}, mark.encode(), nil)
	}
	if err == nil {
		err = a.flush(o)
	}
	if err != nil {
		return err
	}
	a.mark, a.point, a.value, a.gone = mark, nil, nil, nil
	a.mu.Lock()
	a.totals.replace(&before, &after)
	a.recorded = mark.next - 1
	a.mu.Unlock()
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (a *applier) flush(o *pebble.WriteOptions) error {
	err := a.batch.Commit(o)
	a.batch.Close()
	a.batch = a.db.NewBatch()
	return err
}

func (a *applier) addPoint() (before, after VM, err error) {
	p := a.point
	if before, err = getVM(a.db, p.VM); err != nil {
		return before, after, err
	}
	after = before
	after.Disks = append([]VMDisk(nil), before.Disks...)
	after.add(p)
	return before, after, errors.Join(
		a.batch.Set(pointKey(p.VM, p.Time), a.value, nil),
		a.batch.Set(pointVMKey(p.ID), appendPlace(nil, place{p.Time, p.VM}), nil),
		a.batch.Set(vmKey(p.VM), appendVM(nil, &after), nil))
}

// removePoint deletes a point and what only it holds; chunk records stay.
func (a *applier) removePoint() (before, after VM, err error) {
	at, p, err := getPoint(a.db, a.gone.id)
	if err != nil {
		return before, after, fmt.Errorf("remove point %s: %w", a.gone.id, err)
	}
	if before, err = getVM(a.db, p.VM); err != nil {
		return before, after, err
	}
	if after, err = sumUp(a.db, p.VM, p.ID); err != nil {
		return before, after, err
	}
	b := a.batch
	err = errors.Join(b.Delete(pointKey(at.vm, at.time), nil), b.Delete(pointVMKey(p.ID), nil),
		b.Set(removedKey(p.ID), appendTime(nil, a.gone.time), nil))
	for _, im := range p.Images {
		err = errors.Join(err, b.Delete(imageKey(p.ID, im.Disk), nil))
	}
	for _, f := range p.Blobs {
		err = errors.Join(err, b.Delete(blobKey(p.ID, f.Name), nil))
	}
	if after.Points == 0 {
		return before, after, errors.Join(err, b.Delete(vmKey(p.VM), nil))
	}
	return before, after, errors.Join(err, b.Set(vmKey(p.VM), appendVM(nil, &after), nil))
}
