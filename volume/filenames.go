package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// naming runs change, which says what the names of a session's files are from
// now on, as one operation on the session: nothing else changes them meanwhile,
// and no commit is under way. What change returns is durable before after is
// called, which says the same of the session in memory, under its lock.
func (m *Manager) naming(id string, change func(s *session) (next []fileEntry, after func(), err error)) error {
	s, err := m.keeper(id)
	if err != nil {
		return err
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := s.working(); err != nil {
		return err
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	files, after, err := change(s)
	if err != nil || after == nil {
		return err
	}
	next := s.content()
	next.Files = files
	for _, f := range files {
		next.NextFile = max(next.NextFile, f.ID+1)
	}
	if err := m.save(&next); err != nil {
		return fmt.Errorf("backup %s of VM %s: %w", id, s.file.VM, err)
	}
	s.replace(&next)
	s.mu.Lock()
	defer s.mu.Unlock()
	after()
	return nil
}

// keeper is a session for files.
func (m *Manager) keeper(id string) (*session, error) {
	s, err := m.find(id)
	if err == nil && !s.file.KeepsFiles {
		err = fmt.Errorf("%w: backup %s of VM %s is not one of files", ErrBadRequest, id, s.file.VM)
	}
	return s, err
}

// named is the file of a name, for naming's change.
func (s *session) named(name string) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.names[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("file %q of backup %s: %w", name, s.file.ID, fs.ErrNotExist)
}

// free refuses a name that is taken or cannot be.
func (s *session) free(name string) error {
	if err := catalog.CheckFileName(name); err != nil {
		return fmt.Errorf("%w: %v", ErrBadRequest, err)
	}
	if _, err := s.named(name); err == nil {
		return fmt.Errorf("file %q of backup %s: %w", name, s.file.ID, fs.ErrExist)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) >= maxFiles {
		return fmt.Errorf("%w: backup %s has %d files; remove some", ErrLimit, s.file.ID, len(s.names))
	}
	return nil
}

// with are the files' entries with other names for one of them; a file without
// names has none. The caller holds saving.
func (s *session) with(f *file, names []string) []fileEntry {
	list := slices.Clone(s.file.Files)
	i := slices.IndexFunc(list, func(e fileEntry) bool { return e.ID == f.id })
	if len(names) == 0 {
		return slices.Delete(list, i, i+1)
	}
	list[i].Names = names
	return list
}

// without are a file's names but for one.
func (f *file) without(name string) []string {
	return slices.DeleteFunc(slices.Clone(f.names), func(n string) bool { return n == name })
}

// also are a file's names and one more.
func (f *file) also(name string) []string {
	names := append(slices.Clone(f.names), name)
	slices.Sort(names)
	return names
}

// CreateFile makes an empty file, durable when it returns, and opens it. The
// error wraps fs.ErrExist when the name is taken.
func (m *Manager) CreateFile(id, name string, mode uint32) (x *File, err error) {
	var made *file
	err = m.naming(id, func(s *session) ([]fileEntry, func(), error) {
		if mode > maxFileMode {
			return nil, nil, fmt.Errorf("%w: mode %o", ErrBadRequest, mode)
		}
		if err := s.free(name); err != nil {
			return nil, nil, err
		}
		e := fileEntry{ID: s.file.NextFile, Names: []string{name}, Created: m.now().UTC(), Mode: mode}
		f, err := s.createFile(&e)
		if err != nil {
			return nil, nil, fmt.Errorf("create file %q of backup %s: %w", name, id, err)
		}
		made = f
		return append(slices.Clone(s.file.Files), e), func() {
			f.users++
			s.files[f.id], s.names[name] = f, f
			x = &File{f: f}
		}, nil
	})
	if err != nil && made != nil { // its journal stays: session.json may name it after all
		m.files.Add(-1)
		return nil, errors.Join(err, made.d.close())
	}
	return x, err
}

// createFile makes a file's journal, whose name the next change of session.json
// makes durable. One that session.json never names is removed when the server
// starts, and so is one of an attempt that failed.
func (s *session) createFile(e *fileEntry) (*file, error) {
	if s.m.files.Add(1) > maxAllFiles {
		s.m.files.Add(-1)
		return nil, fmt.Errorf("%w: open backups have %d files; commit or abort some", ErrLimit, maxAllFiles)
	}
	f := newFile(s, e)
	var err error
	path := s.m.fileJournalPath(s.file.ID, f.id)
	if f.d.journal, err = createJournal(s.m.fs, path, fileJournalOwner(s.file.ID, f.id), f.d.spec.Size, 0); err != nil {
		s.m.files.Add(-1)
		return nil, errors.Join(err, s.m.fs.Remove(path))
	}
	return f, nil
}

// OpenFile opens a file. The error wraps fs.ErrNotExist when there is none, and
// ErrDead when the host restarted before what was written to it was flushed.
func (m *Manager) OpenFile(session, name string) (*File, error) {
	s, err := m.keeper(session)
	if err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.names[name]
	switch {
	case f == nil:
		return nil, fmt.Errorf("file %q of backup %s: %w", name, session, fs.ErrNotExist)
	case f.lost != "":
		return nil, fmt.Errorf("%w: file %q of backup %s: %s; remove it and send it again", ErrDead, name, session, f.lost)
	}
	f.users++
	return &File{f: f}, nil
}

// RenameFile gives a file another name, at once and durable. A file that had
// that name loses it. Nothing happens when both are names of one file.
func (m *Manager) RenameFile(id, from, to string) error {
	var left *file
	err := m.naming(id, func(s *session) ([]fileEntry, func(), error) {
		f, err := s.named(from)
		if err != nil {
			return nil, nil, err
		}
		if err := catalog.CheckFileName(to); err != nil {
			return nil, nil, fmt.Errorf("%w: %v", ErrBadRequest, err)
		}
		old, _ := s.named(to)
		if old == f {
			return nil, nil, nil
		}
		names := f.without(from)
		names = append(names, to)
		slices.Sort(names)
		files := s.with(f, names)
		var rest []string
		if old != nil {
			if err := old.mayGo(to); err != nil {
				return nil, nil, err
			}
			rest = old.without(to)
			i := slices.IndexFunc(files, func(e fileEntry) bool { return e.ID == old.id })
			if files[i].Names = rest; len(rest) == 0 {
				files = slices.Delete(files, i, i+1)
			}
		}
		return files, func() {
			delete(s.names, from)
			s.names[to], f.names = f, names
			if old != nil {
				old.names = rest
				if s.orphan(old) {
					left = old
				}
			}
		}, nil
	})
	if left != nil {
		left.d.s.dispose(left)
	}
	return err
}

// LinkFile gives a file a second name, durable. fs.ErrExist when it is taken.
func (m *Manager) LinkFile(id, from, to string) error {
	return m.naming(id, func(s *session) ([]fileEntry, func(), error) {
		f, err := s.named(from)
		if err != nil {
			return nil, nil, err
		}
		if err := s.free(to); err != nil {
			return nil, nil, err
		}
		names := f.also(to)
		return s.with(f, names), func() { s.names[to], f.names = f, names }, nil
	})
}

// RemoveFile takes a name away, durable. With the last one the file goes, once
// nobody has it open. The error wraps ErrInUse while an added disk has blocks of
// it.
func (m *Manager) RemoveFile(id, name string) error {
	var left *file
	err := m.naming(id, func(s *session) ([]fileEntry, func(), error) {
		f, err := s.named(name)
		if err == nil {
			err = f.mayGo(name)
		}
		if err != nil {
			return nil, nil, err
		}
		names := f.without(name)
		return s.with(f, names), func() {
			delete(s.names, name)
			f.names = names
			if s.orphan(f) {
				left = f
			}
		}, nil
	})
	if left != nil {
		left.d.s.dispose(left)
	}
	return err
}

// heal forgets that a file is older than what was acknowledged, durably.
func (s *session) heal(f *file) error {
	err := s.m.naming(s.file.ID, func(s *session) ([]fileEntry, func(), error) {
		list := slices.Clone(s.file.Files)
		i := slices.IndexFunc(list, func(e fileEntry) bool { return e.ID == f.id })
		if i < 0 { // without a name it is not in session.json
			return nil, nil, nil
		}
		list[i].Cut = ""
		return list, func() {}, nil
	})
	if err == nil {
		f.d.mu.Lock()
		f.d.file.cut = ""
		f.d.mu.Unlock()
	}
	return err
}

// mayGo refuses to take the last name away from a file whose blocks were copied.
func (f *file) mayGo(name string) error {
	if len(f.names) > 1 || mutant.On("volume/copied-file-goes") {
		return nil
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.d.mayChange()
}

// FileNames describes all files of a session under all their names, sorted by
// name.
func (m *Manager) FileNames(session string) ([]FileStatus, error) {
	s, err := m.keeper(session)
	if err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	return s.fileStatus(), nil
}
