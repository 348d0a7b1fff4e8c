package files

import (
	"errors"
	"fmt"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// layer is one image of a chain, or a whole disk.
type layer struct {
	point catalog.Point
	image catalog.Image
	under *layer // what the file lies over; nil: it is flat
	no    int    // place in the chain
}

// name is the layer's file name in a chain's folder.
func (l *layer) name() string { return fmt.Sprintf("%02d-%s.qcow2", l.no, l.point.ID) }

// imageOf is a disk's image of a point.
func imageOf(p *catalog.Point, disk string) (catalog.Image, bool) {
	i := slices.IndexFunc(p.Images, func(im catalog.Image) bool { return im.Disk == disk })
	if i < 0 {
		return catalog.Image{}, false
	}
	return p.Images[i], true
}

// chain is the line of images that leads to a disk's image of a point, the full
// one first. Points in the trash are passed over.
func (r *restore) chain(p catalog.Point, disk string) (list []*layer, err error) {
	for try := 1; ; try++ {
		list, err = r.walk(p, disk)
		if try == chainTries || !errors.Is(err, catalog.ErrNotFound) {
			return list, err
		}
		if p, err = r.s.o.Catalog.Point(p.ID); err != nil { // a parent has gone: another is now
			return nil, err
		}
	}
}

func (r *restore) walk(p catalog.Point, disk string) ([]*layer, error) {
	var list []*layer
	for range maxChain {
		im, ok := imageOf(&p, disk)
		if !ok {
			return nil, notExist(disk + chainSuffix)
		}
		if p.Trashed.IsZero() || len(list) == 0 {
			list = append(list, &layer{point: p, image: im})
		}
		if im.Parent == "" {
			break
		}
		var err error
		if p, err = r.s.o.Catalog.Point(im.Parent); err != nil {
			return nil, fmt.Errorf("parent of disk %s: %w", disk, err)
		}
	}
	slices.Reverse(list)
	for i, l := range list {
		l.no = i
		if i > 0 {
			l.under = list[i-1]
		}
	}
	return list, nil
}

// extents tells what a layer's file holds: of a flat one all blocks that are not
// zero, else those that differ from what lies under it.
func (s *Service) extents(l *layer, yield func(off, n int64, kind qcow2.Kind) bool) error {
	list, err := s.o.Catalog.ChunkList(l.point.ID, l.image.Disk)
	if err != nil {
		return err
	}
	var under []catalog.ChunkNo
	if l.under != nil {
		if under, err = s.o.Catalog.ChunkList(l.under.point.ID, l.image.Disk); err != nil {
			return err
		}
	}
	var mine, theirs [dedup.ChunkBlocks]dedup.Addr
	for i, no := range list {
		var base catalog.ChunkNo
		if i < len(under) {
			base = under[i]
		}
		if no == base {
			continue
		}
		if err := s.expand(no, &mine); err != nil {
			return err
		}
		if err := s.expand(base, &theirs); err != nil {
			return err
		}
		if !differences(int64(i), l.image.Size, &mine, &theirs, yield) {
			return nil
		}
	}
	return nil
}

// differences yields the runs of a chunk's blocks that are not as under it.
func differences(chunk, size int64, mine, theirs *[dedup.ChunkBlocks]dedup.Addr, yield func(off, n int64, kind qcow2.Kind) bool) bool {
	for b := 0; b < dedup.ChunkBlocks; {
		kind := kindOf(mine[b], theirs[b])
		from := b
		for b++; b < dedup.ChunkBlocks && kindOf(mine[b], theirs[b]) == kind; b++ {
		}
		off := chunk*dedup.ChunkSize + int64(from)*dedup.BlockSize
		n := min(int64(b-from)*dedup.BlockSize, size-off)
		if n <= 0 {
			return true
		}
		if kind != qcow2.Unallocated && !yield(off, n, kind) {
			return false
		}
	}
	return true
}

// kindOf compares two blocks by where they lie: what is equal is stored once.
func kindOf(mine, theirs dedup.Addr) qcow2.Kind {
	switch {
	case mine == theirs:
		return qcow2.Unallocated
	case mine == 0:
		return qcow2.Zero
	}
	return qcow2.Data
}

// expand writes down where each block of a chunk lies.
func (s *Service) expand(no catalog.ChunkNo, out *[dedup.ChunkBlocks]dedup.Addr) error {
	clear(out[:])
	if no == 0 {
		return nil
	}
	c, err := s.o.Catalog.Chunk(no)
	if err != nil {
		return err
	}
	for _, r := range c.Runs {
		for i := range int(r.Count) {
			out[int(r.Start)+i] = r.Addr + dedup.Addr(i)
		}
	}
	return nil
}
