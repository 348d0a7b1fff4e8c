package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// MarkStats is what a mark went through.
type MarkStats struct {
	Points, Images, Chunks int64
}

// Mark calls visit with the runs of every chunk that an image of a point not
// forgotten names, as of one moment; each chunk once, several chunks in a call,
// from several goroutines at a time. runs are valid during the call, and their
// Start and Count those in each's own chunk.
//
// A chunk that is named and has no readable record fails with ErrCorrupt: then
// nothing may be concluded from what was visited.
func (c *Catalog) Mark(ctx context.Context, visit func(runs []Run)) (stats MarkStats, err error) {
	if err := c.enter(); err != nil {
		return stats, err
	}
	defer c.leave()
	snap := c.db.NewSnapshot()
	defer snap.Close()
	named, err := markImages(ctx, snap, &stats)
	if err != nil {
		return stats, err
	}
	stats.Chunks = named.count()
	err = named.each(ctx, snap, func() chunkVisitor { return &marker{visit: visit} })
	return stats, err
}

// marker gathers the runs of many chunks for one call.
type marker struct {
	visit func([]Run)
	runs  []Run
}

// markBatch is how many runs a call gets: so many that its cost does not count.
const markBatch = 4096

func (m *marker) chunk(_ ChunkNo, record []byte) (err error) {
	if m.runs, err = appendRuns(m.runs, record); err == nil && len(m.runs) >= markBatch {
		m.end()
	}
	return err
}

func (m *marker) end() {
	if len(m.runs) > 0 {
		m.visit(m.runs)
	}
	m.runs = m.runs[:0]
}

// chunkSet is a set of chunk numbers, a bit for each number given out.
type chunkSet struct{ words []uint64 }

// newChunkSet can hold all numbers below next.
func newChunkSet(next ChunkNo) *chunkSet { return &chunkSet{make([]uint64, (uint64(next)+63)/64)} }

// add takes count numbers from first on, those that are in range. A number out
// of range is one of a commit that is not in the snapshot.
func (s *chunkSet) add(first ChunkNo, count uint64) {
	end := min(uint64(first)+count, uint64(len(s.words))*64)
	for at := uint64(first); at < end; {
		n := min(64-at%64, end-at)
		s.words[at/64] |= (^uint64(0) >> (64 - n)) << (at % 64)
		at += n
	}
}

func (s *chunkSet) count() (n int64) {
	for _, w := range s.words {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// markImages gathers the chunks all images name.
func markImages(ctx context.Context, snap *pebble.Snapshot, stats *MarkStats) (*chunkSet, error) {
	b, err := get(snap, []byte{keyWatermark})
	if err != nil {
		return nil, unreadable("the watermark", err)
	}
	mark, err := decodeWatermark(b)
	if err != nil {
		return nil, damaged("the watermark", err)
	}
	set, last := newChunkSet(mark.next), ""
	err = eachImage(ctx, snap, func(id, disk string, list []byte) error {
		if mutant.On("catalog/mark-without-trash") {
			if _, p, err := getPoint(snap, id); err == nil && !p.Trashed.IsZero() {
				return nil
			}
		}
		stats.Images++
		if id != last {
			stats.Points++
			last = id
		}
		return eachListRun(list, func(first ChunkNo, count uint64) {
			if first != 0 {
				set.add(first, count)
			}
		})
	})
	return set, err
}

// eachImage calls visit with every encoded chunk list there is, by point id.
func eachImage(ctx context.Context, r pebble.Reader, visit func(id, disk string, list []byte) error) error {
	return scan(r, []byte{keyImage}, func(key, list []byte) error {
		id, disk, err := splitPart(key)
		if err == nil {
			err = visit(id, disk, list)
		}
		if errors.Is(err, errDecode) {
			err = damaged(fmt.Sprintf("image %q", key[1:]), err)
		}
		return errors.Join(err, ctx.Err())
	})
}

// chunkVisitor gets the chunks of a set one goroutine reads, in order.
type chunkVisitor interface {
	chunk(no ChunkNo, record []byte) error
	end()
}

// chunksPerTurn is how many numbers a goroutine of each takes at a time.
const chunksPerTurn = 16 << 10

// each reads the records of all chunks of the set, with as many goroutines as
// there are processors, each with a visitor of its own.
func (s *chunkSet) each(ctx context.Context, snap *pebble.Snapshot, visitor func() chunkVisitor) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var turn atomic.Uint64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			v := visitor()
			for ctx.Err() == nil {
				first := (turn.Add(1) - 1) * chunksPerTurn
				if first >= uint64(len(s.words))*64 {
					break
				}
				if err := s.read(snap, first, first+chunksPerTurn, v); err != nil {
					cancel(err)
				}
			}
			v.end()
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// read visits the chunks of the set from first up to end.
func (s *chunkSet) read(snap *pebble.Snapshot, first, end uint64, v chunkVisitor) error {
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: chunkKey(ChunkNo(first)), UpperBound: chunkKey(ChunkNo(end))})
	if err != nil {
		return err
	}
	defer it.Close()
	for w := first / 64; w < min(end/64, uint64(len(s.words))); w++ {
		for word := s.words[w]; word != 0; word &= word - 1 {
			no := ChunkNo(w*64 + uint64(bits.TrailingZeros64(word)))
			record, err := seekChunk(it, no)
			if err != nil {
				return err
			}
			if err := v.chunk(no, record); err != nil {
				return damaged(chunkName(no), err)
			}
		}
	}
	return nil
}

// nearChunks is how far it pays to step through records rather than seek.
const nearChunks = 8

// seekChunk moves it to a chunk behind where it stands, which must be there.
func seekChunk(it *pebble.Iterator, no ChunkNo) ([]byte, error) {
	at := ChunkNo(0)
	for range nearChunks {
		if !it.Valid() || !it.Next() {
			break
		}
		if at = iterChunk(it); at >= no {
			break
		}
	}
	if at < no {
		it.SeekGE(chunkKey(no))
		if it.Valid() {
			at = iterChunk(it)
		}
	}
	if err := it.Error(); err != nil {
		return nil, unreadable(chunkName(no), err)
	}
	if at != no {
		return nil, damaged(chunkName(no), errors.New("an image names it and it is not there"))
	}
	record, err := it.ValueAndErr()
	if err != nil {
		return nil, unreadable(chunkName(no), err)
	}
	return record, nil
}

func chunkName(no ChunkNo) string { return fmt.Sprintf("chunk %d", no) }

func iterChunk(it *pebble.Iterator) ChunkNo { return ChunkNo(binary.BigEndian.Uint64(it.Key()[1:])) }

// appendRuns decodes the runs of a chunk record.
func appendRuns(runs []Run, record []byte) ([]Run, error) {
	c := Chunk{Runs: runs}
	err := c.decode(record)
	return c.Runs, err
}
