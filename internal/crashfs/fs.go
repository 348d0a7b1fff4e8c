package crashfs

import (
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system in memory. Paths are slash-separated and taken from the
// root, whether they start with a slash or not. Safe for concurrent use.
type FS struct {
	mu        sync.RWMutex
	root      *inode
	lastInode uint64
	lastEntry uint64 // counts directory changes
	seq       uint64 // counts mutating operations
	locks     map[string]*lock
	capacity  int64 // bytes; 0 is without limit
	used      int64
	faults    []*Fault
	observers []func(*Instant)
}

var _ vfs.FS = (*FS)(nil)

// New makes an empty file system without a size limit.
func New() *FS {
	fs := &FS{locks: map[string]*lock{}}
	fs.root = newDirInode(fs.nextInode())
	fs.root.links = 1
	return fs
}

// SetCapacity limits the space files take, in bytes; 0 is no limit. Writes
// that do not fit put what does and report ENOSPC.
func (fs *FS) SetCapacity(bytes int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.capacity = bytes
}

func (fs *FS) nextInode() uint64 {
	fs.lastInode++
	return fs.lastInode
}

func (fs *FS) nextEntry() uint64 {
	fs.lastEntry++
	return fs.lastEntry
}

// release frees the space of an inode nobody can reach any more.
func (fs *FS) release(n *inode) {
	if n != nil && n.links == 0 && n.refs == 0 {
		fs.used -= n.allocated
		n.allocated = 0
	}
}

func clean(name string) string { return path.Clean("/" + name) }

// look finds an inode by a clean path; the lock is held.
func (fs *FS) look(name string) (*inode, error) {
	n := fs.root
	for part := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
		if part == "" {
			continue
		}
		if n.dir == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.dir.cur[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// place finds the directory a path names an entry in, and the entry, nil when
// there is none.
func (fs *FS) place(name string) (dir *inode, base string, node *inode, err error) {
	if name == "/" {
		return nil, "", nil, syscall.EINVAL
	}
	base = path.Base(name)
	if dir, err = fs.look(path.Dir(name)); err != nil {
		return nil, "", nil, err
	}
	if dir.dir == nil {
		return nil, "", nil, syscall.ENOTDIR
	}
	return dir, base, dir.dir.cur[base], nil
}

func (fs *FS) change(dir *inode, changes ...entryChange) {
	dir.dir.apply(entryOp{seq: fs.nextEntry(), changes: changes})
}

func (fs *FS) handle(n *inode, name string, writable bool) *file {
	n.refs++
	return &file{fs: fs, node: n, path: name, writable: writable}
}

// mutate runs one counted operation: effect happens unless a fault says no.
func (fs *FS) mutate(op Op, effect func(*Op)) error {
	v := fs.begin(&op)
	if v.passes() {
		effect(&op)
	}
	err := v.err
	if err != nil {
		err = pathError(string(op.Kind), op.Path, err)
	}
	return fs.end(&op, err)
}

// Create makes a new file, in place of any other of that name.
func (fs *FS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.create(clean(name))
}

func (fs *FS) create(name string) (vfs.File, error) {
	dir, base, old, err := fs.place(name)
	if err != nil {
		return nil, pathError("create", name, err)
	}
	if old != nil { // two operations, as vfs.Default does
		if err := fs.remove(name); err != nil {
			return nil, err
		}
	}
	var f *file
	err = fs.mutate(Op{Kind: Create, Path: name}, func(op *Op) {
		n := newFileInode(fs.nextInode())
		op.Inode = n.no
		fs.change(dir, entryChange{name: base, node: n})
		f = fs.handle(n, name, true)
	})
	if err != nil {
		if f != nil {
			f.node.refs--
		}
		return nil, err
	}
	return f, nil
}

// Link gives a file a second name.
func (fs *FS) Link(oldname, newname string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	from, to := clean(oldname), clean(newname)
	n, err := fs.look(from)
	if err != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
	}
	dir, base, taken, err := fs.place(to)
	switch {
	case err != nil:
	case taken != nil:
		err = syscall.EEXIST
	case n.dir != nil:
		err = syscall.EPERM
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
	}
	return fs.mutate(Op{Kind: Link, Path: from, To: to, Inode: n.no}, func(*Op) {
		fs.change(dir, entryChange{name: base, node: n})
	})
}

// Open opens for reading.
func (fs *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.open(clean(name), false, opts)
}

func (fs *FS) open(name string, writable bool, opts []vfs.OpenOption) (vfs.File, error) {
	n, err := fs.look(name)
	if err == nil && writable && n.dir != nil {
		err = syscall.EISDIR
	}
	if err == nil {
		err = fs.judge(&Op{Kind: Open, Path: name, Inode: n.no}).err
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := fs.handle(n, name, writable)
	for _, o := range opts {
		o.Apply(f)
	}
	return f, nil
}

// OpenReadWrite opens without truncating, and creates what is not there.
func (fs *FS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	name = clean(name)
	if n, _ := fs.look(name); n == nil {
		return fs.create(name)
	}
	return fs.open(name, true, opts)
}

// OpenDir opens a directory for syncing.
func (fs *FS) OpenDir(name string) (vfs.File, error) { return fs.Open(name) }

// Remove unlinks a file or removes an empty directory.
func (fs *FS) Remove(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.remove(clean(name))
}

func (fs *FS) remove(name string) error {
	dir, base, n, err := fs.place(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case n.dir != nil && len(n.dir.cur) > 0:
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return pathError("remove", name, err)
	}
	return fs.mutate(Op{Kind: Remove, Path: name, Inode: n.no}, func(*Op) {
		fs.change(dir, entryChange{name: base})
		fs.release(n)
	})
}

// RemoveAll removes a tree, one operation per entry; nothing there is no error.
func (fs *FS) RemoveAll(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.removeAll(clean(name))
}

func (fs *FS) removeAll(name string) error {
	n, err := fs.look(name)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return pathError("removeall", name, err)
	}
	if n.dir != nil {
		for _, child := range n.dir.names() {
			if err := fs.removeAll(path.Join(name, child)); err != nil {
				return err
			}
		}
	}
	return fs.remove(name)
}

// Rename moves a file or directory, over what has the new name.
func (fs *FS) Rename(oldname, newname string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.rename(clean(oldname), clean(newname))
}

func (fs *FS) rename(from, to string) error {
	oldDir, oldBase, n, err := fs.place(from)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	newDir, newBase, over, err := fs.place(to)
	if err == nil {
		err = renameable(n, over, from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return fs.mutate(Op{Kind: Rename, Path: from, To: to, Inode: n.no}, func(*Op) {
		if over != n { // two names of one file: POSIX leaves both
			fs.move(n, oldDir, oldBase, newDir, newBase)
			fs.release(over)
		}
	})
}

// renameable refuses every directory as a target, as os.Rename does.
func renameable(n, over *inode, from, to string) error {
	switch {
	case n == nil:
		return syscall.ENOENT
	case over != nil && over.dir != nil:
		return syscall.EEXIST
	case strings.HasPrefix(to, from+"/"):
		return syscall.EINVAL
	case over != nil && over != n && n.dir != nil:
		return syscall.ENOTDIR
	}
	return nil
}

// move is one change inside a directory and two across directories, the
// adding one first.
func (fs *FS) move(n, oldDir *inode, oldBase string, newDir *inode, newBase string) {
	if oldDir == newDir {
		fs.change(oldDir, entryChange{name: newBase, node: n}, entryChange{name: oldBase})
		return
	}
	added := fs.nextEntry()
	newDir.dir.apply(entryOp{seq: added, changes: []entryChange{{name: newBase, node: n}}})
	oldDir.dir.apply(entryOp{seq: fs.nextEntry(), pair: added, changes: []entryChange{{name: oldBase}}})
}

// ReuseForWrite renames and opens without truncating.
func (fs *FS) ReuseForWrite(oldname, newname string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.rename(clean(oldname), clean(newname)); err != nil {
		return nil, err
	}
	return fs.open(clean(newname), true, nil)
}

// MkdirAll makes a directory and its parents, one operation each.
func (fs *FS) MkdirAll(name string, _ os.FileMode) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.mkdirAll(clean(name))
}

func (fs *FS) mkdirAll(name string) error {
	n, err := fs.look(name)
	switch {
	case err == nil && n.dir != nil:
		return nil
	case err == nil:
		return pathError("mkdir", name, syscall.ENOTDIR)
	}
	if err := fs.mkdirAll(path.Dir(name)); err != nil {
		return err
	}
	dir, base, _, err := fs.place(name)
	if err != nil {
		return pathError("mkdir", name, err)
	}
	return fs.mutate(Op{Kind: Mkdir, Path: name}, func(op *Op) {
		n := newDirInode(fs.nextInode())
		op.Inode = n.no
		fs.change(dir, entryChange{name: base, node: n})
	})
}

// Lock takes an exclusive lock on a file, which it makes empty. Clones start
// with no lock held.
func (fs *FS) Lock(name string) (io.Closer, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	name = clean(name)
	if fs.locks[name] != nil {
		return nil, pathError("lock", name, syscall.EAGAIN)
	}
	if n, _ := fs.look(name); n != nil && n.dir == nil {
		fs.used -= n.allocated
		n.allocated = 0
		n.truncate()
	} else {
		f, err := fs.create(name)
		if err != nil {
			return nil, err
		}
		f.(*file).node.refs--
	}
	l := &lock{fs: fs, path: name}
	fs.locks[name] = l
	return l, nil
}

// List names a directory's entries in no useful order.
func (fs *FS) List(name string) ([]string, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n, err := fs.look(clean(name))
	if err == nil && n.dir == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("list", clean(name), err)
	}
	return n.dir.names(), nil
}

// Stat describes a file or directory.
func (fs *FS) Stat(name string) (vfs.FileInfo, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n, err := fs.look(clean(name))
	if err != nil {
		return nil, pathError("stat", clean(name), err)
	}
	return n.info(clean(name)), nil
}

func (n *inode) info(name string) vfs.FileInfo {
	i := info{name: path.Base(name), mtime: n.mtime, dir: n.dir != nil}
	if n.dir == nil {
		i.size = n.cur.size
	}
	return i
}

// unlimited is the size reported when there is no limit: 1 TiB.
const unlimited = 1 << 40

// GetDiskUsage reports the capacity and what files take of it.
func (fs *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	total := fs.capacity
	if total == 0 {
		total = unlimited
	}
	return vfs.DiskUsage{
		TotalBytes: uint64(total),
		UsedBytes:  uint64(fs.used),
		AvailBytes: uint64(max(total-fs.used, 0)),
	}, nil
}

// PathBase is path.Base.
func (*FS) PathBase(p string) string { return path.Base(p) }

// PathJoin is path.Join.
func (*FS) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir is path.Dir.
func (*FS) PathDir(p string) string { return path.Dir(p) }

// Unwrap is nil: there is nothing below.
func (*FS) Unwrap() vfs.FS { return nil }
