package catalog

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/dedup"
)

// AffectedImage is an image, or a file, with blocks that are bad.
type AffectedImage struct {
	Point, VM, Disk string // Disk is FileKey of a file's name
	Blocks          int64  // how many of its blocks are
}

// Affected returns the images and files of live and trashed points that have blocks for
// which bad is true, by point id and disk. bad says whether any of n consecutive
// slots from an address on is; it is called from several goroutines at a time.
func (c *Catalog) Affected(ctx context.Context, bad func(a dedup.Addr, n int) bool) ([]AffectedImage, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	snap := c.db.NewSnapshot()
	defer snap.Close()
	named, err := markImages(ctx, snap, new(MarkStats))
	if err != nil {
		return nil, err
	}
	var f badFinder
	if err := named.each(ctx, snap, func() chunkVisitor { return &badVisitor{f: &f, bad: bad} }); err != nil {
		return nil, err
	}
	if len(f.chunks) == 0 {
		return nil, nil
	}
	slices.SortFunc(f.chunks, func(a, b badChunk) int { return cmp.Compare(a.no, b.no) })
	return f.images(ctx, snap)
}

// badFinder gathers the chunks with bad blocks.
type badFinder struct {
	mu     sync.Mutex
	chunks []badChunk
}

type badChunk struct {
	no     ChunkNo
	blocks int64
}

// badVisitor looks at the chunks of one goroutine.
type badVisitor struct {
	f    *badFinder
	bad  func(dedup.Addr, int) bool
	runs []Run
	own  []badChunk
}

func (v *badVisitor) chunk(no ChunkNo, record []byte) (err error) {
	if v.runs, err = appendRuns(v.runs[:0], record); err != nil {
		return err
	}
	if n := countBad(v.runs, v.bad); n > 0 {
		v.own = append(v.own, badChunk{no, n})
	}
	return nil
}

func (v *badVisitor) end() {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	v.f.chunks = append(v.f.chunks, v.own...)
	v.own = nil
}

// countBad asks for single blocks only where a run has a bad one.
func countBad(runs []Run, bad func(dedup.Addr, int) bool) (n int64) {
	for _, r := range runs {
		if !bad(r.Addr, int(r.Count)) {
			continue
		}
		for i := range dedup.Addr(r.Count) {
			if bad(r.Addr+i, 1) {
				n++
			}
		}
	}
	return n
}

// images finds the images that name one of the chunks.
func (f *badFinder) images(ctx context.Context, snap *pebble.Snapshot) (found []AffectedImage, err error) {
	err = eachImage(ctx, snap, func(id, disk string, list []byte) error {
		blocks := int64(0)
		if err := eachListRun(list, func(first ChunkNo, count uint64) { blocks += f.blocks(first, count) }); err != nil || blocks == 0 {
			return err
		}
		at, err := getPlace(snap, id)
		if errors.Is(err, ErrNotFound) { // removed
			return nil
		}
		found = append(found, AffectedImage{Point: id, VM: at.vm, Disk: disk, Blocks: blocks})
		return err
	})
	return found, err
}

// blocks counts the bad blocks in count consecutive chunks from first on, or in
// chunks of zeros if first is 0.
func (f *badFinder) blocks(first ChunkNo, count uint64) (n int64) {
	if first == 0 {
		return 0
	}
	i, _ := slices.BinarySearchFunc(f.chunks, first, func(c badChunk, no ChunkNo) int { return cmp.Compare(c.no, no) })
	for ; i < len(f.chunks) && uint64(f.chunks[i].no-first) < count; i++ {
		n += f.chunks[i].blocks
	}
	return n
}
