package qcow2

import "math/bits"

// bitPage is how many bits of a bitSet are allocated at a time: 4 KiB.
const bitPage = 1 << 15

// bitSet is a set of host clusters, with memory only where there are some.
type bitSet []*[bitPage / 64]uint64

func newBitSet(n int64) bitSet { return make(bitSet, divUp(n, bitPage)) }

func (s bitSet) has(i int64) bool {
	page := s[i/bitPage]
	return page != nil && page[i%bitPage/64]>>(i%64)&1 != 0
}

func (s bitSet) add(i int64) {
	page := &s[i/bitPage]
	if *page == nil {
		*page = new([bitPage / 64]uint64)
	}
	(*page)[i%bitPage/64] |= 1 << (i % 64)
}

// usage is what the clusters of a file are used for. A cluster has one user, or
// any number of compressed clusters.
type usage struct {
	shift  int // of the cluster size
	whole  bitSet
	packed bitSet
}

func newUsage(fileSize, clusterSize int64) *usage {
	n := divUp(fileSize, clusterSize)
	return &usage{shift: bits.TrailingZeros64(uint64(clusterSize)), whole: newBitSet(n), packed: newBitSet(n)}
}

// take marks the clusters of n bytes from off on; false if one is in use.
func (u *usage) take(off, n int64) bool {
	for i := off >> u.shift; i <= (off+n-1)>>u.shift; i++ {
		if u.whole.has(i) || u.packed.has(i) {
			return false
		}
		u.whole.add(i)
	}
	return true
}

// share marks the clusters of n compressed bytes from off on, less those beyond
// the file's end; false if one is in other use.
func (u *usage) share(off, n int64) bool {
	last := min((off+n-1)>>u.shift, int64(len(u.packed))*bitPage-1)
	for i := off >> u.shift; i <= last; i++ {
		if u.whole.has(i) {
			return false
		}
		u.packed.add(i)
	}
	return true
}
