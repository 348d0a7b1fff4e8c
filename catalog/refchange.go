package catalog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// refChanges gathers what a transaction does to reference counts.
type refChanges struct {
	pieces []refPiece
}

// refPiece adds by to the count of n chunks from first on, all of one page.
type refPiece struct {
	first ChunkNo
	n, by int32
}

// list adds by to every chunk an encoded chunk list names.
func (c *refChanges) list(b []byte, by int32) error {
	return eachListRun(b, func(first ChunkNo, n uint64) {
		for first != 0 && n > 0 {
			k := min(n, refPage-uint64(first)%refPage)
			c.pieces = append(c.pieces, refPiece{first, int32(k), by})
			first, n = first+ChunkNo(k), n-k
		}
	})
}

// write puts the pages that changed into b and returns the chunks whose last
// reference went. r must show the pages as they were.
func (c *refChanges) write(r pebble.Reader, b *pebble.Batch) (died []chunkRun, err error) {
	slices.SortFunc(c.pieces, func(x, y refPiece) int { return cmp.Compare(x.first, y.first) })
	var before, counts refCounts
	for rest := c.pieces; len(rest) > 0; {
		page := uint64(rest[0].first) / refPage
		if err := getRefs(r, page, &before); err != nil {
			return nil, err
		}
		counts = before
		for len(rest) > 0 && uint64(rest[0].first)/refPage == page {
			rest[0].apply(&counts)
			rest = rest[1:]
		}
		if died, err = compareRefs(died, page, &before, &counts); err != nil {
			return nil, err
		}
		if err := putRefs(b, page, &counts); err != nil {
			return nil, err
		}
	}
	return died, nil
}

func (p *refPiece) apply(counts *refCounts) {
	at := counts[p.first%refPage:]
	for i := range at[:p.n] {
		at[i] += int64(p.by)
	}
}

// compareRefs finds the chunks of a page that died.
func compareRefs(died []chunkRun, page uint64, before, after *refCounts) ([]chunkRun, error) {
	for i := range after {
		no := ChunkNo(page*refPage + uint64(i))
		switch {
		case after[i] < 0:
			return nil, damaged(fmt.Sprintf("the references to chunk %d", no), errors.New("there are fewer than images that name it"))
		case after[i] == 0 && before[i] > 0:
			died = appendRun(died, no)
		}
	}
	return died, nil
}

func putRefs(b *pebble.Batch, page uint64, counts *refCounts) error {
	if *counts == (refCounts{}) {
		return b.Delete(refsKey(page), nil)
	}
	return b.Set(refsKey(page), appendRefs(nil, counts), nil)
}

// bury takes dead chunks out of the index of hashes, where a later chunk of the
// same hash may have taken their place.
func bury(r pebble.Reader, b *pebble.Batch, died []chunkRun) error {
	if len(died) == 0 {
		return nil
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyChunk}, UpperBound: []byte{keyChunk + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for _, run := range died {
		for no := run.first; no < run.first+ChunkNo(run.count); no++ {
			record, err := seekChunk(it, no)
			if err == nil {
				err = buryOne(r, b, no, record)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func buryOne(r pebble.Reader, b *pebble.Batch, no ChunkNo, record []byte) error {
	h, _, err := decodeChunkHead(record)
	if err != nil {
		return damaged(chunkName(no), err)
	}
	key := chunkHashKey(h)
	named, err := chunkByHash(r, key)
	if err != nil || named != no || mutant.On("catalog/dead-hash-stays") {
		return err
	}
	return b.Delete(key, nil)
}

// enqueue appends an entry for the accounts, unless it is empty.
func (w *watermark) enqueue(b *pebble.Batch, kind uint64, runs []chunkRun) error {
	if len(runs) == 0 {
		return nil
	}
	n := w.queue
	w.queue++
	return b.Set(queueKey(n), appendQueue(make([]byte, 0, 1+len(runs)*2*binary.MaxVarintLen64), kind, runs), nil)
}
