package files

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/sftp"
)

// restoreName is the folder of the points, beside the files.
const restoreName = "restore"

// tree is what one login sees on one connection: files of sessions, and
// /restore.
type tree struct {
	s        *Service
	conn     string
	vm       string   // whose folder / is; "": / has a folder for each VM
	vms      matcher  // whose there are, if several
	restore  *restore // nil: there is no /restore
	readOnly bool
	// folder returns the files of a VM; make: something will be made in it.
	folder func(vm string, make bool) (*folder, error)
	// complete is called when the rename of X.part to X said that a disk's image
	// is; nil: that means nothing.
	complete func(f *folder, from, to string) error
}

// place is where a name leads.
type place struct {
	root    bool    // the folder of VMs
	restore bool    // name is below /restore
	folder  *folder // name is below this one's top
	name    string  // relative, "" is the top
}

// find takes a name apart. The name need not exist.
func (t *tree) find(name string, make bool) (place, error) {
	first, rest := split(name)
	if t.restore != nil && first == restoreName {
		return place{restore: true, name: rest}, nil
	}
	if t.vm != "" {
		f, err := t.folder(t.vm, make)
		if first != "" && rest != "" {
			first += "/" + rest
		}
		return place{folder: f, name: first}, err
	}
	if first == "" {
		return place{root: true}, nil
	}
	if first == restoreName || !t.vms.match(first) {
		return place{}, notExist(name)
	}
	f, err := t.folder(first, make)
	return place{folder: f, name: rest}, err
}

// writable finds a name that is to be changed.
func (t *tree) writable(name string, make bool) (place, error) {
	p, err := t.find(name, make && !t.readOnly)
	switch {
	case err != nil:
		return p, err
	case p.restore:
		return p, fmt.Errorf("%w: below /%s nothing changes", syscall.EROFS, restoreName)
	case t.readOnly:
		return p, fmt.Errorf("%w: this login only reads", syscall.EROFS)
	case p.root:
		return p, fmt.Errorf("%w: /", fs.ErrPermission)
	case t.vm != "" && t.restore == nil && (p.name == restoreName || within(p.name, restoreName)):
		return p, fmt.Errorf("%w: the name /%s is reserved", fs.ErrPermission, restoreName)
	}
	return p, nil
}

func dirAttr(mod time.Time, mode fs.FileMode) sftp.Attr {
	return sftp.Attr{Mode: fs.ModeDir | mode, ModTime: mod, AccessTime: mod, Links: 2}
}

func (t *tree) dirMode() fs.FileMode {
	if t.readOnly {
		return 0o500
	}
	return 0o700
}

func (t *tree) Stat(name string) (sftp.Attr, error) {
	p, err := t.find(name, false)
	switch {
	case err != nil:
		return sftp.Attr{}, err
	case p.restore:
		return t.restore.stat(p.name)
	case p.root:
		return dirAttr(t.s.now(), 0o500), nil
	}
	f := p.folder
	if err := f.look(); err != nil {
		return sftp.Attr{}, err
	}
	n, dir := f.names[p.name], f.isDir(p.name)
	mod := f.dirTime(p.name)
	f.mu.Unlock()
	switch {
	case n != nil:
		return n.attr(), nil
	case dir && (p.name != "" || t.vm != "" || t.exists(f)):
		return dirAttr(mod, t.dirMode()), nil
	}
	return sftp.Attr{}, notExist(name)
}

func (t *tree) Open(name string, flags sftp.OpenFlags, mode fs.FileMode) (sftp.File, error) {
	changes := flags.Write || flags.Append || flags.Create || flags.Truncate
	var p place
	var err error
	if changes {
		p, err = t.writable(name, flags.Create)
	} else {
		p, err = t.find(name, false)
	}
	switch {
	case err != nil:
		return nil, err
	case p.restore:
		return t.restore.open(p.name)
	case p.root:
		return nil, fmt.Errorf("/: %w", syscall.EISDIR)
	}
	flags.Write = flags.Write || flags.Append
	return p.folder.open(p.name, flags, mode, t.conn, t.readOnly)
}

func (t *tree) ReadDir(name, after string, n int) ([]sftp.Entry, error) {
	p, err := t.find(name, false)
	switch {
	case err != nil:
		return nil, err
	case n <= 0:
		return nil, nil
	case p.restore:
		return t.restore.list(p.name, after, n)
	case p.root:
		return t.listRoot(after, n)
	}
	return t.listFolder(p, after, n)
}

