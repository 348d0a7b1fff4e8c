package files

import (
	"errors"
	"fmt"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
	"github.com/strongroom-backup/strongroom/volume"
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
// zero, else those that differ from what lies under it. The chain that strongroom
// restore writes has the same.
func (s *Service) extents(l *layer, yield func(off, n int64, kind qcow2.Kind) bool) error {
	x, err := s.o.Volumes.OpenImage(l.point.ID, l.image.Disk)
	if err != nil {
		return err
	}
	defer x.Close()
	if l.under == nil {
		return allocated(x, 0, x.Size(), func(off, n int64, zero bool) bool { return zero || yield(off, n, qcow2.Data) })
	}
	under, err := s.o.Volumes.OpenImage(l.under.point.ID, l.image.Disk)
	if err != nil {
		return err
	}
	defer under.Close()
	var off int64
	var failed error
	err = x.Changes(under, 0, x.Size(), func(n int64, changed bool) bool {
		at := off
		off += n
		if !changed {
			return true
		}
		on := true
		failed = allocated(x, at, n, func(off, n int64, zero bool) bool {
			kind := qcow2.Data
			if zero {
				kind = qcow2.Zero
			}
			on = yield(off, n, kind)
			return on
		})
		return on && failed == nil
	})
	return errors.Join(err, failed)
}

// allocated yields the extents of [off, off+n) of an image, cut at chunks.
func allocated(x *volume.Image, off, n int64, yield func(off, n int64, zero bool) bool) error {
	return x.Extents(off, n, func(length int64, zero bool) bool {
		for length > 0 {
			step := min(length, dedup.ChunkSize-off%dedup.ChunkSize)
			if !yield(off, step, zero) {
				return false
			}
			off, length = off+step, length-step
		}
		return true
	})
}
