package catalog

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// askedImage is an image a question is about.
type askedImage struct {
	point, disk string
	time        time.Time
	usage       Usage // what the point says; the rest is found out
}

// question finds out what images take, each for itself or all together.
//
// The images' chunk lists, each compared with the one before, say how often
// images name a chunk. Where an answer's references are all there are, the chunk
// is the answer's alone; and where the runs of such chunks are all references to
// a slot that the accounts know, the slot is. For one answer for all, the runs
// of all other chunks then say what else it has.
//
// For an answer each that would be too many runs. So, place by place, the chunks
// that were there one after the other are compared block by block, which says
// from which image to which a slot was there. These stretches are sorted by
// address, and where several lie over a slot it counts once for every answer in
// any of them.
type question struct {
	a      *accounts
	view   *accountView
	images []askedImage // images of a disk are together
	each   bool         // an answer for each image; else one for all

	refs    *refReader
	records *pebble.Iterator
	chunk   Chunk

	numbers spans // of chunks; tag: the image from which on
	slots   spans // tag: an answer, or a stretch of them, or whether the chunk is alone
	pack    packTally
}

// answers returns the usage of every image, or one for all.
func (q *question) answers() (usages []Usage, err error) {
	q.refs = newRefReader(q.view)
	q.numbers.limit, q.slots.limit = q.a.window.numbers, q.a.window.slots
	q.records, err = q.view.NewIter(&pebble.IterOptions{LowerBound: []byte{keyChunk}, UpperBound: []byte{keyChunk + 1}})
	if err != nil {
		return nil, unreadable("the chunk records", err)
	}
	defer q.records.Close()
	n := 1
	if q.each {
		n = len(q.images)
	}
	if err := q.pack.open(q, n); err != nil {
		return nil, err
	}
	defer q.pack.close()
	if q.each {
		err = errors.Join(q.rounds(q.chunks, q.pack.alone), q.rounds(q.present, q.pack.present))
	} else {
		err = q.rounds(q.chunks, q.pack.together)
	}
	if err != nil {
		return nil, err
	}
	usages = q.pack.sums()
	for i := range q.images {
		usages[min(i, n-1)].describe(&q.images[i].usage)
	}
	return usages, nil
}

// rounds has slots gathered and counted, as many at a time as memory is for.
func (q *question) rounds(gather func() error, count func(first uint64, n uint32, over []span) error) error {
	for from, last := uint64(0), false; !last; from = q.slots.to {
		q.slots.window(from)
		if err := gather(); err != nil {
			return err
		}
		last = q.slots.whole()
		if err := errors.Join(q.slots.sweep(count), q.pack.flush()); err != nil {
			return err
		}
	}
	return nil
}

// eachDiff calls visit for what is different in an image's list from the one
// before, from image first up to end.
func (q *question) eachDiff(first, end int, visit func(image int, place uint64, old, now ChunkNo, n uint64)) error {
	var before []byte
	for i := first; i < end; i++ {
		im := &q.images[i]
		if q.a.halted() {
			return ErrClosed
		}
		list, err := get(q.view, imageKey(im.point, im.disk))
		if err != nil {
			return missing(err, "image of %s at point %s", partName(im.disk), im.point)
		}
		err = diffLists(before, list, func(place uint64, old, now ChunkNo, n uint64) { visit(i, place, old, now, n) })
		if err != nil {
			return damaged(fmt.Sprintf("%s at point %s", partName(im.disk), im.point), err)
		}
		before = list
	}
	return nil
}

// describe adds what the point says of an image.
func (u *Usage) describe(im *Usage) {
	u.Logical = addCapped(u.Logical, im.Logical)
	u.Transferred = addCapped(u.Transferred, im.Transferred)
	u.New = addCapped(u.New, im.New)
}

// record returns a chunk record; it is valid until the next call.
func (q *question) record(no ChunkNo) ([]byte, error) {
	if no&1023 == 0 && q.a.halted() {
		return nil, ErrClosed
	}
	it := q.records
	for range nearChunks { // mostly it is one of the next
		if !it.Valid() || iterChunk(it) >= no {
			break
		}
		it.Next()
	}
	if !it.Valid() || iterChunk(it) != no {
		it.SeekGE(chunkKey(no))
	}
	if err := it.Error(); err != nil {
		return nil, unreadable(fmt.Sprintf("chunk %d", no), err)
	}
	if !it.Valid() || iterChunk(it) != no {
		return nil, damaged(fmt.Sprintf("chunk %d", no), errors.New("an image names it and it is not there"))
	}
	record, err := it.ValueAndErr()
	if err != nil {
		return nil, unreadable(fmt.Sprintf("chunk %d", no), err)
	}
	return record, nil
}

// decode decodes a record into q.chunk.
func (q *question) decode(no ChunkNo, record []byte) error {
	q.chunk.Runs = q.chunk.Runs[:0]
	if err := q.chunk.decode(record); err != nil {
		return damaged(fmt.Sprintf("chunk %d", no), err)
	}
	return nil
}
