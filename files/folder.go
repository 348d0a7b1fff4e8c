package files

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

// folder is the tree of one session's files. The volume keeps the names; folders
// are what the names imply, and empty ones are remembered here alone.
type folder struct {
	s     *Service
	vm    string
	user  string // "" for a job's
	acct  *account
	start func() (string, error) // opens the session when the first file comes; nil: it is open

	verb   sync.Mutex            // one commit at a time
	frozen atomic.Pointer[error] // why nothing may change: a commit
	ended  atomic.Pointer[error] // why the session is over

	closed chan struct{} // has something when a writer has gone

	mu      sync.Mutex
	session string // "" until the first file
	names   map[string]*node
	dirs    map[string]time.Time // folders that were made, and those whose last file went
	all     map[*node]struct{}   // with a name, a handle, or both
	made    time.Time
}

func newFolder(s *Service, vm, user string, acct *account) *folder {
	return &folder{s: s, vm: vm, user: user, acct: acct, names: map[string]*node{}, dirs: map[string]time.Time{},
		all: map[*node]struct{}{}, made: s.now(), closed: make(chan struct{}, 1)}
}

// load takes over the files a session has.
func (f *folder) load(session string) error {
	list, err := f.s.o.Volumes.FileNames(session)
	if err != nil {
		return err
	}
	f.session = session
	byID := map[uint64]*node{}
	for _, st := range list {
		n := byID[st.ID]
		if n == nil {
			if n, err = f.openNode(&st); err != nil {
				return errors.Join(err, f.closeAll())
			}
			byID[st.ID] = n
		}
		n.links.Add(1)
		f.names[st.Name] = n
	}
	return nil
}

// openNode opens a file the session has had before.
func (f *folder) openNode(st *volume.FileStatus) (*node, error) {
	if st.Lost != "" {
		err := fmt.Errorf("file %s of VM %s, session %s, is lost: %s; remove it and send it again", st.Name, f.vm, f.session, st.Lost)
		n := f.adopt(lost{err}, st)
		n.err = err
		return n, nil
	}
	x, err := f.s.o.Volumes.OpenFile(f.session, st.Name)
	if err != nil {
		return nil, err
	}
	n := f.adopt(x, st)
	if n.w.told, n.w.gone = st.Unfinished != "", st.Resumable; !st.Resumable {
		n.w.broken = st.Unfinished
	}
	return n, nil
}

// adopt makes the node of an open file.
func (f *folder) adopt(c content, st *volume.FileStatus) *node {
	n := newNode(f, c, st)
	f.all[n] = struct{}{}
	return n
}

// halted is why nothing may change.
func (f *folder) halted() error {
	if why := f.frozen.Load(); why != nil && f.ended.Load() == nil {
		return *why
	}
	return f.over()
}

// over is why the session has ended; nil while it goes on.
func (f *folder) over() error {
	if why := f.ended.Load(); why != nil {
		return *why
	}
	return nil
}

// isDir reports whether name is a folder. The caller holds mu.
func (f *folder) isDir(name string) bool {
	if _, ok := f.dirs[name]; ok || name == "" {
		return true
	}
	return f.hasChild(name)
}

func (f *folder) hasChild(dir string) bool {
	for n := range f.names {
		if within(n, dir) {
			return true
		}
	}
	for n := range f.dirs {
		if within(n, dir) {
			return true
		}
	}
	return false
}

// place tells whether a new name may be made where it is. The caller holds mu.
func (f *folder) place(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for dir := parent(name); dir != ""; dir = parent(dir) {
		if f.names[dir] != nil {
			return fmt.Errorf("%s: %w", dir, syscall.ENOTDIR)
		}
	}
	if dir := parent(name); !f.isDir(dir) {
		return fmt.Errorf("folder %s: %w", dir, fs.ErrNotExist)
	}
	return nil
}

// change takes the lock for something that changes names.
func (f *folder) change() error {
	f.mu.Lock()
	if err := f.halted(); err != nil {
		f.mu.Unlock()
		return err
	}
	return nil
}

// look takes the lock for something that does not.
func (f *folder) look() error {
	f.mu.Lock()
	if err := f.over(); err != nil {
		f.mu.Unlock()
		return err
	}
	return nil
}

func notExist(name string) error { return fmt.Errorf("%s: %w", name, fs.ErrNotExist) }

// begun makes sure that there is a session. The caller holds mu.
func (f *folder) begun() error {
	if f.session != "" {
		return nil
	}
	session, err := f.start()
	if err != nil {
		return err
	}
	f.session = session
	f.s.enlist(f)
	return nil
}

// create makes a file. The caller holds mu.
func (f *folder) create(name string, mode fs.FileMode) (*node, error) {
	if err := f.place(name); err != nil {
		return nil, err
	}
	if f.isDir(name) {
		return nil, fmt.Errorf("%s: %w", name, syscall.EISDIR)
	}
	if len(f.names) >= maxFiles {
		return nil, fmt.Errorf("%w: a backup has at most %d files", syscall.ENOSPC, maxFiles)
	}
	if err := f.begun(); err != nil {
		return nil, err
	}
	if mode.Perm() == 0 {
		mode = 0o600
	}
	x, err := f.s.o.Volumes.CreateFile(f.session, name, uint32(mode.Perm()))
	if err != nil {
		return nil, err
	}
	st := x.Status()
	n := f.adopt(x, &st)
	n.links.Store(1)
	f.names[name] = n
	return n, nil
}

