package imports

import (
	"io"

	"github.com/strongroom-backup/strongroom/internal/vma"
)

// archive copies the disks of a VMA archive in the order in which their clusters
// come. Neighbours that come one after the other are written together.
type archive struct {
	r     *vma.Reader
	disks [256]int   // of each device; -1: it is none
	sizes [256]int64 // of each device
	out   *output

	// A run of one disk, to be written: data, or zeros.
	disk   int
	off, n int64
	data   []byte // nil: zeros
}

func (a *archive) copy(out *output) error {
	a.out = out
	for {
		dev, off, data, zero, err := a.r.Next()
		if err == io.EOF {
			return a.flush()
		}
		if err == nil && a.disks[dev] >= 0 {
			err = a.add(a.disks[dev], off, min(vma.ClusterSize, a.sizes[dev]-off), data, zero)
		}
		if err != nil {
			a.drop()
			return err
		}
	}
}

func (a *archive) add(disk int, off, n int64, data []byte, zero bool) error {
	most := int64(unitSize)
	if zero {
		most = zeroRunMax
	}
	if a.n > 0 && (disk != a.disk || off != a.off+a.n || zero != (a.data == nil) || a.n+n > most) {
		if err := a.flush(); err != nil {
			return err
		}
	}
	if a.n == 0 {
		a.disk, a.off = disk, off
		if !zero {
			var err error
			if a.data, err = a.out.buffer(); err != nil {
				return err
			}
		}
	}
	copy(a.data[min(a.n, int64(len(a.data))):], data)
	a.n += n
	return nil
}

// flush has the run written.
func (a *archive) flush() error {
	disk, off, n, data := a.disk, a.off, a.n, a.data
	a.n, a.data = 0, nil
	switch {
	case n == 0:
		return nil
	case data == nil:
		return a.out.zero(disk, off, n)
	}
	a.out.start(data, disk, n, func() error { return a.out.write(disk, off, data[:n]) })
	return nil
}

// drop forgets the run.
func (a *archive) drop() {
	if a.data != nil {
		a.out.put(a.data)
	}
	a.n, a.data = 0, nil
}
