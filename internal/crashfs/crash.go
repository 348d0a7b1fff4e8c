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
// kernel may have taken only the first pages.
func (at *Instant) KillDuring(rng *rand.Rand) *FS {
	clone := at.fs.kill()
	if at.Op.Kind == Write && at.Op.Err == nil && at.Op.Len > 0 {
		if n := clone.find(clone.root, at.Op.Inode); n != nil {
			clone.used -= n.allocated
			n.shorten(rng.Int64N(at.Op.Len/pageSize+1) * pageSize)
			n.allocated = n.cur.allocated()
			clone.used += n.allocated
		}
	}
	return clone
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

// content is a file's bytes after the cut.
func (c *powerCut) content(n *inode) *content {
	if len(n.pending) == 0 || c.p.Data == Lose && !n.gated {
		return n.dur.share()
	}
	if c.p.Data == Keep && !n.gated {
		return n.cur.share()
	}
	fates := c.writeFates(n.pending)
	n.cur.share() // whole pages of it are taken
	out := n.dur.share().mutable()
	out.size = max(n.cur.size, n.dur.size)
	touched := writesByPage(n.pending)
	for _, i := range touched.pages {
		out.choosePage(n, i, touched.writes[i], c.versions(n.pending, i, touched.writes[i], fates))
	}
	out.resize(c.size(n, fates))
	return out
}

// writeFate is how much of one write reached the disk.
type writeFate uint8

const (
	none writeFate = iota
	whole
	torn // each sector on its own
)

func (c *powerCut) writeFates(pending []write) []writeFate {
	roll := func(int) writeFate { return none }
	switch c.p.Data {
	case Keep:
		roll = func(int) writeFate { return whole }
	case Roll:
		roll = c.writeDice(len(pending))
	}
	fates := make([]writeFate, len(pending))
	for i, w := range pending {
		switch w.state {
		case synced:
			fates[i] = whole
		case dirty:
			fates[i] = roll(i)
		}
	}
	return fates
}

// writeDice draws the odds for one file: one time in three its writes reached
// the disk in order up to some point, else each has its own luck.
func (c *powerCut) writeDice(writes int) func(int) writeFate {
	if c.rng.IntN(3) == 0 {
		cutAt := c.rng.IntN(writes + 1)
		return func(i int) writeFate { return inOrder(i, cutAt) }
	}
	p := odds[c.rng.IntN(len(odds))]
	return func(int) writeFate {
		switch {
		case c.rng.IntN(4) == 0:
			return torn
		case c.rng.Float64() < p:
			return whole
		}
		return none
	}
}

func inOrder(i, cutAt int) writeFate {
	switch cmp.Compare(i, cutAt) {
	case -1:
		return whole
	case 0:
		return torn
	}
	return none
}

// size is the file's length after the cut.
func (c *powerCut) size(n *inode, fates []writeFate) int64 {
	low, high := n.dur.size, n.cur.size
	switch {
	case c.p.Data == Lose:
		return low
	case c.p.Data == Zero || c.p.Data == Keep || high <= low:
		return high
	}
	switch c.rng.IntN(4) {
	case 0:
		return low
	case 1:
		return high
	case 2:
		return low + c.rng.Int64N(high-low+1)
	}
	size := low
	for i, w := range n.pending {
		if fates[i] != none {
			size = max(size, w.end())
		}
	}
	return size
}

type pageWrites struct {
	pages  []int
	writes map[int][]int // indexes into the list of writes, in order
}

func writesByPage(pending []write) pageWrites {
	out := pageWrites{writes: map[int][]int{}}
	for i, w := range pending {
		for pg := int(w.off / pageSize); int64(pg)*pageSize < w.end(); pg++ {
			out.writes[pg] = append(out.writes[pg], i)
		}
	}
	for pg := range out.writes {
		out.pages = append(out.pages, pg)
	}
	slices.Sort(out.pages)
	return out
}

// sectorVersion says how many writes of the list a sector has seen: those
// before upTo. Writes to one sector reach the disk together with the earlier
// ones, because it is the cached sector that is written. last is what upTo is
// when the sector is current, 0 when nothing dirty touches it.
type sectorVersion struct{ upTo, last int }

func (c *powerCut) versions(pending []write, pg int, writes []int, fates []writeFate) (v [pageSectors]sectorVersion) {
	for s := range v {
		start := int64(pg)*pageSize + int64(s)*SectorSize
		for _, i := range writes {
			if pending[i].off >= start+SectorSize || pending[i].end() <= start {
				continue
			}
			v[s].last = i + 1
			if fates[i] == whole || fates[i] == torn && c.rng.IntN(2) == 0 {
				v[s].upTo = i + 1
			}
		}
	}
	return v
}

// choosePage makes page pg of c, which starts as the durable content, show the
// chosen versions of its sectors.
func (c *content) choosePage(n *inode, pg int, writes []int, v [pageSectors]sectorVersion) {
	current, durable := true, true
	for _, s := range v {
		current = current && s.upTo == s.last
		durable = durable && s.upTo == 0
	}
	switch {
	case durable:
	case current:
		c.setPage(pg, n.cur.page(pg))
	default:
		p := c.writable(pg)
		for s := range v {
			for _, i := range writes {
				if i < v[s].upTo {
					n.pending[i].copyTo(p, pg, s)
				}
			}
		}
	}
}

// copyTo puts the part of the write that lies in sector s of page pg there.
func (w write) copyTo(p *page, pg, s int) {
	base := int64(pg) * pageSize
	from := max(w.off, base+int64(s)*SectorSize)
	to := min(w.end(), base+int64(s+1)*SectorSize)
	if from < to {
		copy(p[from-base:to-base], w.data[from-w.off:to-w.off])
	}
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
