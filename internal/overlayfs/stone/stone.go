// Package stone is a file system for tests that can only be read: whatever
// would change something fails, and fails the test.
package stone

import (
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS reads from the FS it holds. Fail is told of every attempt to change
// something, from any goroutine.
type FS struct {
	vfs.FS
	Fail func(format string, args ...any)
}

var errStone = errors.New("this file system can only be read")

func (s FS) no(op, name string) error {
	s.Fail("%s of %s, which must not be changed", op, name)
	return errStone
}

// Create implements vfs.FS.
func (s FS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, s.no("create", name)
}

// OpenReadWrite implements vfs.FS.
func (s FS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, s.no("open for writing", name)
}

// ReuseForWrite implements vfs.FS.
func (s FS) ReuseForWrite(name, _ string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, s.no("reuse", name)
}

// Link implements vfs.FS.
func (s FS) Link(name, _ string) error { return s.no("link", name) }

// Remove implements vfs.FS.
func (s FS) Remove(name string) error { return s.no("remove", name) }

// RemoveAll implements vfs.FS.
func (s FS) RemoveAll(name string) error { return s.no("remove all", name) }

// Rename implements vfs.FS.
func (s FS) Rename(name, _ string) error { return s.no("rename", name) }

// MkdirAll implements vfs.FS.
func (s FS) MkdirAll(name string, _ os.FileMode) error { return s.no("mkdir", name) }

// Lock implements vfs.FS: a lock file is made, and cut to nothing.
func (s FS) Lock(name string) (io.Closer, error) { return nil, s.no("lock", name) }

// Open implements vfs.FS.
func (s FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return file{f, s, name}, nil
}

// OpenDir implements vfs.FS.
func (s FS) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return file{f, s, name}, nil
}

type file struct {
	vfs.File
	s    FS
	name string
}

func (f file) Write([]byte) (int, error)          { return 0, f.s.no("write", f.name) }
func (f file) WriteAt([]byte, int64) (int, error) { return 0, f.s.no("write", f.name) }
func (f file) Preallocate(_, _ int64) error       { return f.s.no("preallocate", f.name) }
func (f file) Sync() error                        { return f.s.no("sync", f.name) }
func (f file) SyncTo(int64) (bool, error)         { return false, f.s.no("sync", f.name) }
func (f file) SyncData() error                    { return f.s.no("sync", f.name) }
