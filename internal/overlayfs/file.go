package overlayfs

import (
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// readOnly is an open file or directory of the layer below.
type readOnly struct{ vfs.File }

// Write implements vfs.File.
func (readOnly) Write([]byte) (int, error) { return 0, syscall.EROFS }

// WriteAt implements vfs.File.
func (readOnly) WriteAt([]byte, int64) (int, error) { return 0, syscall.EROFS }

// Preallocate implements vfs.File.
func (readOnly) Preallocate(int64, int64) error { return syscall.EROFS }

// Sync implements vfs.File.
func (readOnly) Sync() error { return nil }

// SyncTo implements vfs.File.
func (readOnly) SyncTo(int64) (bool, error) { return true, nil }

// SyncData implements vfs.File.
func (readOnly) SyncData() error { return nil }
