package crashfs

import (
	"math/rand/v2"
	"slices"
)

// Kill is a new file system as the next process finds it after this one died:
// everything written is there, what was not synced still is not, locks and
// handles are gone. fs is not changed.
func (fs *FS) Kill() *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.kill()
}

// Kill is FS.Kill at the instant.
func (at *Instant) Kill() *FS { return at.fs.kill() }

// KillDuring is Kill in the middle of the instant's operation: of a write, the
// kernel may have taken only what lies in the first pages of the file.
func (at *Instant) KillDuring(rng *rand.Rand) *FS {
	clone := at.fs.kill()
	if at.Op.Kind == Write && at.Op.Err == nil && at.Op.Len > 0 {
		if n := clone.find(clone.root, at.Op.Inode); n != nil {
			clone.used -= n.allocated
			n.shorten(pages(at.Op, rng))
			n.allocated = n.cur.allocated()
			clone.used += n.allocated
		}
	}
	return clone
}

// pages is how much of a write there is: all, nothing, or what lies before some
// page boundary of the file.
func pages(op Op, rng *rand.Rand) int64 {
	ends := []int64{0, op.Len}
	for at := (op.Off/pageSize + 1) * pageSize; at < op.Off+op.Len; at += pageSize {
		ends = append(ends, at-op.Off)
	}
	return ends[rng.IntN(len(ends))]
}

// find looks for a file by its number.
func (fs *FS) find(dir *inode, no uint64) *inode {
	for _, n := range dir.dir.cur {
		if n.no == no {
			return n
		}
		if n.dir != nil {
			if found := fs.find(n, no); found != nil {
				return found
			}
		}
	}
	return nil
}

// killed copies the whole state, inode by inode.
type killed struct {
	made  map[*inode]*inode
	clone *FS
}

func (fs *FS) kill() *FS {
	k := &killed{made: map[*inode]*inode{}, clone: fs.blank()}
	k.clone.root = k.inode(fs.root)
	for _, m := range k.made {
		if m.dir == nil && m.links > 0 {
			m.allocated = m.cur.allocated()
			k.clone.used += m.allocated
		}
	}
	return k.clone
}

func (k *killed) inode(n *inode) *inode {
	if n == nil {
		return nil
	}
	if m := k.made[n]; m != nil {
		return m
	}
	m := &inode{no: n.no, mtime: n.mtime, links: n.links, gated: n.gated}
	k.made[n] = m
	if n.dir == nil {
		m.cur, m.dur, m.pending = n.cur.share(), n.dur.share(), slices.Clip(n.pending)
		return m
	}
	m.dir = newDirectory()
	for name, child := range n.dir.cur {
		m.dir.cur[name] = k.inode(child)
	}
	for name, child := range n.dir.dur {
		m.dir.dur[name] = k.inode(child)
	}
	m.dir.pending = k.changes(n.dir.pending)
	return m
}

func (k *killed) changes(pending []entryOp) []entryOp {
	out := slices.Clone(pending)
	for i, op := range out {
		out[i].changes = slices.Clone(op.changes)
		for j, c := range op.changes {
			out[i].changes[j].node = k.inode(c.node)
		}
	}
	return out
}
