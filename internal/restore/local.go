package restore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// localFile is a file of ours that is read from the disk itself, where that is
// possible, not from the page cache.
type localFile struct {
	file   *os.File
	direct *os.File // nil: not possible
	size   int64
}

// openLocal opens a regular file or a block device.
func openLocal(path string) (*localFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &localFile{file: f}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() && (st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0) {
		err = fmt.Errorf("%s is neither a file nor a block device", path)
	}
	if err == nil {
		l.size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	// What cannot be read past the page cache is at least read from the disk, if it
	// was written to it.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0); err == nil {
		l.direct = d
	}
	return l, nil
}

func (l *localFile) Close() error {
	err := l.file.Close()
	if l.direct != nil {
		err = errors.Join(err, l.direct.Close())
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (l *localFile) ReadAt(p []byte, off int64) (int, error) {
	if l.direct != nil && len(p) > 0 && (uint64(uintptr(unsafe.Pointer(&p[0])))|uint64(off)|uint64(len(p)))%directAlign == 0 {
		if n, err := l.direct.ReadAt(p, off); n == len(p) || err != nil && !errors.Is(err, syscall.EINVAL) && err != io.EOF {
			return n, err
		}
	}
	return l.file.ReadAt(p, off)
}

// localRaw is a disk in a raw file; a device may be larger.
type localRaw struct {
	*localFile
	disk int64
}

func (l *localRaw) Size() int64 { return l.disk }

// Extents tells the file's holes.
func (l *localRaw) Extents(yield func(nbdclient.Extent) error) error {
	for off := int64(0); off < l.disk; {
		data, err := unix.Seek(int(l.file.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // no more data
			data = l.disk
		case err != nil: // a device, or a file system without holes
			return yield(nbdclient.Extent{Offset: off, Length: l.disk - off})
		}
		data = min(data, l.disk)
		if data > off {
			if err := yield(nbdclient.Extent{Offset: off, Length: data - off, Zero: true}); err != nil {
				return err
			}
		}
		if off = data; off == l.disk {
			break
		}
		hole, err := unix.Seek(int(l.file.Fd()), off, unix.SEEK_HOLE)
		if err != nil || hole <= off {
			hole = l.disk
		}
		hole = min(hole, l.disk)
		if err := yield(nbdclient.Extent{Offset: off, Length: hole - off}); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

// localQCOW2 is a disk in a qcow2 file without a backing file.
type localQCOW2 struct {
	*qcow2.Reader
	disk int64 // the file's may be longer: it has whole sectors
}

func (l *localQCOW2) Size() int64 { return l.disk }

func (l *localQCOW2) Extents(yield func(nbdclient.Extent) error) error {
	return l.MapRange(0, l.disk, func(m qcow2.Mapping) error {
		return yield(nbdclient.Extent{Offset: m.Offset, Length: m.Length, Zero: m.Kind == qcow2.Unallocated || m.Kind == qcow2.Zero})
	})
}

// openDisk opens a disk of size bytes in a file. It is closed by the file's Close.
func openDisk(f *localFile, format Format, size int64) (Source, error) {
	if format == Raw {
		if st, err := f.file.Stat(); err == nil && st.Mode().IsRegular() && f.size != size || f.size < size {
			return nil, fmt.Errorf("it has %d bytes, but the disk %d", f.size, size)
		}
		return &localRaw{f, size}, nil
	}
	q, err := openQCOW2(f, size)
	if err != nil {
		return nil, err
	}
	if name, _ := q.Backing(); name != "" {
		return nil, fmt.Errorf("it has the backing file %q, but was written without one", name)
	}
	return &localQCOW2{q, size}, nil
}

// openQCOW2 opens a qcow2 file for a disk of size bytes, and checks its tables.
func openQCOW2(f *localFile, size int64) (*qcow2.Reader, error) {
	q, err := qcow2.Open(f, f.size)
	if err != nil {
		return nil, err
	}
	if q.Size() != (size+qcow2Sector-1)/qcow2Sector*qcow2Sector {
		return nil, fmt.Errorf("it holds a disk of %d bytes, not of %d", q.Size(), size)
	}
	return q, q.Check()
}

// qcow2Sector is what sizes of disks in qcow2 files are multiples of.
const qcow2Sector = 512
