package tier

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
)

const category vfs.DiskWriteCategory = "strongroom-packs"

// Dir is a tier in a directory.
type Dir struct {
	fs    vfs.FS
	dir   string
	store [16]byte

	mu     sync.Mutex
	groups map[string]bool // directories known to be durable
}

var _ Store = (*Dir)(nil)

// CreateDir makes a new tier for a store and opens it. A directory that is a
// tier of the same store already is opened as it is.
func CreateDir(fs vfs.FS, dir string, store [16]byte) (*Dir, error) {
	d := newDir(fs, dir, store)
	if err := makeDurable(fs, d.packs()); err != nil {
		return nil, fmt.Errorf("make tier %s: %w", dir, err)
	}
	if _, err := fs.Stat(fs.PathJoin(dir, markerName)); errors.Is(err, os.ErrNotExist) {
		if names, err := fs.List(d.packs()); err != nil || len(names) > 0 {
			return nil, errors.Join(fmt.Errorf("%w: %s holds packs but no %s file says whose", ErrNoTier, dir, markerName), err)
		}
		if err := atomicfile.Write(fs, fs.PathJoin(dir, markerName), markerText(store)); err != nil {
			return nil, fmt.Errorf("make tier %s: %w", dir, err)
		}
	}
	return OpenDir(fs, dir, store)
}

// makeDurable makes a directory and every missing one above it, and syncs each
// directory that got a new name. What exists is synced too where a crash may
// have come between the two steps.
func makeDurable(fs vfs.FS, dir string) error {
	parents := []string{fs.PathDir(dir), fs.PathDir(fs.PathDir(dir))}
	for p := parents[1]; ; p = fs.PathDir(p) {
		if _, err := fs.Stat(p); err == nil || p == fs.PathDir(p) {
			break
		}
		parents = append(parents, fs.PathDir(p))
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		if err := atomicfile.SyncDir(fs, p); err != nil {
			return err
		}
	}
	return nil
}

// OpenDir opens a tier CreateDir made. A directory without the marker of this
// store is ErrNoTier, whatever else it holds.
func OpenDir(fs vfs.FS, dir string, store [16]byte) (*Dir, error) {
	d := newDir(fs, dir, store)
	if err := d.checkMarker(); err != nil {
		return nil, err
	}
	return d, nil
}

func newDir(fs vfs.FS, dir string, store [16]byte) *Dir {
	return &Dir{fs: fs, dir: dir, store: store, groups: make(map[string]bool)}
}

func (d *Dir) packs() string { return d.fs.PathJoin(d.dir, "packs") }

func (d *Dir) path(id ID, suffix string) string {
	return d.fs.PathJoin(d.packs(), group(id), fileName(id, suffix))
}

// Create implements Store.
func (d *Dir) Create(id ID) (File, error) {
	if err := d.ensureGroup(group(id)); err != nil {
		return nil, fmt.Errorf("create %v: %w", id, err)
	}
	path := d.path(id, packSuffix)
	if _, err := d.fs.Stat(path); err == nil {
		return nil, fmt.Errorf("create %v: %w", id, ErrExists)
	}
	f, err := d.fs.OpenReadWrite(path, category)
	if err != nil {
		return nil, fmt.Errorf("create %v: %w", id, err)
	}
	if err := atomicfile.SyncDir(d.fs, d.fs.PathDir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("create %v: %w", id, err), f.Close())
	}
	return dirFile{f}, nil
}

// ensureGroup makes a pack directory whose name is durable.
func (d *Dir) ensureGroup(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.groups[name] {
		return nil
	}
	dir := d.fs.PathJoin(d.packs(), name)
	if err := d.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(d.fs, d.packs()); err != nil {
		// A later sync may succeed and still not bring back what this one
		// dropped; a directory made anew is there to be synced again.
		return errors.Join(err, d.fs.Remove(dir))
	}
	d.groups[name] = true
	return nil
}

// Open implements Store.
func (d *Dir) Open(id ID) (File, error) {
	f, err := d.fs.Open(d.path(id, packSuffix))
	return opened(id, f, err)
}

// Reopen implements Store.
func (d *Dir) Reopen(id ID) (File, error) {
	path := d.path(id, packSuffix)
	if _, err := d.fs.Stat(path); err != nil { // OpenReadWrite would create it
		return opened(id, nil, err)
	}
	f, err := d.fs.OpenReadWrite(path, category)
	return opened(id, f, err)
}

func opened(id ID, f vfs.File, err error) (File, error) {
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %v: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", id, err)
	}
	return dirFile{f}, nil
}

// Settle implements Store.
func (d *Dir) Settle() error {
	groups, err := d.fs.List(d.packs())
	if err != nil {
		return fmt.Errorf("list packs of tier %s: %w", d.dir, err)
	}
	for _, g := range append(groups, "") {
		if err := atomicfile.SyncDir(d.fs, d.fs.PathJoin(d.packs(), g)); err != nil {
			return fmt.Errorf("settle tier %s: %w", d.dir, err)
		}
	}
	return nil
}

// List implements Store. Names that are not packs are passed over.
func (d *Dir) List() ([]ID, error) {
	groups, err := d.fs.List(d.packs())
	if err != nil {
		return nil, fmt.Errorf("list packs of tier %s: %w", d.dir, err)
	}
	var ids []ID
	for _, g := range groups {
		names, err := d.fs.List(d.fs.PathJoin(d.packs(), g))
		if err != nil {
			return nil, fmt.Errorf("list packs of tier %s: %w", d.dir, err)
		}
		for _, name := range names {
			if id, ok := parseName(name); ok && group(id) == g {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// Remove implements Store.
func (d *Dir) Remove(id ID) error {
	path := d.path(id, packSuffix)
	if err := d.fs.Remove(path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %v: %w", id, ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("remove %v: %w", id, err)
	}
	if err := d.fs.Remove(d.path(id, noteSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the note of %v: %w", id, err)
	}
	if err := atomicfile.SyncDir(d.fs, d.fs.PathDir(path)); err != nil {
		return fmt.Errorf("remove %v: %w", id, err)
	}
	return nil
}

// Usage implements Store.
func (d *Dir) Usage() (Usage, error) {
	u, err := d.fs.GetDiskUsage(d.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return Usage{}, ErrUsageUnknown
	}
	if err != nil {
		return Usage{}, fmt.Errorf("disk usage of tier %s: %w", d.dir, err)
	}
	return Usage{Total: u.TotalBytes, Free: u.AvailBytes}, nil
}

// SetNote implements Store.
func (d *Dir) SetNote(id ID, note []byte) error {
	if len(note) > MaxNote {
		return fmt.Errorf("note of %v: %d bytes, at most %d are kept", id, len(note), MaxNote)
	}
	// A vfs.File may scribble over what it is given to write.
	if err := atomicfile.Write(d.fs, d.path(id, noteSuffix), bytes.Clone(note)); err != nil {
		return fmt.Errorf("note of %v: %w", id, err)
	}
	return nil
}

// Note implements Store.
func (d *Dir) Note(id ID) ([]byte, error) {
	note, err := atomicfile.Read(d.fs, d.path(id, noteSuffix), MaxNote)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("note of %v: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("note of %v: %w", id, err)
	}
	return note, nil
}

// dirFile gives a vfs.File the names a tier promises.
type dirFile struct{ vfs.File }

func (f dirFile) Sync() error { return f.SyncData() }

func (f dirFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
