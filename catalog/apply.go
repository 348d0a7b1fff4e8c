package catalog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// applier turns transactions of the metadata log into the database. Every
// change and the replay at Open go through it, so a rebuilt database is equal
// to the one that was lost.
//
// Chunk records, images and blobs are reachable only through a point. They may
// reach the database in batches of their own; everything else of a transaction
// goes in one batch with the watermark, the last.
type applier struct {
	db    *pebble.DB
	mark  watermark
	batch *pebble.Batch
	limit int               // bytes of batch from which on it is flushed early
	step  int               // entries of chunk lists forgotten in one batch
	dead  func(no chunkRun) // told of chunks that died, after the batch

	txn pending

	mu       sync.Mutex // guards totals and recorded
	totals   totals
	recorded ChunkNo // chunk records made so far
}

// pending is what was gathered of a transaction. It has exactly one of point,
// gone, policy and merge, or attributes alone; a point may have attributes.
type pending struct {
	point      *Point
	attributes *described
	gone       *tombstone
	policy     *ruled
	merge      *merged

	born []chunkRun
	next ChunkNo    // number after the largest chunk recorded
	refs refChanges // of the point's images
}

func newApplier(db *pebble.DB, mark watermark, dead func(chunkRun)) *applier {
	return &applier{db: db, mark: mark, batch: db.NewBatch(), limit: batchBytes, step: forgetStep, dead: dead, recorded: mark.next - 1}
}

func (a *applier) close() { a.batch.Close() }

// visit takes one record of a transaction.
func (a *applier) visit(typ uint16, payload []byte) (err error) {
	switch typ {
	case recChunk:
		err = a.chunk(payload)
	case recImage:
		err = a.image(payload)
	case recBlob:
		_, err = a.part(keyBlob, payload)
	case recPoint:
		err = a.setPoint(payload)
	case recTombstone:
		a.txn.gone, err = decodeTombstone(payload)
	case recAttributes:
		a.txn.attributes, err = decodeDescribed(payload)
	case recPolicy:
		a.txn.policy, err = decodeRuled(payload)
	case recMerge:
		a.txn.merge, err = decodeMerged(payload)
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
	a.txn.next = max(a.txn.next, no+1)
	a.txn.born = appendRun(a.txn.born, no)
	return errors.Join(a.batch.Set(key, d.b, nil), a.batch.Set(chunkHashKey(h), key[1:], nil))
}

func (a *applier) image(payload []byte) error {
	list, err := a.part(keyImage, payload)
	if err == nil && a.txn.refs.list(list, 1) != nil {
		err = badRecord("image")
	}
	return err
}

// part stores an image or a blob and returns its value.
func (a *applier) part(kind byte, payload []byte) ([]byte, error) {
	d := decoder{b: payload}
	id, name := d.string(maxName), d.string(maxPart)
	if d.bad {
		return nil, badRecord("image or blob")
	}
	return d.b, a.batch.Set(partKey(kind, id, name), d.b, nil)
}

func (a *applier) setPoint(payload []byte) error {
	p, err := decodePoint(payload)
	if err != nil {
		return badRecord("point")
	}
	a.txn.point = &p
	return nil
}

// change is what a transaction did beside the batch.
type change struct {
	mark          watermark
	before, after VM
	trashed       int // points that went to the trash, less those that left it
	pending       int // points to be forgotten, less those that were
	died          []chunkRun
}

// whole ends the transaction whose commit record is seq.
func (a *applier) whole(seq uint64, o *pebble.WriteOptions) error {
	ch := change{mark: a.mark}
	ch.mark.seq, ch.mark.next = seq, max(a.mark.next, a.txn.next)
	if err := a.dispatch(&ch); err != nil {
		return err
	}
	return a.finish(&ch, o)
}

// dispatch puts what the transaction does into the batch.
func (a *applier) dispatch(ch *change) error {
	t := &a.txn
	kinds := 0
	for _, set := range []bool{t.point != nil, t.gone != nil, t.policy != nil, t.merge != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1 || kinds == 1 && t.attributes != nil && (t.point == nil || t.attributes.id != t.point.ID):
		return badRecord("transaction's")
	case t.point != nil:
		return a.addPoint(ch)
	case t.gone != nil:
		return a.removePoint(ch, t.gone)
	case t.policy != nil:
		return a.setPolicy(t.policy)
	case t.merge != nil:
		return a.mergeImages(ch, t.merge)
	case t.attributes != nil:
		return a.describe(ch, t.attributes)
	}
	return nil
}

// finish writes the batch with the watermark, and follows it in memory.
func (a *applier) finish(ch *change, o *pebble.WriteOptions) error {
	err := a.batch.Set([]byte{keyWatermark}, ch.mark.encode(), nil)
	if err == nil {
		err = a.flush(o)
	}
	if err != nil {
		return err
	}
	a.mark, a.txn = ch.mark, pending{}
	a.mu.Lock()
	a.totals.replace(&ch.before, &ch.after)
	a.totals.trashed += ch.trashed
	a.totals.pending += ch.pending
	a.recorded = ch.mark.next - 1
	a.mu.Unlock()
	for _, run := range ch.died {
		a.dead(run)
	}
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

// indexed makes the batch, which must be empty, one that can be read.
func (a *applier) indexed() *pebble.Batch {
	a.batch.Close()
	a.batch = a.db.NewIndexedBatch()
	return a.batch
}

func (a *applier) addPoint(ch *change) (err error) {
	p := a.txn.point
	if a.txn.attributes != nil {
		p.Attributes = a.txn.attributes.Attributes
	}
	if !p.Trashed.IsZero() {
		return badRecord("point's attributes")
	}
	ch.mark.lastTime = later(ch.mark.lastTime, p.Time)
	if err := disown(a.db, p); err != nil {
		return err
	}
	if ch.before, err = getVM(a.db, p.VM); err != nil {
		return err
	}
	ch.after = ch.before
	ch.after.Disks = slices.Clone(ch.before.Disks)
	ch.after.add(p)
	if ch.died, err = a.txn.refs.write(a.db, a.batch); err != nil {
		return err
	}
	return errors.Join(ch.mark.enqueue(a.batch, queueBorn, a.txn.born),
		putPoint(a.batch, p), putVM(a.batch, &ch.after))
}

// disown takes away parents that have gone since the backup began.
func disown(r pebble.Reader, p *Point) error {
	for i := range p.Images {
		im := &p.Images[i]
		if im.Parent == "" {
			continue
		}
		_, parent, err := getPoint(r, im.Parent)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err != nil || !parent.has(im.Disk) {
			im.Parent = ""
		}
	}
	return nil
}

// putPoint stores a point where its attributes say.
func putPoint(b *pebble.Batch, p *Point) error {
	at := place{p.Time, p.VM, !p.Trashed.IsZero()}
	return errors.Join(b.Set(at.key(), appendStored(nil, p), nil), b.Set(pointVMKey(p.ID), appendPlace(nil, at), nil))
}

// putVM stores a summary, or deletes it with the VM's last live point.
func putVM(b *pebble.Batch, v *VM) error {
	if v.Points == 0 {
		return b.Delete(vmKey(v.Name), nil)
	}
	return b.Set(vmKey(v.Name), appendVM(nil, v), nil)
}