// hold counts conn among those that have a file open. The caller holds mu.
func (f *folder) hold(n *node, name, conn string, write bool) error {
	if write {
		if err := n.writableBy(name, conn); err != nil {
			return err
		}
		n.writer = conn
		n.writers++
	}
	n.handles++
	return nil
}

// release is the end of a handle: it returns what became of its writes. closed
// says that the client has closed it.
func (f *folder) release(n *node, write, closed bool) error {
	err := n.settled()
	if !write {
		err = nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n.handles--
	if write {
		if n.writers--; n.writers == 0 {
			n.writer = ""
		}
		err = errors.Join(err, n.left(closed, n.writers == 0))
		select {
		case f.closed <- struct{}{}:
		default:
		}
	}
	return errors.Join(err, f.dropUnused(n))
}

// dropUnused frees a file that neither a name nor a handle leads to. The caller holds mu.
func (f *folder) dropUnused(n *node) error {
	if n.links.Load() > 0 || n.handles > 0 {
		return nil
	}
	delete(f.all, n)
	return n.drop()
}

// unlink takes a name away from the tree. The caller holds mu and has told the volume.
func (f *folder) unlink(name string) error {
	n := f.names[name]
	delete(f.names, name)
	n.links.Add(-1)
	f.keepDirs(name)
	return f.dropUnused(n)
}

// keepDirs lets the folders of a name that goes stay, empty as they may be.
func (f *folder) keepDirs(name string) {
	for dir := parent(name); dir != ""; dir = parent(dir) {
		if _, ok := f.dirs[dir]; !ok && len(f.dirs) < maxDirs {
			f.dirs[dir] = f.s.now()
		}
	}
}

func (f *folder) remove(name, conn string) error {
	if err := f.change(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	n := f.names[name]
	switch {
	case n == nil && f.isDir(name):
		return fmt.Errorf("%s: %w", name, syscall.EISDIR)
	case n == nil:
		return notExist(name)
	}
	if err := n.writableBy(name, conn); err != nil {
		return err
	}
	if err := f.s.o.Volumes.RemoveFile(f.session, name); err != nil {
		return err
	}
	return f.unlink(name)
}

func (f *folder) link(from, to string) error {
	if err := f.change(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	n := f.names[from]
	if n == nil {
		return notExist(from)
	}
	if err := f.place(to); err != nil {
		return err
	}
	if f.names[to] != nil || f.isDir(to) {
		return fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	if len(f.names) >= maxFiles {
		return fmt.Errorf("%w: a backup has at most %d files", syscall.ENOSPC, maxFiles)
	}
	if err := f.s.o.Volumes.LinkFile(f.session, from, to); err != nil {
		return err
	}
	f.names[to] = n
	n.links.Add(1)
	return nil
}

func (f *folder) mkdir(name string) error {
	if err := f.change(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	if f.names[name] != nil || f.isDir(name) {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	if err := f.place(name); err != nil {
		return err
	}
	if len(f.dirs) >= maxDirs {
		return fmt.Errorf("%w: %d folders are enough", syscall.ENOSPC, maxDirs)
	}
	f.dirs[name] = f.s.now()
	return nil
}

func (f *folder) rmdir(name string) error {
	if err := f.change(); err != nil {
		return err
	}
	defer f.mu.Unlock()
	switch {
	case name == "":
		return fmt.Errorf("%w: this folder is where you are bound to", fs.ErrPermission)
	case f.names[name] != nil:
		return fmt.Errorf("%s: %w", name, syscall.ENOTDIR)
	case !f.isDir(name):
		return notExist(name)
	case f.hasChild(name):
		return fmt.Errorf("%s: %w", name, syscall.ENOTEMPTY)
	}
	delete(f.dirs, name)
	return nil
}

// names below a folder, sorted. The caller holds mu.
func (f *folder) below(dir string) []string {
	var list []string
	for n := range f.names {
		if within(n, dir) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// attr of a folder.
func (f *folder) dirTime(name string) time.Time {
	if t, ok := f.dirs[name]; ok {
		return t
	}
	return f.made
}

// children lists what is directly in a folder: names, and whether each is a file.
func (f *folder) children(dir string) map[string]bool {
	list := map[string]bool{}
	add := func(name string, file bool) {
		if !within(name, dir) {
			return
		}
		rest := name
		if dir != "" {
			rest = name[len(dir)+1:]
		}
		first, _, deeper := strings.Cut(rest, "/")
		list[first] = file && !deeper
	}
	for n := range f.names {
		add(n, true)
	}
	for n := range f.dirs {
		add(n, false)
	}
	return list
}

// closeAll gives all files back.
func (f *folder) closeAll() error {
	var errs []error
	for n := range f.all {
		errs = append(errs, n.drop())
	}
	return errors.Join(errs...)
}

// end makes the session's end known: every handle fails with why from now on.
// It does not wait: the volume calls it while operations wait for the volume.
func (f *folder) end(why error) {
	if !f.ended.CompareAndSwap(nil, &why) {
		return
	}
	f.s.cleaning.Go(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.names, f.dirs = map[string]*node{}, map[string]time.Time{}
		for n := range f.all {
			n.links.Store(0)
			_ = f.dropUnused(n) // of files that go
		}
	})
}
