package catalog

import (
	"errors"
	"fmt"
)

// chunks gathers the runs of chunks: for an answer each, of those that are an
// answer's alone, tagged with it; for one answer, of all, tagged with whether
// they are.
func (q *question) chunks() error {
	for from, last := uint64(0), false; !last; from = q.numbers.to {
		q.numbers.window(from)
		err := q.eachDiff(0, len(q.images), func(image int, _ uint64, old, now ChunkNo, n uint64) {
			if old != 0 {
				q.numbers.add(uint64(old), n, uint32(image), -1)
			}
			if now != 0 {
				q.numbers.add(uint64(now), n, uint32(image), 1)
			}
		})
		if err != nil {
			return err
		}
		last = q.numbers.whole()
		if err := q.numbers.sweep(q.alike); err != nil {
			return err
		}
	}
	return nil
}

// Tags of chunks when there is one answer.
const (
	tagShared = 0
	tagAlone  = 1
)

// alike takes chunks that come and go together.
func (q *question) alike(first uint64, n uint32, over []span) error {
	named, images, image := q.references(over)
	for no := ChunkNo(first); no < ChunkNo(first)+ChunkNo(n) && named > 0; no++ {
		total, err := q.refs.count(no)
		if err != nil {
			return err
		}
		if total < named {
			return damaged(fmt.Sprintf("the references to chunk %d", no), errors.New("there are fewer than images that name it"))
		}
		tag := image
		switch alone := total == named; {
		case q.each && (!alone || images > 1):
			continue
		case !q.each && alone:
			tag = tagAlone
		case !q.each:
			tag = tagShared
		}
		if err := q.collect(no, tag); err != nil {
			return err
		}
	}
	return nil
}

// references sums up how often images name a chunk, from what comes and goes
// with each image; how many images do, and the first of them.
func (q *question) references(over []span) (named, images uint64, first uint32) {
	have, since := uint64(0), uint32(0)
	step := func(to uint32) {
		if have > 0 {
			if images == 0 {
				first = since
			}
			images += uint64(to - since)
			named += have * uint64(to-since)
		}
		since = to
	}
	for i := range over {
		if over[i].tag != since {
			step(over[i].tag)
		}
		have += uint64(int64(over[i].by))
	}
	step(uint32(len(q.images)))
	return named, images, first
}

// collect adds the runs of a chunk.
func (q *question) collect(no ChunkNo, tag uint32) error {
	record, err := q.record(no)
	if err != nil {
		return err
	}
	if err := q.decode(no, record); err != nil {
		return err
	}
	for _, r := range q.chunk.Runs {
		q.slots.add(uint64(r.Addr), uint64(r.Count), tag, 1)
	}
	return nil
}
