package restore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// output is a file that appears under its name when it is whole.
type output struct {
	*os.File
	path string
	// writing is held by each write: the kernel lets one into a file at a time,
	// and those it keeps out spin.
	writing sync.Mutex
}

// WriteAt implements io.WriterAt.
func (o *output) WriteAt(p []byte, off int64) (int, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	return o.File.WriteAt(p, off)
}

// CheckOutput refuses a path that finish would have to destroy something for: a
// directory or device always, a file that is not empty unless force is set.
func CheckOutput(path string, force bool) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case st.Size() > 0 && !force:
		return fmt.Errorf("%s exists: %w", path, fs.ErrExist)
	}
	return nil
}

// create makes the temporary file, readable by its owner alone: it is a disk.
func create(path string) (*output, error) {
	var salt [6]byte
	rand.Read(salt[:])
	tmp := filepath.Join(filepath.Dir(path), "."+clip(filepath.Base(path))+"."+hex.EncodeToString(salt[:])+".part")
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &output{File: f, path: path}, nil
}

// clip leaves room for what create adds within the 255 bytes of a file name.
func clip(name string) string { return name[:min(len(name), 200)] }

// finish makes the file durable and gives it its name.
func (o *output) finish() error {
	if err := errors.Join(o.Sync(), o.Close()); err != nil {
		return err
	}
	if err := os.Rename(o.Name(), o.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(o.path))
}

// discard removes the file. After finish it does nothing.
func (o *output) discard() {
	o.Close()
	os.Remove(o.Name())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some network file systems sync no directories
		return err
	}
	return nil
}

// WriteFile writes a small file the way a disk is written: whole or not at all.
func WriteFile(path string, data []byte, force bool) error {
	if err := CheckOutput(path, force); err != nil {
		return err
	}
	o, err := create(path)
	if err != nil {
		return err
	}
	defer o.discard()
	if _, err := o.Write(data); err != nil {
		return err
	}
	return o.finish()
}
