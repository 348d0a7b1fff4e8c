package catalog

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// questionNumbers and questionSlots bound what a question gathers before it
	// works through it, 24 bytes each: 24 and 72 MiB. More takes more rounds.
	questionNumbers = 1 << 20
	questionSlots   = 3 << 20
)

// askedImage is an image a question is about.
type askedImage struct {
	point, disk string
	time        time.Time
	usage       Usage // what the point says; the rest is found out
}

// question finds out what images take, each for itself or all together.
//
// It goes from chunks to slots. Chunks: the lists of all images, each compared
// with the one before, say which answers a chunk counts for; where the set's
// references are all there are, the chunk is the answer's alone. Slots: the
// runs of all chunks are sorted by address; where every run over a slot is of
// chunks of one answer alone, and the accounts know no further reference, the
// slot is that answer's alone. It is shared by the answers its chunks count for
// otherwise.
type question struct {
	a      *accounts
	view   *accountView
	images []askedImage
	each   bool // an answer for each image; else one for all

	refs    *refReader
	records *pebble.Iterator
	chunk   Chunk
	classes *classTable
	in      []stretch

	numbers spans // of chunks; tag: the image from which on
	slots   spans // tag: the chunk's class
	pack    packTally
}

// answers returns the usage of every image, or one for all.
func (q *question) answers() (usages []Usage, err error) {
	q.classes, q.refs = newClassTable(), newRefReader(q.view)
	q.numbers.limit, q.slots.limit = questionNumbers, questionSlots
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
	for from, last := uint64(0), false; !last; from = q.slots.to {
		q.slots.window(from)
		if err := q.gather(); err != nil {
			return nil, err
		}
		last = q.slots.whole()
		if err := errors.Join(q.slots.sweep(q.pack.visit), q.pack.flush()); err != nil {
			return nil, err
		}
	}
	usages = q.pack.sums()
	for i := range q.images {
		usages[min(i, n-1)].describe(&q.images[i].usage)
	}
	return usages, nil
}

// describe adds what the point says of an image.
func (u *Usage) describe(im *Usage) {
	u.Logical += im.Logical
	u.Transferred = addCapped(u.Transferred, im.Transferred)
	u.New = addCapped(u.New, im.New)
}

// gather collects the runs of all chunks within the window of slots.
func (q *question) gather() error {
	for from, last := uint64(0), false; !last; from = q.numbers.to {
		q.numbers.window(from)
		if err := q.lists(); err != nil {
			return err
		}
		last = q.numbers.whole()
		if err := q.numbers.sweep(q.classify); err != nil {
			return err
		}
	}
	return nil
}

// lists collects what every image's list changes of the one before.
func (q *question) lists() error {
	var before []byte
	for i := range q.images {
		im := &q.images[i]
		if q.a.halted() {
			return ErrClosed
		}
		list, err := get(q.view, imageKey(im.point, im.disk))
		if err != nil {
			return missing(err, "image of disk %s at point %s", im.disk, im.point)
		}
		err = diffLists(before, list, func(first ChunkNo, n uint64, by int32) {
			q.numbers.add(span{first: uint64(first), n: uint32(n), tag: uint32(i), by: by})
		})
		if err != nil {
			return damaged(fmt.Sprintf("disk %s at point %s", im.disk, im.point), err)
		}
		before = list
	}
	return nil
}

// classify finds the classes of chunks that come and go together, and collects
// their runs.
func (q *question) classify(first uint64, n uint32, over []span) error {
	named := q.stretches(over)
	if len(q.in) == 0 {
		return nil
	}
	mine := !q.each || len(q.in) == 1 && q.in[0].from == q.in[0].to
	for no := ChunkNo(first); no < ChunkNo(first)+ChunkNo(n); no++ {
		total, err := q.refs.count(no)
		if err != nil {
			return err
		}
		if total < named {
			return damaged(fmt.Sprintf("the references to chunk %d", no), errors.New("there are fewer than images that name it"))
		}
		if err := q.collect(no, q.classes.id(q.in, mine && total == named)); err != nil {
			return err
		}
	}
	return nil
}

// stretches sets q.in to the answers for which a chunk counts, of which spans
// say how many references come and go, and returns how many references all
// images together have.
func (q *question) stretches(over []span) (named uint64) {
	q.in = q.in[:0]
	have, since := int64(0), uint32(0)
	for i := 0; i < len(over); {
		step, had := over[i].tag, have
		named += uint64(had) * uint64(step-since)
		for ; i < len(over) && over[i].tag == step; i++ {
			have += int64(over[i].by)
		}
		switch {
		case had == 0 && have > 0:
			q.in = append(q.in, stretch{from: step})
		case had > 0 && have == 0:
			q.in[len(q.in)-1].to = step - 1
		}
		since = step
	}
	end := uint32(len(q.images))
	named += uint64(have) * uint64(end-since)
	if have > 0 {
		q.in[len(q.in)-1].to = end - 1
	}
	if !q.each && len(q.in) > 0 {
		q.in = append(q.in[:0], stretch{})
	}
	return named
}

// collect adds the runs of a chunk.
func (q *question) collect(no ChunkNo, class uint32) error {
	if no&1023 == 0 && q.a.halted() {
		return ErrClosed
	}
	record, err := seekChunk(q.records, no)
	if err == nil {
		q.chunk.Runs = q.chunk.Runs[:0]
		err = q.chunk.decode(record)
	}
	if err != nil {
		return damaged(fmt.Sprintf("chunk %d", no), err)
	}
	for _, r := range q.chunk.Runs {
		q.slots.add(span{first: uint64(r.Addr), n: uint32(r.Count), tag: class, by: 1})
	}
	return nil
}
