package files

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// rename gives a file or folder another name. What had that name, a file or an
// empty folder, goes if replace says so; else it is in the way.
func (f *folder) rename(from, to, conn string, replace bool) error {
	if err := f.change(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	n := f.names[from]
	if n == nil && (from == "" || !f.isDir(from)) {
		return notExist(from)
	}
	if err := f.place(to); err != nil {
		return err
	}
	if !replace && (f.names[to] != nil || f.isDir(to)) {
		return fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	if n == nil {
		return f.renameDir(from, to, conn)
	}
	return f.renameFile(n, from, to, conn)
}

func (f *folder) renameFile(n *node, from, to, conn string) error {
	over := f.names[to]
	switch {
	case over == nil && f.isDir(to):
		return fmt.Errorf("%s: %w", to, syscall.EISDIR)
	case over == n: // two names of one file: both stay, as POSIX has it
		return nil
	}
	if err := n.writableBy(from, conn); err != nil {
		return err
	}
	if over != nil {
		if err := over.writableBy(to, conn); err != nil {
			return err
		}
	}
	if err := f.s.o.Volumes.RenameFile(f.session, from, to); err != nil {
		return err
	}
	delete(f.names, from)
	f.keepDirs(from)
	f.names[to] = n
	if over != nil {
		over.links.Add(-1)
		return f.dropUnused(over)
	}
	return nil
}

// renameDir renames everything below a folder, name by name; when one fails,
// those before get their names back. A crash in the middle leaves some of them
// in one folder and some in the other.
func (f *folder) renameDir(from, to, conn string) error {
	switch {
	case from == to:
		return nil
	case within(to, from):
		return fmt.Errorf("%w: %s is below %s", fs.ErrInvalid, to, from)
	case f.names[to] != nil:
		return fmt.Errorf("%s: %w", to, syscall.ENOTDIR)
	case f.isDir(to) && f.hasChild(to):
		return fmt.Errorf("%s: %w", to, syscall.ENOTEMPTY)
	}
	files, dirs := f.below(from), f.dirsBelow(from)
	moved := func(name string) string { return to + name[len(from):] }
	for _, name := range append(files, dirs...) {
		if err := checkName(moved(name)); err != nil {
			return err
		}
	}
	for _, name := range files {
		if err := f.names[name].writableBy(name, conn); err != nil {
			return err
		}
	}
	for i, name := range files {
		if err := f.s.o.Volumes.RenameFile(f.session, name, moved(name)); err != nil {
			errs := []error{err}
			for _, back := range files[:i] {
				errs = append(errs, f.s.o.Volumes.RenameFile(f.session, moved(back), back))
			}
			return errors.Join(errs...)
		}
	}
	for _, name := range files {
		f.names[moved(name)] = f.names[name]
		delete(f.names, name)
	}
	made := f.dirTime(from)
	for _, name := range dirs {
		f.dirs[moved(name)] = f.dirs[name]
		delete(f.dirs, name)
	}
	f.keepDirs(from)
	delete(f.dirs, from)
	f.dirs[to] = made
	return nil
}

func (f *folder) dirsBelow(dir string) (list []string) {
	for n := range f.dirs {
		if within(n, dir) {
			list = append(list, n)
		}
	}
	return list
}
