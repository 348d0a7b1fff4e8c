package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// stage is where files are written that appear together. A directory that does
// not exist appears with all of them at once; into one that exists they are moved
// one after the other, and back when that fails.
type stage struct {
	dir, tmp string
	made     bool     // tmp becomes dir
	names    []string // that place moves
}

func newStage(dir string) (*stage, error) {
	s := &stage{dir: filepath.Clean(dir)}
	_, err := os.Stat(s.dir)
	s.made = errors.Is(err, os.ErrNotExist)
	switch {
	case s.made:
		s.tmp = unfinishedName(s.dir)
		if err := os.MkdirAll(filepath.Dir(s.dir), 0o700); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		s.tmp = unfinishedName(filepath.Join(s.dir, "chain"))
	}
	return s, os.Mkdir(s.tmp, 0o700)
}

// place gives the files their names, and makes that durable.
func (s *stage) place(force bool) error {
	if err := syncDir(s.tmp); err != nil {
		return err
	}
	if s.made {
		if err := os.Rename(s.tmp, s.dir); err != nil {
			return err
		}
		return syncDir(filepath.Dir(s.dir))
	}
	for i, name := range s.names {
		to := filepath.Join(s.dir, name)
		err := CheckOutput(to, force)
		if err == nil {
			err = os.Rename(filepath.Join(s.tmp, name), to)
		}
		if err != nil {
			for _, name := range s.names[:i] {
				err = errors.Join(err, os.Remove(filepath.Join(s.dir, name)))
			}
			return fmt.Errorf("give the files of the chain their names: %w", err)
		}
	}
	if err := os.Remove(s.tmp); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// discard removes what was not placed.
func (s *stage) discard() { _ = os.RemoveAll(s.tmp) }
