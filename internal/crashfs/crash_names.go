package crashfs

import (
	"cmp"
	"slices"
)

// dirChoice is the state of deciding one directory's changes in order.
type dirChoice struct {
	paranoid bool
	odds     float64 // of each change, if paranoid
	left     int     // how many more are kept, if not
}

// chooseNames decides every un-synced directory change of the file system,
// oldest first, so that the halves of a rename see each other.
func (c *powerCut) chooseNames(root *inode) {
	type undecided struct {
		op     entryOp
		choice *dirChoice
	}
	var all []undecided
	seen := map[*inode]bool{}
	walk(root, "/", seen, func(path string, d *directory) {
		if len(d.pending) == 0 {
			return
		}
		choice := c.dirChoice(path, len(d.pending))
		for _, op := range d.pending {
			all = append(all, undecided{op, choice})
		}
	})
	slices.SortStableFunc(all, func(a, b undecided) int { return cmp.Compare(a.op.seq, b.op.seq) })
	for _, u := range all {
		c.kept[u.op.seq] = c.keeps(u.op, u.choice)
	}
}

// walk visits every directory that any outcome of a cut could show.
func walk(n *inode, path string, seen map[*inode]bool, visit func(string, *directory)) {
	if n == nil || n.dir == nil || seen[n] {
		return
	}
	seen[n] = true
	visit(path, n.dir)
	next := map[string]*inode{}
	for _, names := range []map[string]*inode{n.dir.dur, n.dir.cur} {
		for name, child := range names {
			if child.dir != nil {
				next[name] = child
			}
		}
	}
	for _, op := range n.dir.pending {
		for _, ch := range op.changes {
			if ch.node != nil && ch.node.dir != nil && next[ch.name] == nil {
				next[ch.name] = ch.node
			}
		}
	}
	for _, child := range sortedNames(next) {
		walk(child.node, clean(path+"/"+child.name), seen, visit)
	}
}

var odds = []float64{0, 0.1, 0.5, 0.9, 1}

func (c *powerCut) dirChoice(path string, changes int) *dirChoice {
	ch := &dirChoice{paranoid: c.p.Paranoid != nil && c.p.Paranoid(path)}
	switch c.p.Names {
	case Keep:
		ch.odds, ch.left = 1, changes
	case Roll:
		ch.odds, ch.left = odds[c.rng.IntN(len(odds))], c.rng.IntN(changes+1)
	}
	return ch
}

// keeps decides one change.
func (c *powerCut) keeps(op entryOp, ch *dirChoice) bool {
	switch added, pending := c.kept[op.pair]; {
	case pending && !added: // the new name is not there, so the old one is
		ch.left = 0
		return false
	case ch.paranoid:
		return ch.odds > 0 && (ch.odds == 1 || c.rng.Float64() < ch.odds)
	}
	ch.left--
	return ch.left >= 0
}
