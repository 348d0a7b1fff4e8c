package volume

import (
	"fmt"
	"sync"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/readahead"
)

// Image reads one disk or file of a committed point. Until it is closed the content
// stays, even when the point is removed.
type Image struct {
	m     *Manager
	vm    string
	point string
	info  catalog.Image
	base  base
	ahead *readahead.Reader
	close sync.Once
}

// OpenImage opens a disk of a point, or a file by its [catalog.FileKey]. The error wraps catalog.ErrNotFound when
// there is none, or when the point is in the trash.
func (m *Manager) OpenImage(point, disk string) (*Image, error) {
	m.points.RLock() // the point neither goes nor changes between the look and the pin
	defer m.points.RUnlock()
	m.pins.add(point)
	x, err := m.openImage(point, disk)
	if err != nil {
		m.pins.drop(point)
	}
	return x, err
}

func (m *Manager) openImage(point, disk string) (*Image, error) {
	p, err := m.cat.Point(point)
	if err != nil {
		return nil, err
	}
	if !p.Trashed.IsZero() {
		return nil, fmt.Errorf("point %s of VM %s is in the trash (%w); undelete it first", point, p.VM, catalog.ErrNotFound)
	}
	info := imageOf(p, disk)
	if name, ok := catalog.IsFileKey(disk); ok {
		if f, found := p.File(name); found {
			info = catalog.Image{Disk: disk, Size: f.Size, Mode: catalog.Full, Root: f.Root}
		}
	}
	if info.Disk == "" {
		return nil, fmt.Errorf("point %s of VM %s has no disk %s: %w", point, p.VM, disk, catalog.ErrNotFound)
	}
	list, err := m.cat.ChunkList(point, disk)
	if err != nil {
		return nil, err
	}
	x := &Image{m: m, vm: p.VM, point: point, info: info, base: base{size: info.Size, chunks: list}}
	x.ahead = readahead.NewReader(x.read, info.Size, m.ahead)
	return x, nil
}

// VM is the virtual machine the image belongs to.
func (x *Image) VM() string { return x.vm }

// Name is the disk's name, or the file's key.
func (x *Image) Name() string { return x.info.Disk }

// Size is in bytes.
func (x *Image) Size() int64 { return x.info.Size }

// Close gives the handle back. Nobody may be in another method. It waits for what
// is being read ahead: the blocks may be collected once the point is not pinned.
func (x *Image) Close() error {
	x.close.Do(func() {
		x.ahead.Close()
		x.m.pins.drop(x.point)
	})
	return nil
}

// ReadAt fills p; every byte was verified against its hash. It is safe for
// concurrent use. For who reads on in order, with less in flight than there are
// cores, what comes next is read meanwhile.
func (x *Image) ReadAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, int64(len(p)), x.Size()); err != nil || len(p) == 0 {
		return 0, err
	}
	if err := x.ahead.ReadAt(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// read reads chunk by chunk.
func (x *Image) read(p []byte, off int64) error {
	for len(p) > 0 {
		in := off % dedup.ChunkSize
		n := min(int64(len(p)), dedup.ChunkSize-in)
		list, err := x.m.cache.get(x.base.number(off / dedup.ChunkSize))
		if err != nil {
			return err
		}
		if err := x.m.readBlocks(p[:n], off, list[:], int(in/dedup.BlockSize)); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// Extents tells which parts of [off, off+n) are zero, without reading data.
func (x *Image) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	if err := checkRange(off, n, x.Size()); err != nil {
		return err
	}
	return extents(off, n, yield, func(index int64) (*addrs, error) {
		return x.m.cache.get(x.base.number(index))
	})
}
