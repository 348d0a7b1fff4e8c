package crashfs

import (
	"cmp"
	"slices"
)

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
