// Package sftptest has what tests of sftp and of its users need: a tree in
// memory, a server on loopback with its clients, and a conformance suite that
// any Tree must pass.
package sftptest

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/sftp"
)

// FS is a file system in memory. Tree gives views that share it. As on Linux,
// a removed file lives on in those who have it open.
type FS struct {
	// Trees and Handles count what is open now.
	Trees, Handles atomic.Int64
	// Total and Free are told by StatFS, in bytes. Writes beyond Quota, when it
	// is not 0, fail with EDQUOT.
	Total, Free uint64
	Quota       int64

	before atomic.Pointer[func(op, name string) error]

	mu     sync.RWMutex // guards all nodes
	root   *node
	nextID uint64
	pages  int64
}

type node struct {
	id       uint64
	mode     fs.FileMode
	links    uint32
	modified time.Time
	children map[string]*node // of a folder
	content                   // of a file
}

// New makes an empty file system.
func New() *FS {
	f := &FS{Total: 1 << 40, Free: 1 << 39}
	f.root = f.newNode(fs.ModeDir | 0o755)
	return f
}

// Intercept makes f be called before every operation, named like the method,
// with the name of the file. It may block, and its error fails the operation.
func (f *FS) Intercept(hook func(op, name string) error) { f.before.Store(&hook) }

func (f *FS) check(op, name string) error {
	if hook := f.before.Load(); hook != nil && *hook != nil {
		return (*hook)(op, name)
	}
	return nil
}

// Tree is a new view.
func (f *FS) Tree() sftp.Tree {
	f.Trees.Add(1)
	return &tree{fs: f}
}

func (f *FS) newNode(mode fs.FileMode) *node {
	f.nextID++
	n := &node{id: f.nextID, mode: mode, links: 1, modified: time.Now()}
	if mode.IsDir() {
		n.children = map[string]*node{}
	}
	return n
}

func (n *node) attr() sftp.Attr {
	return sftp.Attr{Mode: n.mode, Size: n.size, ModTime: n.modified, AccessTime: n.modified, Links: n.links, ID: n.id}
}

// find walks from the root. Caller holds mu.
func (f *FS) find(name string) (*node, error) {
	n := f.root
	for part := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
		if part == "" {
			continue
		}
		if n.children == nil {
			return nil, fmt.Errorf("%w: %s", syscall.ENOTDIR, name)
		}
		if n = n.children[part]; n == nil {
			return nil, fmt.Errorf("%w: %s", fs.ErrNotExist, name)
		}
	}
	return n, nil
}

// parent is the folder a name is or would be in. Caller holds mu.
func (f *FS) parent(name string) (*node, string, error) {
	dir, base := path.Split(name)
	n, err := f.find(dir)
	if err == nil && n.children == nil {
		err = fmt.Errorf("%w: %s", syscall.ENOTDIR, dir)
	}
	return n, base, err
}

// Bytes is a copy of a file's content; nil when there is none.
func (f *FS) Bytes(name string) []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.find(name)
	if err != nil || n.children != nil {
		return nil
	}
	b := make([]byte, n.size)
	n.readAt(b, 0)
	return b
}

// Names are all names, folders with a slash at the end, sorted.
func (f *FS) Names() (names []string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var walk func(prefix string, n *node)
	walk = func(prefix string, n *node) {
		for name, c := range n.children {
			if c.children == nil {
				names = append(names, prefix+name)
				continue
			}
			names = append(names, prefix+name+"/")
			walk(prefix+name+"/", c)
		}
	}
	walk("/", f.root)
	slices.Sort(names)
	return names
}
