package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUsed says that a device seems to be in use.
var ErrUsed = fmt.Errorf("it seems to be used: %w", fs.ErrExist)

// IsDevice says that a path is a block device.
func IsDevice(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0
}

// CheckDevice refuses a block device of less than size bytes, one that is mounted
// or used by the kernel otherwise, and, unless force is set, one that does not
// begin with zeros.
func CheckDevice(path string, size int64, force bool) error {
	d, err := openDevice(path, size, force)
	if err != nil {
		return err
	}
	return d.close()
}

// device is a block device that becomes a disk. What makes it look like one, its
// first bytes, is zeroed first and written last.
type device struct {
	file   *os.File // O_EXCL: nobody mounts it now
	direct direct
	path   string
	size   int64  // of the disk
	head   []byte // its first bytes, usedBytes at most; zeros until they came
	noHole bool   // zeros must be written
	closed bool
}

func openDevice(path string, size int64, force bool) (*device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_EXCL, 0)
	if errors.Is(err, syscall.EBUSY) {
		return nil, fmt.Errorf("%s is mounted, or used by the kernel otherwise: unmount it first: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	d := &device{file: f, path: path, size: size, head: make([]byte, min(size, usedBytes))}
	if err := d.check(force); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (d *device) check(force bool) error {
	have, err := d.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("size of %s: %w", d.path, err)
	}
	if have < d.size {
		return fmt.Errorf("%s has %d bytes, but the disk %d: make it larger", d.path, have, d.size)
	}
	if force {
		return nil
	}
	begin := make([]byte, min(have, usedBytes))
	if err := readFull(d.file, begin, 0); err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	if !bytes.Equal(begin, zeros[:len(begin)]) {
		return fmt.Errorf("%s does not begin with zeros; %w", d.path, ErrUsed)
	}
	return nil
}

// begin makes the device look like nothing.
func (d *device) begin() error {
	d.direct.open(d.path, 0)
	if _, err := d.file.WriteAt(zeros[:len(d.head)], 0); err != nil {
		return err
	}
	return d.file.Sync()
}

// WriteAt implements target.
func (d *device) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(d.head)) {
		n := copy(d.head[off:], p)
		if n == len(p) {
			return n, nil
		}
		m, err := d.WriteAt(p[n:], off+int64(n))
		return n + m, err
	}
	if done, err := d.direct.writeAt(p, off); done {
		return len(p), err
	}
	return d.file.WriteAt(p, off)
}

// Zero implements target: by giving the space back where the device then is sure
// to read as zeros, else by letting the kernel zero it, else by writing. It is not
// for concurrent use.
func (d *device) Zero(off, n int64) error {
	if skip := int64(len(d.head)) - off; skip > 0 { // they are zeros
		skip = min(skip, n)
		off, n = off+skip, n-skip
	}
	if n == 0 {
		return nil
	}
	if whole := n / sector * sector; off%sector == 0 && whole > 0 && !d.noHole {
		done, err := d.zeroRange(off, whole)
		if err != nil {
			return fmt.Errorf("zero %d bytes at %d: %w", whole, off, err)
		}
		if d.noHole = !done; done {
			off, n = off+whole, n-whole
		}
	}
	return split(off, n, func(off, n int64) error {
		_, err := d.WriteAt(zeros[:n], off)
		return err
	})
}

// zeroRange reports whether the device can do it.
func (d *device) zeroRange(off, n int64) (done bool, err error) {
	const keep = unix.FALLOC_FL_KEEP_SIZE
	for _, how := range []uint32{unix.FALLOC_FL_PUNCH_HOLE | keep, unix.FALLOC_FL_ZERO_RANGE | keep} {
		err := ignoringEINTR(func() error { return unix.Fallocate(int(d.file.Fd()), how, off, n) })
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return false, err
		}
	}
	return false, nil
}

// sector is what zeroing a device wants places to be a multiple of.
const sector = 4096

func ignoringEINTR(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// complete implements target: everything is made durable, and then the beginning.
func (d *device) complete() error {
	err := d.file.Sync()
	if err == nil {
		_, err = d.file.WriteAt(d.head, 0)
	}
	if err == nil {
		err = d.file.Sync()
	}
	return err
}

func (d *device) content() string { return d.path }

// Finish implements target.
func (d *device) Finish() error { return d.close() }

// Discard implements target. What was written stays, and does not look like a
// disk.
func (d *device) Discard() { _ = d.close() }

func (d *device) close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.direct.close(), d.file.Close())
}
