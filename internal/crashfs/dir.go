package crashfs

import (
	"hash/fnv"
	"slices"
)

// directory is a set of names: as seen now, as durable, and the changes
// between the two, oldest first.
type directory struct {
	cur, dur map[string]*inode
	pending  []entryOp
}

// entryOp is one atomic change of a directory.
type entryOp struct {
	seq     uint64 // order over the whole file system
	pair    uint64 // on the removing half of a rename across directories: seq of the adding half
	changes []entryChange
}

// entryChange binds a name; a nil inode unbinds it.
type entryChange struct {
	name string
	node *inode
}

func newDirectory() *directory {
	return &directory{cur: map[string]*inode{}, dur: map[string]*inode{}}
}

// apply changes what is seen now and remembers it as un-synced.
func (d *directory) apply(op entryOp) {
	for _, c := range op.changes {
		if old := d.cur[c.name]; old != nil {
			old.links--
		}
		if c.node != nil {
			c.node.links++
		}
		bind(d.cur, c)
	}
	d.pending = append(d.pending, op)
}

func bind(names map[string]*inode, c entryChange) {
	if c.node == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.node
}

func (d *directory) sync() {
	for _, op := range d.pending {
		for _, c := range op.changes {
			bind(d.dur, c)
		}
	}
	d.pending = nil
}

// names lists the entries in an order that is stable but not sorted, as no
// real directory is.
func (d *directory) names() []string {
	type named struct {
		hash uint64
		name string
	}
	all := make([]named, 0, len(d.cur))
	for name := range d.cur {
		h := fnv.New64a()
		h.Write([]byte(name))
		all = append(all, named{h.Sum64(), name})
	}
	slices.SortFunc(all, func(a, b named) int {
		if a.hash < b.hash {
			return -1
		}
		return 1
	})
	out := make([]string, len(all))
	for i, n := range all {
		out[i] = n.name
	}
	return out
}
