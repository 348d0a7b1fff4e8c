package crashfs

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// Fate is what a power cut does to what was not synced.
type Fate int

const (
	// Lose forgets all of it.
	Lose Fate = iota
	// Keep keeps all of it.
	Keep
	// Roll decides at random: which writes, which sectors of them, which size;
	// which names. The odds are drawn per file and per directory, so that
	// states where nearly everything or nearly nothing survived are common.
	Roll
	// Zero is for data: the size is the current one, what was not synced
	// reads as zeros.
	Zero
)

// Profile is a kind of power cut.
type Profile struct {
	Name  string
	Data  Fate // of file contents and sizes
	Names Fate // of directory entries; Zero is not for them
	// Paranoid, when set, picks directories whose un-synced changes survive
	// each on its own, in whatever combination. In the others they survive in
	// order up to some point, as in a journaling file system. Pebble's
	// directories need the order; our own code should bear the lack of it.
	Paranoid func(dir string) bool
}

// The usual power cuts. NamesOnly and ZeroTails are what careless renames of
// un-synced files meet; DataOnly is what a forgotten directory sync meets.
var (
	LoseAll   = Profile{Name: "lose-all", Data: Lose, Names: Lose}
	KeepAll   = Profile{Name: "keep-all", Data: Keep, Names: Keep}
	NamesOnly = Profile{Name: "names-only", Data: Lose, Names: Keep}
	DataOnly  = Profile{Name: "data-only", Data: Keep, Names: Lose}
	ZeroTails = Profile{Name: "zero-tails", Data: Zero, Names: Keep}
	Random    = Profile{Name: "random", Data: Roll, Names: Roll}
)

// Profiles is one of each.
func Profiles() []Profile {
	return []Profile{LoseAll, KeepAll, NamesOnly, DataOnly, ZeroTails, Random}
}

// Crash is a new file system in a state a power cut at this moment may leave.
// fs is not changed. The same rng state on the same history gives the same
// result.
func (fs *FS) Crash(rng *rand.Rand, p Profile) *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.crash(rng, p)
}

// Crash is FS.Crash at the instant.
func (at *Instant) Crash(rng *rand.Rand, p Profile) *FS { return at.fs.crash(rng, p) }

// powerCut builds the state after a power cut.
type powerCut struct {
	rng   *rand.Rand
	p     Profile
	kept  map[uint64]bool // directory changes by seq
	made  map[*inode]*inode
	clone *FS
}

func (fs *FS) crash(rng *rand.Rand, p Profile) *FS {
	c := &powerCut{rng: rng, p: p, kept: map[uint64]bool{}, made: map[*inode]*inode{}, clone: fs.blank()}
	c.chooseNames(fs.root)
	c.clone.root = c.inode(fs.root)
	c.clone.root.links = 1
	return c.clone
}

// blank has the counters and the size of fs and nothing in it.
func (fs *FS) blank() *FS {
	return &FS{lastInode: fs.lastInode, lastEntry: fs.lastEntry, locks: map[string]*lock{}, capacity: fs.capacity}
}

func (c *powerCut) inode(n *inode) *inode {
	if m := c.made[n]; m != nil {
		return m
	}
	m := &inode{no: n.no, mtime: n.mtime}
	c.made[n] = m
	if n.dir == nil {
		m.cur = c.content(n).share()
		m.dur = m.cur
		m.allocated = m.cur.allocated()
		c.clone.used += m.allocated
		return m
	}
	m.dir = newDirectory()
	for _, name := range sortedNames(c.names(n.dir)) {
		child := c.inode(name.node)
		child.links++
		m.dir.cur[name.name], m.dir.dur[name.name] = child, child
	}
	return m
}

// names are a directory's entries after the cut.
func (c *powerCut) names(d *directory) map[string]*inode {
	names := make(map[string]*inode, len(d.dur))
	for name, n := range d.dur {
		names[name] = n
	}
	for _, op := range d.pending {
		if !c.kept[op.seq] {
			continue
		}
		for _, ch := range op.changes {
			bind(names, ch)
		}
	}
	return names
}

type namedNode struct {
	name string
	node *inode
}

func sortedNames(names map[string]*inode) []namedNode {
	all := make([]namedNode, 0, len(names))
	for name, n := range names {
		all = append(all, namedNode{name, n})
	}
	slices.SortFunc(all, func(a, b namedNode) int { return cmp.Compare(a.name, b.name) })
	return all
}
