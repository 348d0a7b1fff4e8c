package qcow2

import (
	"encoding/binary"
	"math/bits"
)

const (
	copied      = 1 << 63 // the cluster has exactly one reference
	packed      = 1 << 62
	zeroFlag    = 1
	hostMask    = 1<<56 - 1<<9
	reservedL1  = 1<<63 - 1<<56 | 1<<9 - 1
	reservedL2  = 1<<62 - 1<<56 | 1<<9 - 2
	subclusters = 32
	allSubs     = 1<<subclusters - 1
)

// cluster is what an L2 entry says. Each of the 32 parts of a cluster is data,
// zero, or unallocated; without extended L2 entries all are the same.
type cluster struct {
	host       int64  // of the cluster in the file, 0: none; of the compressed bytes
	packed     int64  // length of the compressed bytes, to the end of a sector; 0: not compressed
	data, zero uint32 // bit i: subcluster i
}

// decodeL1 returns where the L2 table is, 0 for none. at is where the entry is.
func (q *Reader) decodeL1(entry uint64, at int64) (int64, error) {
	if entry&reservedL1 != 0 {
		return 0, malformed(at, "L1 entry %#016x has reserved bits set", entry)
	}
	table := int64(entry & hostMask)
	if table%q.ClusterSize() != 0 {
		return 0, malformed(at, "the L2 table at %d does not begin at a cluster's beginning", table)
	}
	if table > q.fileSize-q.ClusterSize() && table != 0 {
		return 0, malformed(at, "the L2 table at %d ends outside the file of %d bytes: is the file complete?", table, q.fileSize)
	}
	return table, nil
}

// decodeL2 reads the entry at the beginning of raw, which is at in the file.
func (q *Reader) decodeL2(raw []byte, at int64) (cluster, error) {
	entry := binary.BigEndian.Uint64(raw)
	subs := uint64(0)
	if q.h.ExtendedL2 {
		subs = binary.BigEndian.Uint64(raw[8:])
	}
	if entry&packed != 0 {
		if subs != 0 || entry&copied != 0 {
			return cluster{}, malformed(at, "L2 entry %#016x of a compressed cluster has the copied flag or subclusters (%#x)", entry, subs)
		}
		return q.decodePacked(entry, at)
	}
	reserved := uint64(reservedL2)
	if q.h.Version == 2 || q.h.ExtendedL2 {
		reserved |= zeroFlag
	}
	if entry&reserved != 0 {
		return cluster{}, malformed(at, "L2 entry %#016x has reserved bits set", entry)
	}
	c := cluster{host: int64(entry & hostMask)}
	if c.host == 0 && entry&copied != 0 {
		return cluster{}, malformed(at, "L2 entry %#016x refers to the header", entry)
	}
	if err := q.checkHost(c.host, at); err != nil {
		return cluster{}, err
	}
	switch {
	case q.h.ExtendedL2:
		c.data, c.zero = uint32(subs), uint32(subs>>32)
		if c.data&c.zero != 0 || c.data != 0 && c.host == 0 {
			return cluster{}, malformed(at, "subclusters %#016x are data and zero at once, or data nowhere", subs)
		}
	case entry&zeroFlag != 0:
		c.zero = allSubs
	case c.host != 0:
		c.data = allSubs
	}
	return c, nil
}

// checkHost refuses a cluster that does not begin in the file. One that ends
// outside is what QEMU writes at the end of a file; there it reads as zeros.
// QEMU reads any cluster outside as zeros, and its check reports it; here it
// would make a good backup of a truncated file.
func (q *Reader) checkHost(host, at int64) error {
	if host%q.ClusterSize() != 0 {
		return malformed(at, "the data cluster at %d does not begin at a cluster's beginning", host)
	}
	if host >= q.fileSize && host != 0 {
		return malformed(at, "the data cluster at %d lies outside the file of %d bytes: is the file complete?", host, q.fileSize)
	}
	return nil
}

// decodePacked reads the entry of a compressed cluster: above the place in the
// file, cluster_bits-8 bits with the number of sectors after the first.
func (q *Reader) decodePacked(entry uint64, at int64) (cluster, error) {
	shift := 62 - (bits.TrailingZeros64(uint64(q.ClusterSize())) - 8)
	start := entry & (1<<shift - 1)
	if start >= uint64(q.fileSize) {
		return cluster{}, malformed(at, "the compressed cluster at %d lies outside the file of %d bytes: is the file complete?", start, q.fileSize)
	}
	if start < uint64(q.ClusterSize()) {
		return cluster{}, malformed(at, "the compressed cluster at %d overlaps the header", start)
	}
	sectors := int64(entry&^packed>>shift) + 1
	c := cluster{host: int64(start)}
	c.packed = sectors*sectorSize - c.host%sectorSize
	if c.host+c.packed-q.fileSize >= q.ClusterSize() {
		return cluster{}, malformed(at, "the compressed cluster, %d bytes at %d, ends outside the file of %d bytes: is the file complete?", c.packed, start, q.fileSize)
	}
	return c, nil
}

// part returns the kind of subcluster i and how many after it, itself included,
// are of the same kind.
func (c cluster) part(i int) (Kind, int) {
	run := func(set uint32) int { return min(subclusters-i, bits.TrailingZeros32(^(set >> i))) }
	switch bit := uint32(1) << i; {
	case c.packed != 0:
		return Compressed, subclusters - i
	case c.data&bit != 0:
		return Data, run(c.data)
	case c.zero&bit != 0:
		return Zero, run(c.zero)
	}
	return Unallocated, run(^(c.data | c.zero))
}
