package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/volume"
)

// sinceContext begins the names of the metadata contexts that tell what differs
// between an image and another point's of the same disk. What follows is the
// point, written as in a reference. QEMU knows this namespace and reads bit 0.
const sinceContext = "qemu:dirty-bitmap:since-"

const bitmapDirty = 1 << 0

// Contexts implements nbd.ContextExports: the newest listedContextsMax other
// points that have the disk, newest first.
func (x *exports) Contexts(_ context.Context, export string) ([]string, error) {
	vm, im, err := x.comparable(export)
	if err != nil || vm == "" {
		return nil, err
	}
	x.listing.Lock()
	defer x.listing.Unlock()
	var names []string
	err = x.cat.EachPoint(vm, time.Time{}, func(p *catalog.Point) bool {
		if p.ID == im.point || !slices.ContainsFunc(p.Images, func(i catalog.Image) bool { return i.Disk == im.name }) {
			return true
		}
		if len(names) == listedContextsMax {
			names = slices.Delete(names, 0, 1)
		}
		names = append(names, sinceContext+p.ID)
		return true
	})
	slices.Reverse(names)
	return names, err
}

// HasContext implements nbd.ContextExports.
func (x *exports) HasContext(_ context.Context, export, name string) (bool, error) {
	if !strings.HasPrefix(name, sinceContext) {
		return false, nil
	}
	vm, im, err := x.comparable(export)
	if err != nil || vm == "" {
		return false, err
	}
	_, err = x.since(vm, im.name, name)
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid) {
		return false, nil
	}
	return err == nil, err
}

// comparable is the image an export name means, and its VM; "" when there is
// nothing to compare it with, as with a session's disk or a file.
func (x *exports) comparable(export string) (vm string, im committed, err error) {
	if _, _, isFile := cutFile(export); isFile || !isImageName(export) {
		return "", im, nil
	}
	if im, err = x.resolve(export); err != nil {
		return "", im, err
	}
	ref, err := catalog.ParseRef(im.info.Name)
	return ref.VM, im, err
}

// since finds the point a context's name means: one of the VM that has the disk.
func (x *exports) since(vm, disk, context string) (point string, err error) {
	ref, err := catalog.ParseRef(vm + "/" + disk + "@" + strings.TrimPrefix(context, sinceContext))
	if err != nil {
		return "", err
	}
	p, err := x.cat.Resolve(ref)
	return p.ID, err
}

// comparedImage is a committed image that can be compared with others of its
// disk.
type comparedImage struct {
	imageDevice
	x *exports
}

// device is an image as NBD sees it.
func (x *exports) device(image *volume.Image) nbd.Device {
	if _, isFile := catalog.IsFileKey(image.Name()); isFile {
		return imageDevice{image}
	}
	return comparedImage{imageDevice{image}, x}
}

// OpenContext implements nbd.ContextDevice.
func (d comparedImage) OpenContext(name string) (nbd.Context, error) {
	point, err := d.x.since(d.VM(), d.Name(), name)
	if err != nil {
		return nil, err
	}
	older, err := d.x.vols.OpenImage(point, d.Name())
	if err != nil {
		return nil, err
	}
	return &changes{image: d.imageDevice, since: older}, nil
}

// changes tells NBD clients what differs between two images.
type changes struct {
	image imageDevice
	since *volume.Image
}

func (c *changes) Status(off, n int64, yield func(length int64, flags uint32) bool) error {
	return c.image.wrap(c.image.Changes(c.since, off, n, func(length int64, changed bool) bool {
		if changed {
			return yield(length, bitmapDirty)
		}
		return yield(length, 0)
	}))
}

func (c *changes) Close() error { return c.since.Close() }
