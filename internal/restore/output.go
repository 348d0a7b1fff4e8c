package restore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Output is a file that appears under its name when it is whole.
type Output struct {
	*os.File
	path   string
	direct direct
}

// WriteAt implements io.WriterAt. What is aligned goes to the disk at once, past
// the page cache: a disk is larger than what should be pushed out of it, and the
// kernel spends more on its pages than on everything else.
func (o *Output) WriteAt(p []byte, off int64) (int, error) {
	if done, err := o.direct.writeAt(p, off); done {
		return len(p), err
	}
	return o.File.WriteAt(p, off)
}

// Zero implements target: a new file is zeros.
func (o *Output) Zero(off, n int64) error { return nil }

// complete implements target.
func (o *Output) complete() error { return o.Sync() }

func (o *Output) content() string { return o.Name() }

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
	tmp := unfinishedName(path)
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	o := &Output{File: f, path: path}
	o.direct.open(tmp, 0)
	return o, nil
}

// unfinishedName is a new name beside path.
func unfinishedName(path string) string {
	var salt [6]byte
	rand.Read(salt[:])
	return filepath.Join(filepath.Dir(path), "."+clip(filepath.Base(path))+"."+hex.EncodeToString(salt[:])+".part")
}

// clip leaves room for what is added within the 255 bytes of a file name.
func clip(name string) string { return name[:min(len(name), 200)] }

// Finish makes the file durable and gives it its name.
func (o *Output) Finish() error {
	if err := errors.Join(o.Sync(), o.direct.close(), o.Close()); err != nil {
		return err
	}
	if err := os.Rename(o.Name(), o.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(o.path))
}

// Discard removes the file. After Finish it does nothing.
func (o *Output) Discard() {
	_ = o.direct.close()
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
