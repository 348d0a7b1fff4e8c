package inplace

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileTarget is a file or a block device.
type fileTarget struct {
	*os.File
	kind     Kind
	identity string
	size     int64
	solid    atomic.Bool // it cannot punch holes
	// writing is held by each write: the kernel lets one into a file at a time, and
	// those it keeps out spin.
	writing sync.Mutex
}

func openFile(name string) (Target, error) {
	path, err := filepath.Abs(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	t := &fileTarget{kind: File, identity: path}
	flags := os.O_RDWR | unix.O_CLOEXEC
	switch mode := st.Mode(); {
	case mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0:
		t.kind, t.identity = Device, deviceIdentity(path, st)
		flags |= unix.O_EXCL // no file system, volume group or loop device is on it
	case !mode.IsRegular():
		return nil, fmt.Errorf("%w: %s is neither a file nor a block device", ErrTarget, name)
	}
	t.File, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w: %s is mounted, or part of something that is in use; unmount it first", ErrBusy, name)
	}
	if err != nil {
		return nil, err
	}
	if err := t.prepare(name); err != nil {
		t.File.Close()
		return nil, err
	}
	return t, nil
}

func (t *fileTarget) prepare(name string) (err error) {
	if t.size, err = t.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("size of %s: %w", name, err)
	}
	if t.kind == Device || t.size > 0 { // a file that is empty may be given a size
		if err := checkSize(name, t.size); err != nil {
			return err
		}
	}
	return lockAsQEMU(t.File)
}

// deviceIdentity tells a device by what stays when it is set up again: the name
// that a volume manager or a disk gives itself; else its path.
func deviceIdentity(path string, st os.FileInfo) string {
	stat, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return path
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	partition := firstLine(sys + "partition")
	for _, name := range []string{"dm/uuid", "wwid", "device/wwid", "../wwid", "../device/wwid"} {
		if id := firstLine(sys + name); id != "" && (partition != "") == strings.HasPrefix(name, "../") {
			return strings.TrimSpace(id + " " + partition)
		}
	}
	return path
}

// firstLine is empty when there is no such file.
func firstLine(path string) string {
	text, _ := os.ReadFile(path) // sysfs: at most a page
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

func fingerprint(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return hex.EncodeToString(sum[:16])
}

func (t *fileTarget) Kind() Kind       { return t.kind }
func (t *fileTarget) Identity() string { return t.identity }
func (t *fileTarget) Size() int64      { return t.size }
func (t *fileTarget) Sync() error      { return t.File.Sync() }

func (t *fileTarget) Truncate(size int64) error {
	if t.kind != File {
		return fmt.Errorf("%w: a block device cannot be given another size", ErrSize)
	}
	if err := t.File.Truncate(size); err != nil {
		return err
	}
	t.size = size
	return nil
}

// ReadAt implements io.ReaderAt; a file that was made shorter meanwhile is an
// error.
func (t *fileTarget) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.File.ReadAt(p, off)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	if err == io.EOF {
		err = fmt.Errorf("read %s at %d: somebody made it shorter: %w", t.Name(), off+int64(n), io.ErrUnexpectedEOF)
	}
	return n, err
}

// WriteAt implements io.WriterAt.
func (t *fileTarget) WriteAt(p []byte, off int64) (int, error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	return t.File.WriteAt(p, off)
}

// Zero punches a hole, which on a block device is a request to write zeros and
// reads back as zeros too; where there is no such thing it writes zeros.
func (t *fileTarget) Zero(off, n int64) error {
	if !t.solid.Load() {
		err := unix.EINTR
		for err == unix.EINTR {
			err, _ = unix.Fallocate(int(t.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n).(unix.Errno)
		}
		switch err {
		case 0:
			return nil
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
			t.solid.Store(true)
		default:
			return fmt.Errorf("punch a hole of %d bytes at %d into %s: %w", n, off, t.Name(), err)
		}
	}
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if _, err := t.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

var zeros [64 << 10]byte

// Extents asks the file system for holes. What a block device has is not known.
func (t *fileTarget) Extents(off, n int64, yield func(off, n int64, zero bool) error) error {
	if t.kind == Device {
		return yield(off, n, false)
	}
	for end := off + n; off < end; {
		data := t.seek(off, end, unix.SEEK_DATA)
		if data > off {
			if err := yield(off, data-off, true); err != nil {
				return err
			}
		}
		if data == end {
			return nil
		}
		if off = t.seek(data, end, unix.SEEK_HOLE); off == data {
			off = end // what begins with data is not a hole, whatever is said
		}
		if err := yield(data, off-data, false); err != nil {
			return err
		}
	}
	return nil
}

// seek finds the next data or hole in [off, end), else end. A file system that
// does not tell has data everywhere.
func (t *fileTarget) seek(off, end int64, whence int) int64 {
	at, err := unix.Seek(int(t.Fd()), off, whence)
	switch {
	case err == nil:
		return min(max(at, off), end)
	case whence == unix.SEEK_DATA && !errors.Is(err, unix.ENXIO): // ENXIO: nothing but a hole
		return off
	}
	return end
}

// Forget drops the page cache of what is synced.
func (t *fileTarget) Forget() { unix.Fadvise(int(t.Fd()), 0, 0, unix.FADV_DONTNEED) }
