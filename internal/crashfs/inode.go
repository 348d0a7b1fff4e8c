package crashfs

import "time"

// inode is a file or a directory.
type inode struct {
	no    uint64
	mtime time.Time
	links int // names in current directories
	refs  int // open handles
	dir   *directory
	// Files only: what readers see, what a power cut cannot take, and the
	// writes between the two, oldest first. The list is append-only, so that
	// clones can share it.
	cur, dur *content
	pending  []write
	// allocated is cur's space in bytes, as counted in FS.used.
	allocated int64
	// gated is set for good once dirty data of this file was dropped by a
	// failed sync: dur then stays what it was and pending keeps everything.
	gated bool
}

// write is one write since the last sync. data is never changed.
type write struct {
	off   int64
	data  []byte
	state writeState
}

type writeState uint8

const (
	dirty  writeState = iota
	lost              // dropped by a failed sync; only a later write to its sectors can take it along
	synced            // durable; seen only in gated files
)

func (w write) end() int64 { return w.off + int64(len(w.data)) }

func newFileInode(no uint64) *inode {
	return &inode{no: no, mtime: time.Now(), cur: new(content), dur: new(content)}
}

func newDirInode(no uint64) *inode {
	return &inode{no: no, mtime: time.Now(), dir: newDirectory()}
}

// write puts p at off; the caller has checked the space.
func (n *inode) write(p []byte, off int64) {
	data := make([]byte, len(p))
	copy(data, p)
	n.cur = n.cur.mutable()
	n.cur.writeAt(data, off)
	n.pending = append(n.pending, write{off: off, data: data})
	n.mtime = time.Now()
}

// shorten takes back all but the first keep bytes of the last write.
func (n *inode) shorten(keep int64) {
	last := n.pending[len(n.pending)-1]
	n.pending = n.pending[: len(n.pending)-1 : len(n.pending)-1]
	if keep > 0 {
		last.data = last.data[:min(keep, int64(len(last.data)))]
		n.pending = append(n.pending, last)
	}
	n.cur = n.dur.share().mutable()
	for _, w := range n.pending {
		n.cur.writeAt(w.data, w.off)
	}
}

// truncate empties the file, as opening with O_TRUNC does. The truncation
// itself is taken as durable: only lock files are ever truncated.
func (n *inode) truncate() {
	n.cur, n.dur, n.pending, n.gated = new(content), new(content), nil, false
}

// sync makes everything written durable, except what a failed sync dropped.
func (n *inode) sync() {
	switch {
	case n.dir != nil:
		n.dir.sync()
	case n.gated:
		n.restate(dirty, synced)
		n.dur = n.dur.mutable()
		n.dur.size = n.cur.size
	default:
		n.dur, n.pending = n.cur.share(), nil
	}
}

// drop is a failed sync that forgets what was dirty while readers still see it.
func (n *inode) drop() {
	if n.dir == nil {
		n.gated = true
		n.restate(dirty, lost)
	}
}

// restate copies the list, for clones may hold the old one.
func (n *inode) restate(from, to writeState) {
	list := make([]write, len(n.pending))
	for i, w := range n.pending {
		if w.state == from {
			w.state = to
		}
		list[i] = w
	}
	n.pending = list
}

// unsynced is the number of bytes written, by all writes together, that a
// power cut may take.
func (n *inode) unsynced() (bytes int64) {
	for _, w := range n.pending {
		if w.state != synced {
			bytes += int64(len(w.data))
		}
	}
	return bytes
}
