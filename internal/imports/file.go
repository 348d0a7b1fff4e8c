package imports

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// opened is a file as it was when it was opened.
type opened struct {
	*os.File
	was fs.FileInfo
}

// openFile opens a file to be read, or a block device if it may be one.
func (s *Source) openFile(path string, device bool) (f *os.File, size int64, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	block := st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0
	switch {
	case !st.Mode().IsRegular() && !device:
		return nil, 0, fmt.Errorf("%s is no regular file", path)
	case !st.Mode().IsRegular() && !block: // opening a pipe would wait
		return nil, 0, &UsageError{path + " is neither a file nor a block device", "pipe a stream: … | strongroom import - VM"}
	}
	if f, err = os.Open(path); err != nil {
		return nil, 0, err
	}
	if st, err = f.Stat(); err == nil {
		s.files = append(s.files, opened{f, st})
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil && size == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return f, size, err
}

// unchanged fails when a file was written to since it was opened: what was read of
// it is then the disk of no moment. Of devices nobody can tell.
func (s *Source) unchanged() error {
	for _, f := range s.files {
		now, err := f.Stat()
		if err != nil {
			return err
		}
		if now.Size() != f.was.Size() || now.Mode().IsRegular() && !now.ModTime().Equal(f.was.ModTime()) {
			return fmt.Errorf("%s was written to while it was read: stop what uses it, or copy it first", f.Name())
		}
	}
	return nil
}