func (t *tree) listFolder(p place, after string, n int) ([]sftp.Entry, error) {
	f := p.folder
	if err := f.look(); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	switch {
	case f.names[p.name] != nil:
		return nil, fmt.Errorf("%s: %w", p.name, syscall.ENOTDIR)
	case !f.isDir(p.name):
		return nil, notExist(p.name)
	}
	children := f.children(p.name)
	if t.vm != "" && p.name == "" && t.restore != nil {
		children[restoreName] = false
	}
	var list []sftp.Entry
	for _, child := range page(slices.Collect(maps.Keys(children)), after, n) {
		full := child
		if p.name != "" {
			full = p.name + "/" + child
		}
		e := sftp.Entry{Name: child, Attr: dirAttr(f.dirTime(full), t.dirMode())}
		if x := f.names[full]; x != nil {
			e.Attr = x.glance()
		} else if child == restoreName && p.name == "" {
			e.Attr = dirAttr(f.made, 0o500)
		}
		list = append(list, e)
	}
	return list, nil
}

// page sorts names and takes the first n behind after.
func page(names []string, after string, n int) []string {
	names = slices.DeleteFunc(names, func(s string) bool { return s <= after })
	slices.Sort(names)
	return names[:min(n, len(names))]
}

// listRoot lists the VMs that are there: bound by name, with points, or with files.
func (t *tree) listRoot(after string, n int) ([]sftp.Entry, error) {
	names, err := t.vms.list(t.s.o.Catalog)
	if err != nil {
		return nil, err
	}
	mode := t.dirMode()
	if t.restore != nil {
		names[restoreName] = true
	}
	for _, vm := range t.s.foldersOf(t.vms.user) {
		if t.vms.match(vm) {
			names[vm] = true
		}
	}
	var list []sftp.Entry
	for _, vm := range page(slices.Collect(maps.Keys(names)), after, n) {
		e := sftp.Entry{Name: vm, Attr: dirAttr(t.s.now(), mode)}
		if vm == restoreName {
			e.Attr.Mode = fs.ModeDir | 0o500
		}
		list = append(list, e)
	}
	return list, nil
}

// exists tells whether a VM's folder is listed.
func (t *tree) exists(f *folder) bool {
	return t.vms.named(f.vm) || t.s.hasFolder(t.vms.user, f.vm) || t.s.hasPoints(f.vm)
}

func (t *tree) Mkdir(name string, _ fs.FileMode) error {
	p, err := t.writable(name, false)
	if err != nil {
		return err
	}
	fresh := p.name == "" && t.vm == "" && !t.exists(p.folder) // a VM without points yet
	if p, err = t.writable(name, true); err != nil || fresh {
		return err
	}
	return p.folder.mkdir(p.name)
}

func (t *tree) Remove(name string) error {
	p, err := t.writable(name, false)
	if err != nil {
		return err
	}
	return p.folder.remove(p.name, t.conn)
}

func (t *tree) Rmdir(name string) error {
	p, err := t.writable(name, false)
	if err != nil {
		return err
	}
	return p.folder.rmdir(p.name)
}

func (t *tree) Rename(from, to string, replace bool) error {
	p, q, err := t.pair(from, to)
	if err != nil {
		return err
	}
	if t.complete == nil || !completes(p.name, q.name) {
		return p.folder.rename(p.name, q.name, t.conn, replace)
	}
	if err := p.folder.rename(p.name, q.name, t.conn, false); err != nil { // so that it can be undone
		return err
	}
	return t.complete(p.folder, p.name, q.name)
}

// completes reports whether a rename says that a disk's image is complete.
func completes(from, to string) bool {
	_, _, ok := imageName(to)
	return ok && from == to+partSuffix
}

func (t *tree) Link(from, to string) error {
	p, q, err := t.pair(from, to)
	if err != nil {
		return err
	}
	return p.folder.link(p.name, q.name)
}

// pair finds two names that are to be in one folder.
func (t *tree) pair(from, to string) (p, q place, err error) {
	if p, err = t.writable(from, false); err != nil {
		return p, q, err
	}
	if q, err = t.writable(to, false); err != nil {
		return p, q, err
	}
	if p.folder.vm != q.folder.vm {
		return p, q, fmt.Errorf("%w: %s and %s are of different VMs", syscall.EXDEV, from, to)
	}
	return p, q, nil
}

func (t *tree) SetAttr(name string, c sftp.Changes) error {
	p, err := t.writable(name, false)
	if err != nil {
		return err
	}
	f := p.folder
	if err := f.change(); err != nil {
		return err
	}
	n, dir := f.names[p.name], f.isDir(p.name)
	if n == nil {
		f.mu.Unlock()
		switch {
		case !dir:
			return notExist(name)
		case c.Size != nil:
			return fmt.Errorf("%s: %w", name, syscall.EISDIR)
		}
		return nil // times and modes of folders are not kept
	}
	err = n.writableBy(name, t.conn)
	n.handles++ // so that it stays until it is changed
	f.mu.Unlock()
	if err == nil {
		err = n.change(c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n.handles--
	if e := f.dropUnused(n); err == nil {
		err = e
	}
	return err
}

func (t *tree) StatFS(name string) (sftp.FSInfo, error) {
	p, err := t.find(name, false)
	if err != nil {
		return sftp.FSInfo{}, err
	}
	return t.s.space(p, t.readOnly)
}

// Close has nothing to give back: the connection's files were closed before.
func (t *tree) Close() error { return nil }
