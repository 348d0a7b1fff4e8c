package sftptest

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/sftp"
)

type tree struct{ fs *FS }

func (t *tree) Stat(name string) (sftp.Attr, error) {
	if err := t.fs.check("Stat", name); err != nil {
		return sftp.Attr{}, err
	}
	t.fs.mu.RLock()
	defer t.fs.mu.RUnlock()
	n, err := t.fs.find(name)
	if err != nil {
		return sftp.Attr{}, err
	}
	return n.attr(), nil
}

func (t *tree) Open(name string, flags sftp.OpenFlags, mode fs.FileMode) (sftp.File, error) {
	if err := t.fs.check("Open", name); err != nil {
		return nil, err
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	dir, base, err := t.fs.parent(name)
	if err != nil {
		return nil, err
	}
	n := dir.children[base]
	switch {
	case base == "" || n != nil && n.children != nil:
		return nil, fmt.Errorf("%w: %s", syscall.EISDIR, name)
	case n != nil && flags.Exclusive:
		return nil, fmt.Errorf("%w: %s", fs.ErrExist, name)
	case n == nil && !flags.Create:
		return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, name)
	case n == nil:
		n = t.fs.newNode(mode.Perm())
		dir.children[base] = n
		dir.modified = time.Now()
	case flags.Truncate:
		n.truncate(0)
		n.modified = time.Now()
	}
	t.fs.Handles.Add(1)
	return &file{fs: t.fs, n: n, name: name, flags: flags}, nil
}

func (t *tree) ReadDir(name, after string, n int) ([]sftp.Entry, error) {
	if err := t.fs.check("ReadDir", name); err != nil {
		return nil, err
	}
	t.fs.mu.RLock()
	defer t.fs.mu.RUnlock()
	dir, err := t.fs.find(name)
	if err == nil && dir.children == nil {
		err = fmt.Errorf("%w: %s", syscall.ENOTDIR, name)
	}
	if err != nil {
		return nil, err
	}
	var list []sftp.Entry
	for child, c := range dir.children {
		if child > after {
			list = append(list, sftp.Entry{Name: child, Attr: c.attr()})
		}
	}
	slices.SortFunc(list, func(a, b sftp.Entry) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(n, len(list))], nil
}

