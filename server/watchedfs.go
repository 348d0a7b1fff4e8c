package server

import (
	"context"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// watchedFS tells how many files below a directory have been opened, and opens
// no more once its context has ended. It is how a rebuild shows progress and is
// interrupted without the engines knowing of either.
type watchedFS struct {
	vfs.FS
	ctx context.Context

	mu    sync.Mutex
	below string
	seen  map[string]bool
	tell  func(files int64)
}

// watch begins to count the files below a directory.
func (w *watchedFS) watch(below string, tell func(int64)) {
	w.mu.Lock()
	w.below, w.seen, w.tell = below, map[string]bool{}, tell
	w.mu.Unlock()
	tell(0)
}

// Open implements vfs.FS.
func (w *watchedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := w.note(name); err != nil {
		return nil, err
	}
	return w.FS.Open(name, opts...)
}

// OpenReadWrite implements vfs.FS.
func (w *watchedFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := w.note(name); err != nil {
		return nil, err
	}
	return w.FS.OpenReadWrite(name, category, opts...)
}

// note counts a file of the directory watched. Only these are refused after an
// interrupt: a database whose files cannot be opened ends the process.
func (w *watchedFS) note(name string) error {
	w.mu.Lock()
	if w.below == "" || !strings.HasPrefix(name, w.below) || w.seen[name] {
		w.mu.Unlock()
		return nil
	}
	w.seen[name] = true
	done, tell := int64(len(w.seen)), w.tell
	w.mu.Unlock()
	tell(done)
	return w.ctx.Err()
}

// Unwrap implements vfs.FS.
func (w *watchedFS) Unwrap() vfs.FS { return w.FS }
