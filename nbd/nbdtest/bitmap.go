package nbdtest

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/strongroom-backup/strongroom/nbd"
)

// Bitmap is a metadata context of an export.
type Bitmap struct {
	Name string
	// Unlisted contexts can be selected, and are not told of.
	Unlisted bool
	// Grain is the length of an extent in bytes, 0 for pageSize; Flags are those
	// of extent number i.
	Grain int64
	Flags func(i int64) uint32
	// OpenErr, when set, is the answer to OpenContext, Err to Status.
	OpenErr, Err error

	Opened, Closed atomic.Int64
}

// Contexts implements nbd.ContextExports.
func (x *Exports) Contexts(_ context.Context, export string) (names []string, err error) {
	e, err := x.find(export)
	if err != nil {
		return nil, err
	}
	for _, b := range e.Bitmaps {
		if !b.Unlisted {
			names = append(names, b.Name)
		}
	}
	return names, nil
}

// HasContext implements nbd.ContextExports.
func (x *Exports) HasContext(_ context.Context, export, name string) (bool, error) {
	e, err := x.find(export)
	if err != nil {
		return false, err
	}
	return find(e.Bitmaps, name) != nil, nil
}

func find(list []*Bitmap, name string) *Bitmap {
	for _, b := range list {
		if b.Name == name {
			return b
		}
	}
	return nil
}

type bitmapDevice struct {
	nbd.Device
	bitmaps []*Bitmap
	open    atomic.Int64
}

func (d *bitmapDevice) OpenContext(name string) (nbd.Context, error) {
	b := find(d.bitmaps, name)
	if b == nil {
		return nil, fmt.Errorf("no context %q", name)
	}
	if b.OpenErr != nil {
		return nil, b.OpenErr
	}
	b.Opened.Add(1)
	d.open.Add(1)
	return &openBitmap{Bitmap: b, dev: d}, nil
}

func (d *bitmapDevice) Close() error {
	if n := d.open.Load(); n != 0 {
		panic(fmt.Sprintf("nbdtest: device closed before %d of its contexts", n))
	}
	return d.Device.Close()
}

type openBitmap struct {
	*Bitmap
	dev    *bitmapDevice
	closed atomic.Bool
}

func (b *openBitmap) Status(off, n int64, yield func(length int64, flags uint32) bool) error {
	if size := b.dev.Size(); off < 0 || n <= 0 || off > size || n > size-off || b.closed.Load() {
		panic(fmt.Sprintf("nbdtest: status of %d+%d, closed %v", off, n, b.closed.Load()))
	}
	if b.Err != nil {
		return b.Err
	}
	grain := b.Grain
	if grain == 0 {
		grain = pageSize
	}
	for end := off + n; off < end; {
		k := min(grain-off%grain, end-off)
		if !yield(k, b.Flags(off/grain)) {
			return nil
		}
		off += k
	}
	return nil
}

func (b *openBitmap) Close() error {
	if b.closed.Swap(true) {
		panic("nbdtest: context closed twice")
	}
	b.Closed.Add(1)
	b.dev.open.Add(-1)
	return nil
}
