package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// ClusterSize is the unit of allocation, in bytes.
	ClusterSize = 1 << clusterBits
	clusterBits = 16

	entriesPerTable       = ClusterSize / 8 // of L1, L2 and refcount tables
	countsPerBlock        = ClusterSize / 2
	copied                = 1 << 63 // the cluster has exactly one reference
	headerLength          = 104
	sectorSize            = 512
	sizeMax         int64 = 1 << 50 // L1 of 16 MiB; QEMU takes 32 MiB
)

// Extent is a run of bytes of the disk that hold data.
type Extent struct{ Offset, Length int64 }

// run is consecutive data clusters of the disk and where they are in the file.
type run struct{ guest, host, count int64 } // clusters

// Image is the plan of a file.
type Image struct {
	size     int64
	runs     []run
	tables   []int64 // numbers of the L1 entries that have an L2 table, ascending
	l1       int64   // first cluster of the L1 table
	l2       int64   // first L2 table
	blocks   int64   // refcount blocks
	table    int64   // clusters of the refcount table
	clusters int64   // of the whole file
}

// Plan lays out a disk of size bytes, a multiple of 512, whose data is in the
// given extents: ascending, not overlapping, within the disk.
func Plan(size int64, data []Extent) (*Image, error) {
	if size < 0 || size > sizeMax || size%sectorSize != 0 {
		return nil, fmt.Errorf("a qcow2 image cannot have %d bytes: want a multiple of %d up to %d", size, sectorSize, sizeMax)
	}
	m := &Image{size: size}
	end := int64(0)
	for _, e := range data {
		if e.Length <= 0 || e.Offset < end || e.Length > size-e.Offset {
			return nil, fmt.Errorf("extent of %d bytes at %d is out of order or outside the disk", e.Length, e.Offset)
		}
		end = e.Offset + e.Length
		m.addRun(e.Offset>>clusterBits, (end-1)>>clusterBits)
	}
	m.addTables()
	m.place()
	return m, nil
}

// addRun adds the clusters from first to last, less what is there already.
func (m *Image) addRun(first, last int64) {
	if n := len(m.runs); n > 0 {
		r := &m.runs[n-1]
		if first = max(first, r.guest+r.count); first > last {
			return
		}
		if first == r.guest+r.count {
			r.count += last - first + 1
			return
		}
	}
	m.runs = append(m.runs, run{guest: first, count: last - first + 1})
}

func (m *Image) addTables() {
	for _, r := range m.runs {
		last := (r.guest + r.count - 1) / entriesPerTable
		for n := r.guest / entriesPerTable; n <= last; n++ {
			if len(m.tables) == 0 || m.tables[len(m.tables)-1] != n {
				m.tables = append(m.tables, n)
			}
		}
	}
}

// place finds how many refcount blocks count all clusters, themselves included,
// and gives every cluster its place.
func (m *Image) place() {
	data := int64(0)
	for _, r := range m.runs {
		data += r.count
	}
	l1 := divUp(m.l1Entries(), entriesPerTable)
	rest := 1 + l1 + int64(len(m.tables)) + data
	m.blocks, m.table = 1, 1
	for {
		m.clusters = rest + m.blocks + m.table
		blocks := divUp(m.clusters, countsPerBlock)
		table := divUp(blocks, entriesPerTable)
		if blocks == m.blocks && table == m.table {
			break
		}
		m.blocks, m.table = blocks, table
	}
	m.l1 = 1 + m.table + m.blocks
	m.l2 = m.l1 + l1
	host := m.l2 + int64(len(m.tables))
	for i := range m.runs {
		m.runs[i].host = host
		host += m.runs[i].count
	}
}

func (m *Image) l1Entries() int64 { return divUp(m.size, ClusterSize*entriesPerTable) }

func divUp(a, b int64) int64 { return (a + b - 1) / b }

// FileSize is the length the file must be given, in bytes.
func (m *Image) FileSize() int64 { return m.clusters * ClusterSize }

// DataStart is the byte of the file at which the data clusters begin; they
// follow in the order of the disk, and everything WriteMetadata writes lies
// before them.
func (m *Image) DataStart() int64 { return (m.l2 + int64(len(m.tables))) * ClusterSize }

