package qcow2

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	// ClusterSize is the unit of allocation in the files this package writes, in
	// bytes.
	ClusterSize = 1 << clusterBits
	clusterBits = 16

	entriesPerTable = ClusterSize / 8 // of L1, L2 and refcount tables
	countsPerBlock  = ClusterSize / 2
	sectorSize      = 512
)

// layout is where everything is in a file, and makes all of it but the data.
type layout struct {
	clusters
	size   int64  // of the disk
	header []byte // the rest of its cluster is zeros

	// Of the file, in clusters.
	table int64 // length of the refcount table, at 1
	block int64 // number of refcount blocks, behind it
	l1    int64 // first of the L1 table
	l2    int64 // first L2 table
	first int64 // first data cluster
	total int64
}

// newLayout gives every cluster of the file its place. Nothing may be added to c
// afterwards.
func newLayout(size int64, backing string, c clusters) *layout {
	c.finish()
	c.groups, c.tables = slices.Clone(c.groups), slices.Clone(c.tables) // without room to grow
	l := &layout{clusters: c, size: size}
	l1 := divUp(l.l1Entries(), entriesPerTable)
	rest := 1 + l1 + int64(len(l.tables)) + l.data
	// Until the blocks count all clusters, themselves included.
	for l.table, l.block = 1, 1; ; {
		l.total = rest + l.block + l.table
		block := divUp(l.total, countsPerBlock)
		table := divUp(block, entriesPerTable)
		if block == l.block && table == l.table {
			break
		}
		l.block, l.table = block, table
	}
	l.l1 = 1 + l.table + l.block
	l.l2 = l.l1 + l1
	l.first = l.l2 + int64(len(l.tables))
	l.header = l.makeHeader(backing)
	return l
}

func divUp(a, b int64) int64 { return (a + b - 1) / b }

func (l *layout) l1Entries() int64 { return divUp(l.size, ClusterSize*entriesPerTable) }

// makeHeader returns the header, its extensions, and the backing file's name.
func (l *layout) makeHeader(backing string) []byte {
	be := binary.BigEndian
	h := make([]byte, headerLength3)
	be.PutUint32(h[0:], magic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], clusterBits)
	be.PutUint64(h[24:], uint64(l.size))
	be.PutUint32(h[36:], uint32(l.l1Entries()))
	be.PutUint64(h[40:], uint64(l.l1*ClusterSize))
	be.PutUint64(h[48:], ClusterSize) // refcount table
	be.PutUint32(h[56:], uint32(l.table))
	be.PutUint32(h[96:], 4) // refcounts of 2^4 bits
	be.PutUint32(h[100:], headerLength3)
	if backing != "" {
		h = be.AppendUint32(h, extensionName)
		h = be.AppendUint32(h, uint32(len(formatQCOW2)))
		h = append(h, formatQCOW2+"\x00\x00\x00"...)
	}
	h = be.AppendUint64(h, extensionEnd)
	if backing != "" {
		be.PutUint64(h[8:], uint64(len(h)))
		be.PutUint32(h[16:], uint32(len(backing)))
		h = append(h, backing...)
	}
	return h
}

// fill makes p, the bytes of the file from off on, all before the data.
func (l *layout) fill(p []byte, off int64) {
	for len(p) > 0 {
		n := min(int64(len(p)), 8-off%8)
		if n < 8 {
			var word [8]byte
			l.words(word[:], off&^7)
			copy(p[:n], word[off%8:])
		} else {
			n = l.words(p[:len(p)&^7], off)
		}
		p, off = p[n:], off+n
	}
}

// words makes p, or as much of it as is of one sort, and returns how much. Both
// its length and off are multiples of 8.
func (l *layout) words(p []byte, off int64) int64 {
	cluster, in := off/ClusterSize, off%ClusterSize
	within := func(end int64) []byte { return p[:min(int64(len(p)), end*ClusterSize-off)] }
	switch {
	case cluster == 0:
		p = within(1)
		clear(p[copy(p, l.header[min(in, int64(len(l.header))):]):])
	case cluster < 1+l.table:
		p = within(1 + l.table)
		l.fillTable(p, (off-ClusterSize)/8)
	case cluster < l.l1:
		p = within(l.l1)
		l.fillBlocks(p, (off-(1+l.table)*ClusterSize)/2)
	case cluster < l.l2:
		p = within(l.l2)
		l.fillL1(p, (off-l.l1*ClusterSize)/8)
	default:
		p = within(cluster + 1)
		l.fillL2(p, l.tables[cluster-l.l2]*entriesPerTable+in/8)
	}
	return int64(len(p))
}

// fillTable makes entries of the refcount table.
func (l *layout) fillTable(p []byte, entry int64) {
	clear(p)
	for ; len(p) > 0 && entry < l.block; p, entry = p[8:], entry+1 {
		binary.BigEndian.PutUint64(p, uint64((1+l.table+entry)*ClusterSize))
	}
}

// fillBlocks makes reference counts: 1 for every cluster of the file.
func (l *layout) fillBlocks(p []byte, cluster int64) {
	clear(p)
	n := max(0, min(int64(len(p)), (l.total-cluster)*2))
	for i := int64(1); i < n; i += 2 {
		p[i] = 1
	}
}

// fillL1 makes entries of the L1 table.
func (l *layout) fillL1(p []byte, entry int64) {
	clear(p)
	end := entry + int64(len(p))/8
	for i := l.tableFrom(entry); i < len(l.tables) && l.tables[i] < end; i++ {
		binary.BigEndian.PutUint64(p[(l.tables[i]-entry)*8:], uint64((l.l2+int64(i))*ClusterSize)|copied)
	}
}

// fillL2 makes the entries of clusters of the disk, from cluster on.
func (l *layout) fillL2(p []byte, cluster int64) {
	clear(p)
	end := cluster + int64(len(p))/8
	for i := l.find(cluster / groupClusters); i < len(l.groups); i++ {
		g := &l.groups[i]
		base := g.number * groupClusters
		if base >= end {
			return
		}
		from, to := max(cluster, base), min(end, base+groupClusters)
		l.fillGroup(p[(from-cluster)*8:(to-cluster)*8], g, from-base)
	}
}

// fillGroup makes the entries of a group's clusters, from its cluster in on.
func (l *layout) fillGroup(p []byte, g *group, in int64) {
	host := l.first + g.before + g.data.rank(in)
	for ; len(p) > 0; p, in = p[8:], in+1 {
		switch {
		case g.data.has(in):
			binary.BigEndian.PutUint64(p, uint64(host*ClusterSize)|copied)
			host++
		case g.zero.has(in):
			binary.BigEndian.PutUint64(p, zeroFlag)
		}
	}
}

// checkExtent refuses one that is out of order or outside the disk; end is that
// of the one before.
func checkExtent(off, n, end, size int64) error {
	if n <= 0 || off < end || n > size-off {
		return fmt.Errorf("extent of %d bytes at %d is out of order or outside the disk of %d bytes", n, off, size)
	}
	return nil
}
