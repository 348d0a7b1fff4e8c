package qcow2

import (
	"cmp"
	"math/bits"
	"slices"
)

// groupClusters is how many clusters of the disk one group's bitmaps describe:
// 64 MiB.
const groupClusters = 1024

const tableGroups = entriesPerTable / groupClusters // groups of one L2 table

// bitmap has a bit for each cluster of a group.
type bitmap [groupClusters / 64]uint64

func (b *bitmap) has(i int64) bool { return b != nil && b[i/64]>>(i%64)&1 != 0 }

// with returns the bitmap, which may be changed, with bits first to last set.
func (b *bitmap) with(first, last int64) *bitmap {
	switch {
	case b == allClusters:
		return b
	case b == nil:
		b = new(bitmap)
	}
	for first <= last {
		end := min(last, first|63)
		b[first/64] |= ^uint64(0) >> (63 - (end - first)) << (first % 64)
		first = end + 1
	}
	if *b == *allClusters {
		return allClusters
	}
	return b
}

// rank counts the bits before bit i.
func (b *bitmap) rank(i int64) int64 {
	if b == nil {
		return 0
	}
	n := 0
	for _, w := range b[:i/64] {
		n += bits.OnesCount64(w)
	}
	if i%64 != 0 {
		n += bits.OnesCount64(b[i/64] << (64 - i%64))
	}
	return int64(n)
}

// pick returns which bit has n bits before it.
func (b *bitmap) pick(n int64) int64 {
	for i, w := range b {
		if c := int64(bits.OnesCount64(w)); n >= c {
			n -= c
			continue
		}
		for ; n > 0; n-- {
			w &= w - 1
		}
		return int64(i*64 + bits.TrailingZeros64(w))
	}
	return groupClusters
}

// run counts the bits that are set from bit i on.
func (b *bitmap) run(i int64) int64 {
	from := i
	for i < groupClusters {
		n := int64(bits.TrailingZeros64(^(b[i/64] >> (i % 64))))
		n = min(n, 64-i%64)
		if i += n; i%64 != 0 || n == 0 {
			break
		}
	}
	return i - from
}

// allClusters stands for every full bitmap, so that a dense disk needs none. It is
// never changed.
var allClusters = func() *bitmap {
	b := new(bitmap)
	for i := range b {
		b[i] = ^uint64(0)
	}
	return b
}()

// group describes 64 MiB of the disk. A nil bitmap is empty.
type group struct {
	number     int64
	data, zero *bitmap
	before     int64 // data clusters in the groups before
}

// clusters is the set of clusters that a file describes: what they are, and
// which place each data cluster has among them. Memory: 32 bytes, and 128 for
// data and zero clusters each if there are some but not only such, for 64 MiB of
// disk with any; 8 bytes for 512 MiB with any.
type clusters struct {
	groups []group // ascending
	tables []int64 // numbers of the L2 tables that describe any, ascending
	data   int64   // data clusters
}

// add marks clusters first to last, of which only first may have been added
// before, as Data; then it stays that.
func (c *clusters) add(kind Kind, first, last int64) {
	for first <= last {
		g := c.group(first / groupClusters)
		end := min(last, first|(groupClusters-1))
		if kind == Data {
			g.data = g.data.with(first%groupClusters, end%groupClusters)
		} else {
			g.zero = g.zero.with(first%groupClusters, end%groupClusters)
		}
		first = end + 1
	}
}

// group returns the group, which is the last one or a new one after it.
func (c *clusters) group(number int64) *group {
	if n := len(c.groups); n == 0 || c.groups[n-1].number != number {
		c.finish()
		c.groups = append(c.groups, group{number: number, before: c.data})
		if table := number / tableGroups; len(c.tables) == 0 || c.tables[len(c.tables)-1] != table {
			c.tables = append(c.tables, table)
		}
	}
	return &c.groups[len(c.groups)-1]
}

// finish ends the last group.
func (c *clusters) finish() {
	if len(c.groups) > 0 {
		g := &c.groups[len(c.groups)-1]
		c.data = g.before + g.data.rank(groupClusters)
	}
}

// find returns the first group of this number or a higher one.
func (c *clusters) find(number int64) int {
	i, _ := slices.BinarySearchFunc(c.groups, number, func(g group, n int64) int { return cmp.Compare(g.number, n) })
	return i
}

// place returns which data cluster of the file the cluster is.
func (c *clusters) place(n int64) (int64, bool) {
	i := c.find(n / groupClusters)
	if i == len(c.groups) || c.groups[i].number != n/groupClusters || !c.groups[i].data.has(n%groupClusters) {
		return 0, false
	}
	return c.groups[i].before + c.groups[i].data.rank(n%groupClusters), true
}

// at returns which cluster of the disk the file's data cluster is.
func (c *clusters) at(place int64) int64 {
	i, found := slices.BinarySearchFunc(c.groups, place, func(g group, p int64) int { return cmp.Compare(g.before, p) })
	if !found {
		i--
	}
	for c.groups[i].data == nil { // the last of those with the same count before
		i++
	}
	g := c.groups[i]
	return g.number*groupClusters + g.data.pick(place-g.before)
}

// run returns how many data clusters, limit at most, follow each other on the
// disk from cluster n on, which is one.
func (c *clusters) run(n, limit int64) int64 {
	total := int64(0)
	for i := c.find(n / groupClusters); total < limit && i < len(c.groups); i++ {
		g, in := c.groups[i], (n+total)%groupClusters
		if g.number != (n+total)/groupClusters || g.data == nil {
			break
		}
		r := g.data.run(in)
		if total += r; in+r < groupClusters {
			break
		}
	}
	return min(total, limit)
}

// tableFrom returns the first of the L2 tables with this number or a higher one.
func (c *clusters) tableFrom(number int64) int {
	i, _ := slices.BinarySearch(c.tables, number)
	return i
}