// WriteAt writes p, disk content at off, to its place in w. p must lie within
// the extents planned; the rest of their first and last clusters must read as
// zeros in w. Safe for concurrent use when w is.
func (m *Image) WriteAt(w io.WriterAt, p []byte, off int64) error {
	for len(p) > 0 {
		at, n, err := m.find(off, int64(len(p)))
		if err != nil {
			return err
		}
		if _, err := w.WriteAt(p[:n], at); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// find returns where off is in the file and how many of n bytes follow there.
func (m *Image) find(off, n int64) (at, length int64, err error) {
	cluster := off >> clusterBits
	i, _ := slices.BinarySearchFunc(m.runs, cluster, func(r run, c int64) int {
		if r.guest+r.count <= c {
			return -1
		}
		return 1
	})
	if i == len(m.runs) || m.runs[i].guest > cluster {
		return 0, 0, fmt.Errorf("data at %d is in no planned extent", off)
	}
	r := m.runs[i]
	at = (r.host+cluster-r.guest)<<clusterBits + off&(ClusterSize-1)
	return at, min(n, (r.guest+r.count)<<clusterBits-off), nil
}

// WriteMetadata writes everything but the data clusters.
func (m *Image) WriteMetadata(w io.WriterAt) error {
	return errors.Join(m.writeHeader(w), m.writeRefcounts(w), m.writeL1(w), m.writeL2(w))
}

func (m *Image) writeHeader(w io.WriterAt) error {
	h := make([]byte, headerLength+8) // and the end of the header extensions
	be := binary.BigEndian
	be.PutUint32(h[0:], 0x514649fb) // QFI\xfb
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], clusterBits)
	be.PutUint64(h[24:], uint64(m.size))
	be.PutUint32(h[36:], uint32(m.l1Entries()))
	be.PutUint64(h[40:], uint64(m.l1*ClusterSize))
	be.PutUint64(h[48:], ClusterSize) // refcount table
	be.PutUint32(h[56:], uint32(m.table))
	be.PutUint32(h[96:], 4) // refcounts of 2^4 bits
	be.PutUint32(h[100:], headerLength)
	_, err := w.WriteAt(h, 0)
	return err
}

func (m *Image) writeRefcounts(w io.WriterAt) error {
	first := 1 + m.table
	table := make([]byte, m.blocks*8)
	counts := make([]byte, ClusterSize)
	for i := range m.blocks {
		binary.BigEndian.PutUint64(table[i*8:], uint64((first+i)*ClusterSize))
		clear(counts)
		for j := range min(countsPerBlock, m.clusters-i*countsPerBlock) {
			counts[j*2+1] = 1
		}
		if _, err := w.WriteAt(counts, (first+i)*ClusterSize); err != nil {
			return err
		}
	}
	_, err := w.WriteAt(table, ClusterSize)
	return err
}

func (m *Image) writeL1(w io.WriterAt) error {
	table := make([]byte, m.l1Entries()*8)
	for i, n := range m.tables {
		binary.BigEndian.PutUint64(table[n*8:], uint64((m.l2+int64(i))*ClusterSize)|copied)
	}
	_, err := w.WriteAt(table, m.l1*ClusterSize)
	return err
}

func (m *Image) writeL2(w io.WriterAt) error {
	table := make([]byte, ClusterSize)
	next := 0 // first run that may touch the table
	for i, n := range m.tables {
		clear(table)
		low, high := n*entriesPerTable, (n+1)*entriesPerTable
		for next < len(m.runs) && m.runs[next].guest+m.runs[next].count <= low {
			next++
		}
		for _, r := range m.runs[next:] {
			if r.guest >= high {
				break
			}
			for c := max(r.guest, low); c < min(r.guest+r.count, high); c++ {
				binary.BigEndian.PutUint64(table[(c-low)*8:], uint64((r.host+c-r.guest)*ClusterSize)|copied)
			}
		}
		if _, err := w.WriteAt(table, (m.l2+int64(i))*ClusterSize); err != nil {
			return err
		}
	}
	return nil
}
