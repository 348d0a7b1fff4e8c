package overlayfs

import (
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is an overlay. It is safe for concurrent use when its layers are.
type FS struct {
	below, above vfs.FS
	root         string // of above, under which our paths lie

	// mu is held while names change: a change may be several steps.
	mu     sync.RWMutex
	hidden map[string]bool // names of below, with all that lies under them
}

var _ vfs.FS = (*FS)(nil)

// New lays above over below. Paths are those of below; what changes is kept
// under the directory root of above, "" for its top. root must exist and be
// empty.
func New(below, above vfs.FS, root string) *FS {
	return &FS{below: below, above: above, root: root, hidden: map[string]bool{}}
}

// up is where a name lies above.
func (f *FS) up(name string) string {
	if f.root == "" {
		return name
	}
	return f.above.PathJoin(f.root, name)
}

// clean makes one spelling of a path, to compare hidden names by.
func (f *FS) clean(name string) string { return f.below.PathJoin(name) }

// isHidden reports whether a name of the layer below is out of sight.
func (f *FS) isHidden(name string) bool {
	for p := f.clean(name); ; p = f.below.PathDir(p) {
		if f.hidden[p] {
			return true
		}
		if p == f.below.PathDir(p) {
			return false
		}
	}
}

func (f *FS) statAbove(name string) (vfs.FileInfo, error) { return f.above.Stat(f.up(name)) }

func (f *FS) statBelow(name string) (vfs.FileInfo, error) {
	if f.isHidden(name) {
		return nil, &os.PathError{Op: "stat", Path: name, Err: os.ErrNotExist}
	}
	return f.below.Stat(name)
}

func (f *FS) stat(name string) (vfs.FileInfo, error) {
	info, err := f.statAbove(name)
	if errors.Is(err, os.ErrNotExist) {
		return f.statBelow(name)
	}
	return info, err
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (vfs.FileInfo, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.stat(name)
}

// List implements vfs.FS.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.list(dir)
}

func (f *FS) list(dir string) ([]string, error) {
	names, err := f.above.List(f.up(dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	missing := err
	if f.isHidden(dir) {
		return names, missing
	}
	under, err := f.below.List(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return names, missing
	case err != nil:
		return nil, err
	}
	for _, name := range under {
		if !slices.Contains(names, name) && !f.isHidden(f.below.PathJoin(dir, name)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.open(name, opts)
}

func (f *FS) open(name string, opts []vfs.OpenOption) (vfs.File, error) {
	if _, err := f.statAbove(name); err == nil {
		return f.above.Open(f.up(name), opts...)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if f.isHidden(name) {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	file, err := f.below.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return readOnly{file}, nil
}

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if _, err := f.statAbove(name); err == nil {
		return f.above.OpenDir(f.up(name))
	}
	return f.open(name, nil)
}

// makeParent makes the directory of a name above, if there is one at all.
func (f *FS) makeParent(name string) error {
	dir := f.below.PathDir(f.clean(name))
	info, err := f.stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return &os.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	return f.above.MkdirAll(f.up(dir), 0o700)
}

// copyUp brings a file that is only below to the layer above.
func (f *FS) copyUp(name string) error {
	if _, err := f.statAbove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	info, err := f.statBelow(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return &os.PathError{Op: "change", Path: name, Err: syscall.EXDEV}
	}
	if err := f.makeParent(name); err != nil {
		return err
	}
	in, err := f.below.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := f.above.Create(f.up(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, f.above.Remove(f.up(name)))
	}
	return nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if info, err := f.stat(name); err == nil && info.IsDir() {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.EISDIR}
	}
	if err := f.makeParent(name); err != nil {
		return nil, err
	}
	file, err := f.above.Create(f.up(name), c)
	if err == nil {
		f.hide(name)
	}
	return file, err
}

// hide takes a name of the layer below out of sight.
func (f *FS) hide(name string) { f.hidden[f.clean(name)] = true }

// OpenReadWrite implements vfs.FS.
func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.copyUp(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := f.makeParent(name); err != nil {
		return nil, err
	}
	return f.above.OpenReadWrite(f.up(name), c, opts...)
}

// Link implements vfs.FS.
func (f *FS) Link(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(f.copyUp(oldname), f.makeParent(newname)); err != nil {
		return err
	}
	if _, err := f.stat(newname); err == nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: os.ErrExist}
	}
	return f.above.Link(f.up(oldname), f.up(newname))
}

// Rename implements vfs.FS.
func (f *FS) Rename(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rename(oldname, newname)
}

func (f *FS) rename(oldname, newname string) error {
	if info, err := f.statBelow(newname); err == nil && info.IsDir() {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: syscall.EEXIST}
	}
	if info, err := f.statBelow(oldname); err == nil && info.IsDir() {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: syscall.EXDEV}
	}
	if err := f.copyUp(oldname); err != nil {
		return err
	}
	if err := f.makeParent(newname); err != nil {
		return err
	}
	if err := f.above.Rename(f.up(oldname), f.up(newname)); err != nil {
		return err
	}
	if f.clean(oldname) != f.clean(newname) {
		f.hide(oldname)
	}
	f.hide(newname)
	return nil
}

// ReuseForWrite implements vfs.FS.
func (f *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rename(oldname, newname); err != nil {
		return nil, err
	}
	return f.above.OpenReadWrite(f.up(newname), c)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := f.stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if names, err := f.list(name); err != nil || len(names) > 0 {
			return &os.PathError{Op: "remove", Path: name, Err: cmp.Or(err, error(syscall.ENOTEMPTY))}
		}
	}
	if _, err := f.statAbove(name); err == nil {
		if err := f.above.Remove(f.up(name)); err != nil {
			return err
		}
	}
	f.hide(name)
	return nil
}

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.above.RemoveAll(f.up(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f.hide(name)
	return nil
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(dir string, perm os.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := f.clean(dir); p != f.below.PathDir(p); p = f.below.PathDir(p) {
		if info, err := f.stat(p); err == nil && !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: p, Err: syscall.ENOTDIR}
		}
	}
	if _, err := f.stat(dir); err == nil {
		return nil
	}
	return f.above.MkdirAll(f.up(dir), perm)
}

// Lock implements vfs.FS: it keeps out others that use this overlay, nobody
// else.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.makeParent(name); err != nil {
		return nil, err
	}
	f.hide(name)
	return f.above.Lock(f.up(name))
}

// PathBase implements vfs.FS.
func (f *FS) PathBase(path string) string { return f.below.PathBase(path) }

// PathJoin implements vfs.FS.
func (f *FS) PathJoin(elem ...string) string { return f.below.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (f *FS) PathDir(path string) string { return f.below.PathDir(path) }

// GetDiskUsage implements vfs.FS: what is written goes above.
func (f *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return f.above.GetDiskUsage(f.up(""))
}

// Unwrap implements vfs.FS. An overlay is not a wrapper of either layer.
func (f *FS) Unwrap() vfs.FS { return nil }
