// Package atomicfile replaces small files whole, so that a reader, or a server
// that starts after a power cut, finds the old content or the new and never a
// mixture.
package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const category vfs.DiskWriteCategory = "strongroom-state"

// Write puts data under path: a temporary file beside it is written and synced,
// renamed over path, and the directory synced. When Write returns nil the new
// content survives a power cut; when it returns an error the old content stands
// unless only the last directory sync failed.
func Write(fs vfs.FS, path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeSynced(fs, tmp, data); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", tmp, err), fs.Remove(tmp))
	}
	if err := fs.Rename(tmp, path); err != nil {
		return fmt.Errorf("rename %s: %w", tmp, err)
	}
	return SyncDir(fs, fs.PathDir(path))
}

func writeSynced(fs vfs.FS, path string, data []byte) error {
	f, err := fs.Create(path, category)
	if err != nil {
		return err
	}
	if _, err = f.Write(bytes.Clone(data)); err == nil { // Write may scribble on its argument
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Read returns a whole file of at most limit bytes.
func Read(fs vfs.FS, path string, limit int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than the %d bytes it may have", path, limit)
	}
	return data, err
}

// SyncDir makes the names in a directory power-cut safe.
func SyncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
