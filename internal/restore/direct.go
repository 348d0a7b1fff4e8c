package restore

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// direct writes a file past the page cache where its file system lets it.
type direct struct {
	file    *os.File // nil: it does not
	refused atomic.Bool
}

// open opens the file a second time, for such writes only.
func (d *direct) open(path string, flags int) {
	if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_DIRECT|flags, 0); err == nil {
		d.file = f
	}
}

// writeAt writes p, unless it reports that it has not: p is not aligned, or the
// file system does not let it.
func (d *direct) writeAt(p []byte, off int64) (done bool, err error) {
	if d.file == nil || d.refused.Load() || len(p) == 0 ||
		(uint64(uintptr(unsafe.Pointer(&p[0])))|uint64(off)|uint64(len(p)))%directAlign != 0 {
		return false, nil
	}
	_, err = d.file.WriteAt(p, off)
	if errors.Is(err, syscall.EINVAL) {
		d.refused.Store(true)
		return false, nil
	}
	return true, err
}

func (d *direct) close() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	return f.Close()
}
