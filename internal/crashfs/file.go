package crashfs

import (
	"io"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file is an open handle.
type file struct {
	fs       *FS
	node     *inode
	path     string
	pos      int64
	writable bool
	closed   bool
}

var _ vfs.File = (*file)(nil)

func pathError(kind string, path string, err error) error {
	return &os.PathError{Op: kind, Path: path, Err: err}
}

// usable checks the handle; the lock is held.
func (f *file) usable(kind string, wantFile bool) error {
	switch {
	case f.closed:
		return pathError(kind, f.path, os.ErrClosed)
	case wantFile && f.node.dir != nil:
		return pathError(kind, f.path, syscall.EISDIR)
	}
	return nil
}

// Close gives the handle up; using it again is an error.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable("close", false); err != nil {
		return err
	}
	f.closed = true
	f.node.refs--
	f.fs.release(f.node)
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	f.fs.mu.Lock() // not RLock: pos moves
	defer f.fs.mu.Unlock()
	n, err := f.read(p, f.pos)
	f.pos += int64(n)
	if n == 0 && len(p) > 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.RLock()
	if len(f.fs.faults) > 0 { // faults count, so they need the whole lock
		f.fs.mu.RUnlock()
		f.fs.mu.Lock()
		defer f.fs.mu.Unlock()
	} else {
		defer f.fs.mu.RUnlock()
	}
	n, err := f.read(p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *file) read(p []byte, off int64) (int, error) {
	if err := f.usable("read", true); err != nil {
		return 0, err
	}
	op := Op{Kind: Read, Path: f.path, Inode: f.node.no, Off: off, Len: int64(len(p))}
	if v := f.fs.judge(&op); v.err != nil {
		return 0, pathError("read", f.path, v.err)
	}
	if off < 0 {
		return 0, pathError("read", f.path, syscall.EINVAL)
	}
	return f.node.cur.readAt(p, off), nil
}

func (f *file) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.write(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.write(p, off)
}

func (f *file) write(p []byte, off int64) (int, error) {
	if err := f.usable("write", true); err != nil {
		return 0, err
	}
	if !f.writable {
		return 0, pathError("write", f.path, syscall.EBADF)
	}
	if off < 0 {
		return 0, pathError("write", f.path, syscall.EINVAL)
	}
	op := Op{Kind: Write, Path: f.path, Inode: f.node.no, Off: off, Len: int64(len(p))}
	v := f.fs.begin(&op)
	switch {
	case v.passes():
	case v.effect == Short:
		p = p[:len(p)/2]
	default:
		p = nil
	}
	n, err := f.fs.put(f.node, p, off)
	if v.err != nil {
		err = v.err
	}
	if err != nil {
		err = pathError("write", f.path, err)
	}
	if v.err != nil && v.effect == After {
		n = 0
	}
	return n, f.fs.end(&op, err)
}

// put writes as much of p as there is space for.
func (fs *FS) put(n *inode, p []byte, off int64) (int, error) {
	full := error(nil)
	if fs.capacity > 0 {
		if fit := fs.fitting(n, len(p), off); fit < len(p) {
			p, full = p[:fit], syscall.ENOSPC
		}
	}
	if len(p) > 0 {
		fs.used += n.newSpace(len(p), off)
		n.allocated += n.newSpace(len(p), off)
		n.write(p, off)
	}
	return len(p), full
}

// newSpace is the bytes of pages a write would allocate.
func (n *inode) newSpace(length int, off int64) (space int64) {
	for i := off / pageSize; i*pageSize < off+int64(length); i++ {
		if n.cur.page(int(i)) == nil {
			space += pageSize
		}
	}
	return space
}

// fitting is how many of length bytes at off the disk still has room for.
func (fs *FS) fitting(n *inode, length int, off int64) int {
	free := fs.capacity - fs.used
	for i := off / pageSize; i*pageSize < off+int64(length); i++ {
		if n.cur.page(int(i)) != nil {
			continue
		}
		if free -= pageSize; free < 0 {
			return int(max(i*pageSize-off, 0))
		}
	}
	return length
}

// Sync makes data and size, or a directory's entries, durable.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable("sync", false); err != nil {
		return err
	}
	op := Op{Kind: Sync, Path: f.path, Inode: f.node.no}
	if f.node.dir != nil {
		op.Kind = SyncDir
	}
	v := f.fs.begin(&op)
	switch {
	case v.passes():
		f.node.sync()
	case v.effect == DropDirty:
		f.node.drop()
	}
	err := v.err
	if err != nil {
		err = pathError("sync", f.path, err)
	}
	return f.fs.end(&op, err)
}

// SyncData is Sync: the size that is needed to read the data back goes along.
func (f *file) SyncData() error { return f.Sync() }

// SyncTo promises nothing, like sync_file_range, and does nothing.
func (f *file) SyncTo(int64) (bool, error)   { return false, nil }
func (f *file) Preallocate(_, _ int64) error { return nil }
func (f *file) Prefetch(_, _ int64) error    { return nil }
func (f *file) Fd() uintptr                  { return vfs.InvalidFd }

func (f *file) Stat() (vfs.FileInfo, error) {
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	if err := f.usable("stat", false); err != nil {
		return nil, err
	}
	return f.node.info(f.path), nil
}

// info describes an inode under one of its names.
type info struct {
	name  string
	size  int64
	mtime time.Time
	dir   bool
}

func (i info) Name() string           { return i.name }
func (i info) Size() int64            { return i.size }
func (i info) ModTime() time.Time     { return i.mtime }
func (i info) IsDir() bool            { return i.dir }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

func (i info) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}

// lock is a held file lock.
type lock struct {
	fs   *FS
	path string
}

// Close gives the lock back; a second call does nothing.
func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.fs.locks[l.path] == l {
		delete(l.fs.locks, l.path)
	}
	return nil
}
