package inplace

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// journal is a target's journal: locked, with or without something in it.
type journal struct {
	path string
	f    *os.File
	old  *state // what it said when it was opened; nil: nothing
	used bool   // it says something
	gone bool   // the name is somebody else's now
}

// openJournal locks the journal and reads it. An empty one is no journal: nothing
// is written to a target before its journal is whole and synced.
func openJournal(path string) (*journal, error) {
	f, err := lockJournal(path)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, f: f}
	if j.old, err = j.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w. It says what an interrupted restore has left in the target, so take care: "+
			"move it away, and restore without --dirty and --bitmap; everything is compared then", path, err)
	}
	j.used = j.old != nil
	return j, nil
}

// lockJournal opens the file that has the name while it is locked: another run
// may replace or remove it at any moment before.
func lockJournal(path string) (*os.File, error) {
	for range journalTries {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("the journal: %w; name another place with --journal", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("%w: another restore into it is under way: it holds %s", ErrBusy, path)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock the journal %s: %w; name another place with --journal", path, err)
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if named, err := os.Lstat(path); err == nil && os.SameFile(mine, named) {
			if !mine.Mode().IsRegular() {
				f.Close()
				return nil, fmt.Errorf("%w: %s is no file", ErrJournal, path)
			}
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("%w: its journal %s changes all the time", ErrBusy, path)
}

func (j *journal) read() (*state, error) {
	st, err := j.f.Stat()
	if err != nil || st.Size() == 0 {
		return nil, err
	}
	if st.Size() > journalBytesMax {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrJournal, st.Size())
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(j.f, b); err != nil {
		return nil, err
	}
	return decode(b)
}

// replace makes the journal say s. When it returns nil that is durable; the lock
// is held on all the way.
func (j *journal) replace(s *state) error {
	b, err := s.encode()
	if err != nil {
		return err
	}
	tmp := j.path + ".part"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := j.fill(f, b); err != nil {
		f.Close()
		os.Remove(tmp)
		return fmt.Errorf("write the journal %s: %w", j.path, err)
	}
	j.f.Close()
	j.f, j.used = f, true
	return syncDir(filepath.Dir(j.path))
}

func (j *journal) fill(f *os.File, b []byte) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), j.path)
}

// remove ends the journal: the target is what it should be.
func (j *journal) remove() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j.gone = true
	if !j.used { // nobody minds an empty one
		return nil
	}
	return syncDir(filepath.Dir(j.path))
}

// close lets go of the journal, which stays when it says something.
func (j *journal) close() {
	if !j.used && !j.gone {
		os.Remove(j.path)
	}
	j.f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some network file systems sync no directories
		return err
	}
	return nil
}
