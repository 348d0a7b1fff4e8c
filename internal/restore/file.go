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

// Output is a file that appears under its name when it is whole.
type Output struct {
	*os.File
	path string
	// writing is held by each write: the kernel lets one into a file at a time,
	// and those it keeps out spin.
	writing sync.Mutex
}

// WriteAt implements io.WriterAt.
func (o *Output) WriteAt(p []byte, off int64) (int, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	return o.File.WriteAt(p, off)
}

// CheckOutput refuses a path that Finish would have to destroy something for: a
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

// Create makes the file, readable by its owner alone: it is a disk. Finish or
// Discard must follow. What has the name is refused as by CheckOutput.
func Create(path string, force bool) (*Output, error) {
	if err := CheckOutput(path, force); err != nil {
		return nil, err
	}
	var salt [6]byte
	rand.Read(salt[:])
	tmp := filepath.Join(filepath.Dir(path), "."+clip(filepath.Base(path))+"."+hex.EncodeToString(salt[:])+".part")
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &Output{File: f, path: path}, nil
}

// clip leaves room for what Create adds within the 255 bytes of a file name.
func clip(name string) string { return name[:min(len(name), 200)] }

// Finish makes the file durable and gives it its name.
func (o *Output) Finish() error {
	if err := errors.Join(o.Sync(), o.Close()); err != nil {
		return err
	}
	if err := os.Rename(o.Name(), o.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(o.path))
}

// Discard removes the file. After Finish it does nothing.
func (o *Output) Discard() {
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
	o, err := Create(path, force)
	if err != nil {
		return err
	}
	defer o.Discard()
	if _, err := o.Write(data); err != nil {
		return err
	}
	return o.Finish()
}
