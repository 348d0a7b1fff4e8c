package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// Usage says what a set of images takes, in bytes.
//
// A block belongs to the set alone (Unique) when only chunks that nothing but
// the set's images and files name lead to it: live points, points in the trash
// and removed points still in use count alike. So Unique is freed, once the garbage
// collection has run, when the points of the set are deleted and nothing else
// is. Blocks the set shares with others are Shared. Every block is counted
// once, however often the set has it; blocks of zeros are not counted.
type Usage struct {
	// A file that was understood as a disk is counted as that disk here.
	Logical     int64 `json:"logical"`     // sizes of the images, and of other files
	Transferred int64 `json:"transferred"` // data the clients sent for them
	New         int64 `json:"new"`         // of it, what nobody had at the time

	Unique       int64 `json:"unique"`        // blocks × 64 KiB
	UniqueStored int64 `json:"unique_stored"` // what they take in packs, compressed
	Shared       int64 `json:"shared"`        // blocks × 64 KiB
	SharedStored int64 `json:"shared_stored"` // what they take in packs, compressed
	Stored       int64 `json:"stored"`        // UniqueStored + SharedStored
}

// Usage returns what points take together. A point in the trash counts; one
// that is not here fails with ErrNotFound.
func (c *Catalog) Usage(points ...string) (Usage, error) {
	ids := slices.Compact(slices.Sorted(slices.Values(points)))
	key := "point " + strings.Join(ids, " ")
	if len(ids) > maxKeyPoints {
		key = ""
	}
	return c.askOne(key, func(r pebble.Reader) (images []askedImage, err error) {
		for _, id := range ids {
			_, p, err := getPoint(r, id)
			if err != nil {
				return nil, err
			}
			images = appendAsked(appendAskedFiles(images, &p, ""), &p, "")
		}
		return images, nil
	})
}

// VMUsage returns what all points of a VM take, those in the trash included. A
// VM without points fails with ErrNotFound.
func (c *Catalog) VMUsage(vm string) (Usage, error) {
	return c.askOne("vm "+vm, imagesOf(vm, "", true))
}

// DiskUsage returns what all images of a disk take, and the files that were
// understood as them, those of points in the trash included. A disk without images fails with ErrNotFound.
func (c *Catalog) DiskUsage(vm, disk string) (Usage, error) {
	return c.askOne("disk "+vm+" "+disk, imagesOf(vm, disk, true))
}

// ChainUsage returns, by point id, what each image of a disk takes for itself,
// those of points in the trash included. With a file that it was understood from
// an image shares what it has. A disk without images fails with
// ErrNotFound.
func (c *Catalog) ChainUsage(vm, disk string) (map[string]Usage, error) {
	answer, err := c.ask("chain "+vm+" "+disk, true, imagesOf(vm, disk, false))
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return maps.Clone(answer), nil
}

func (c *Catalog) askOne(key string, load func(r pebble.Reader) ([]askedImage, error)) (Usage, error) {
	answer, err := c.ask(key, false, load)
	if err != nil {
		return Usage{}, fmt.Errorf("usage: %w", err)
	}
	return answer[""], nil
}

// imagesOf lists the images of a disk, of all disks if disk is "", with the files
// that belong to them or without, those that are likely to be alike after one
// another.
func imagesOf(vm, disk string, files bool) func(r pebble.Reader) ([]askedImage, error) {
	return func(r pebble.Reader) (images []askedImage, err error) {
		if vm == "" {
			return nil, invalid("the usage of which VM?")
		}
		look := func(p *Point) error {
			if files {
				images = appendAskedFiles(images, p, disk)
			}
			images = appendAsked(images, p, disk)
			return nil
		}
		if err := eachPoint(r, vm, look); err != nil {
			return nil, err
		}
		if err := eachTrashed(r, vm, look); err != nil {
			return nil, err
		}
		if len(images) == 0 && disk == "" {
			return nil, fmt.Errorf("VM %s %w: it has no points", vm, ErrNotFound)
		}
		if len(images) == 0 {
			return nil, fmt.Errorf("disk %s of VM %s %w: no point has it", disk, vm, ErrNotFound)
		}
		slices.SortFunc(images, func(a, b askedImage) int {
			return cmp.Or(strings.Compare(a.disk, b.disk), a.time.Compare(b.time))
		})
		return images, nil
	}
}

// appendAskedFiles appends a point's files that were understood as a disk, all
// of them if disk is "".
func appendAskedFiles(images []askedImage, p *Point, disk string) []askedImage {
	for i := range p.Files {
		f := &p.Files[i]
		if disk != "" && f.Disk != disk {
			continue
		}
		im := askedImage{point: p.ID, disk: FileKey(f.Name), time: p.Time, usage: Usage{New: f.NewBytes}}
		if f.Disk == "" {
			im.usage.Logical, im.usage.Transferred = f.Size, f.WrittenBytes
		}
		images = append(images, im)
	}
	return images
}

// appendAsked appends a point's images of a disk, all of them if disk is "".
func appendAsked(images []askedImage, p *Point, disk string) []askedImage {
	for i := range p.Images {
		im := &p.Images[i]
		if disk == "" || im.Disk == disk {
			images = append(images, askedImage{point: p.ID, disk: im.Disk, time: p.Time,
				usage: Usage{Logical: im.Size, Transferred: im.WrittenBytes, New: im.NewBytes}})
		}
	}
	return images
}