func (t *tree) Mkdir(name string, mode fs.FileMode) error {
	if err := t.fs.check("Mkdir", name); err != nil {
		return err
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	dir, base, err := t.fs.parent(name)
	if err != nil {
		return err
	}
	if dir.children[base] != nil {
		return fmt.Errorf("%w: %s", fs.ErrExist, name)
	}
	dir.children[base] = t.fs.newNode(fs.ModeDir | mode.Perm())
	dir.modified = time.Now()
	return nil
}

func (t *tree) Remove(name string) error { return t.unlink("Remove", name, false) }

func (t *tree) Rmdir(name string) error { return t.unlink("Rmdir", name, true) }

func (t *tree) unlink(op, name string, folder bool) error {
	if err := t.fs.check(op, name); err != nil {
		return err
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	dir, base, err := t.fs.parent(name)
	if err != nil {
		return err
	}
	n := dir.children[base]
	switch {
	case n == nil:
		return fmt.Errorf("%w: %s", fs.ErrNotExist, name)
	case folder && n.children == nil:
		return fmt.Errorf("%w: %s", syscall.ENOTDIR, name)
	case !folder && n.children != nil:
		return fmt.Errorf("%w: %s", syscall.EISDIR, name)
	case len(n.children) > 0:
		return fmt.Errorf("%w: %s", syscall.ENOTEMPTY, name)
	}
	delete(dir.children, base)
	n.links--
	dir.modified = time.Now()
	return nil
}

func (t *tree) Rename(from, to string, replace bool) error {
	if err := t.fs.check("Rename", from); err != nil {
		return err
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	source, base, err := t.fs.parent(from)
	if err != nil {
		return err
	}
	n := source.children[base]
	if n == nil {
		return fmt.Errorf("%w: %s", fs.ErrNotExist, from)
	}
	target, newBase, err := t.fs.parent(to)
	if err != nil {
		return err
	}
	old := target.children[newBase]
	switch {
	case old == n:
		return nil
	case strings.HasPrefix(to, from+"/"):
		return fmt.Errorf("%w: %s is inside of %s", fs.ErrInvalid, to, from)
	case old != nil && !replace:
		return fmt.Errorf("%w: %s", fs.ErrExist, to)
	case old != nil && old.children != nil && n.children == nil:
		return fmt.Errorf("%w: %s", syscall.EISDIR, to)
	case old != nil && old.children == nil && n.children != nil:
		return fmt.Errorf("%w: %s", syscall.ENOTDIR, to)
	case old != nil && len(old.children) > 0:
		return fmt.Errorf("%w: %s", syscall.ENOTEMPTY, to)
	}
	if old != nil {
		old.links--
	}
	delete(source.children, base)
	target.children[newBase] = n
	return nil
}

func (t *tree) Link(from, to string) error {
	if err := t.fs.check("Link", from); err != nil {
		return err
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	n, err := t.fs.find(from)
	if err != nil {
		return err
	}
	dir, base, err := t.fs.parent(to)
	switch {
	case err != nil:
		return err
	case n.children != nil:
		return fmt.Errorf("%w: %s is a folder", fs.ErrPermission, from)
	case dir.children[base] != nil:
		return fmt.Errorf("%w: %s", fs.ErrExist, to)
	}
	dir.children[base] = n
	n.links++
	return nil
}

func (t *tree) SetAttr(name string, c sftp.Changes) error {
	if err := t.fs.check("SetAttr", name); err != nil {
		return err
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	n, err := t.fs.find(name)
	if err != nil {
		return err
	}
	return n.change(c)
}

// change applies attributes. Caller holds mu.
func (n *node) change(c sftp.Changes) error {
	if c.Size != nil {
		if n.children != nil {
			return syscall.EISDIR
		}
		n.truncate(*c.Size)
		n.modified = time.Now()
	}
	if c.Mode != nil {
		n.mode = n.mode&fs.ModeDir | c.Mode.Perm()
	}
	if c.ModTime != nil {
		n.modified = *c.ModTime
	}
	return nil
}

func (t *tree) StatFS(name string) (sftp.FSInfo, error) {
	if err := t.fs.check("StatFS", name); err != nil {
		return sftp.FSInfo{}, err
	}
	return sftp.FSInfo{BlockSize: 4096, Total: t.fs.Total, Free: t.fs.Free, Avail: t.fs.Free, Files: 1000, FilesFree: 900, NameMax: 255}, nil
}

func (t *tree) Close() error {
	t.fs.Trees.Add(-1)
	return t.fs.check("Close", "/")
}

type file struct {
	fs     *FS
	n      *node
	name   string
	flags  sftp.OpenFlags
	closed bool
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check("ReadAt", f.name); err != nil {
		return 0, err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	n := f.n.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.check("WriteAt", f.name); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.Quota > 0 && f.fs.pages*pageSize > f.fs.Quota {
		return 0, syscall.EDQUOT
	}
	if f.flags.Append {
		off = f.n.size
	}
	f.fs.pages += f.n.writeAt(p, off)
	f.n.modified = time.Now()
	return len(p), nil
}

func (f *file) Stat() (sftp.Attr, error) {
	if err := f.fs.check("FileStat", f.name); err != nil {
		return sftp.Attr{}, err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.n.attr(), nil
}

func (f *file) SetAttr(c sftp.Changes) error {
	if err := f.fs.check("FileSetAttr", f.name); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.n.change(c)
}

func (f *file) Sync() error { return f.fs.check("Sync", f.name) }

func (f *file) Close() error {
	if f.closed {
		panic("sftptest: a File was closed twice")
	}
	f.closed = true
	f.fs.Handles.Add(-1)
	return f.fs.check("FileClose", f.name)
}

// Abandon is Close: nobody asks whether a file is whole.
func (f *file) Abandon() error { return f.Close() }
