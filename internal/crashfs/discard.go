package crashfs

// Discard empties every file and forgets the observers. It is for a run whose
// process has "ended": goroutines that wait for ever keep the file system, which
// shall not keep its data.
func (fs *FS) Discard() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	seen := map[*inode]bool{}
	var drop func(*inode)
	drop = func(n *inode) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		if n.dir == nil {
			n.cur, n.dur, n.pending = new(content), new(content), nil
			return
		}
		for _, names := range []map[string]*inode{n.dir.cur, n.dir.dur} {
			for _, child := range names {
				drop(child)
			}
		}
		for _, op := range n.dir.pending {
			for _, c := range op.changes {
				drop(c.node)
			}
		}
	}
	drop(fs.root)
	fs.observers = nil
}
