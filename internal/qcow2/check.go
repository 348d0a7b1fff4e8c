package qcow2

import "encoding/binary"

// Check reads all tables that describe the disk and refuses an image that is not
// well formed:
//
//   - an offset that is not aligned, or outside the file; reserved bits that are set;
//   - a cluster of the file used twice, whether for data, tables, or the header;
//   - a compressed cluster on bytes of another, or on fewer bytes than any
//     cluster can be compressed to.
//
// So every byte of the file is the content of at most one place of the disk, and
// reading all of it decompresses no more than the format's own best ratio times
// the file's length. Tables of internal snapshots, entries for what is beyond
// the disk's end (saved machine states) and dirty bitmaps are not looked at,
// reference counts not believed: only the place of their blocks matters.
//
// Nothing is decompressed: compressed clusters are checked as they are read.
//
// Memory: up to two bits per cluster of the file, 256 MiB at most and much less
// for 64 KiB clusters (32 MiB for a file of 16 TiB); if there are compressed
// clusters, up to 33 MiB more for a while. Errors are as of Open. After a success
// further calls do nothing.
func (q *Reader) Check() error {
	if q.checked.Load() {
		return nil
	}
	if q.fileSize/q.ClusterSize() >= hostClustersMax {
		return unsupported("its file has %d bytes; the limit is %d for clusters of %d bytes", q.fileSize, hostClustersMax*q.ClusterSize(), q.ClusterSize())
	}
	c := &checker{q: q, use: newUsage(q.fileSize, q.ClusterSize()), starts: newStarts(q)}
	if err := c.run(); err != nil {
		return err
	}
	q.checked.Store(true)
	return nil
}

// checker is one Check.
type checker struct {
	q      *Reader
	use    *usage
	starts *starts
}

func (c *checker) run() error {
	q := c.q
	if err := c.take(0, 0, q.ClusterSize(), "header"); err != nil {
		return err
	}
	if err := c.take(40, q.h.l1, q.h.l1Entries*8, "L1 table"); err != nil {
		return err
	}
	if err := c.take(48, q.h.refcountTable, q.h.refcountLength, "refcount table"); err != nil {
		return err
	}
	if err := c.refcountBlocks(); err != nil {
		return err
	}
	err := q.scan(0, q.Size(), visitor{
		hole:    func(int64, int64) error { return nil },
		table:   func(at, host int64) error { return c.take(at, host, q.ClusterSize(), "L2 table") },
		cluster: func(x cluster, at, off, _ int64) error { return c.cluster(x, at) },
	})
	if err != nil {
		return err
	}
	return c.starts.check()
}

// take notes that what, which at refers to, is n bytes from off on.
func (c *checker) take(at, off, n int64, what string) error {
	if n > 0 && !c.use.take(off, n) {
		return malformed(at, "the %s at %d, %d bytes, is in a cluster used already", what, off, n)
	}
	return nil
}

func (c *checker) cluster(x cluster, at int64) error {
	switch {
	case x.packed != 0:
		if !c.use.share(x.host, x.packed) {
			return malformed(at, "the compressed cluster at %d, %d bytes, is in a cluster used already", x.host, x.packed)
		}
		if !c.starts.count(x.host) {
			return malformed(at, "too many compressed clusters begin near %d", x.host)
		}
	case x.host != 0:
		return c.take(at, x.host, c.q.ClusterSize(), "data cluster")
	}
	return nil
}

// refcountBlocks notes where the blocks are.
func (c *checker) refcountBlocks() error {
	q := c.q
	for at, end := q.h.refcountTable, q.h.refcountTable+q.h.refcountLength; at < end; {
		raw, err := q.tables.from(at)
		if err != nil {
			return err
		}
		for ; len(raw) >= 8 && at < end; raw, at = raw[8:], at+8 {
			block := binary.BigEndian.Uint64(raw)
			if block == 0 {
				continue
			}
			if block%uint64(q.ClusterSize()) != 0 || block >= uint64(q.fileSize) {
				return malformed(at, "the refcount block at %d does not begin at a cluster's beginning, or lies outside the file of %d bytes", block, q.fileSize)
			}
			if err := c.take(at, int64(block), q.ClusterSize(), "refcount block"); err != nil {
				return err
			}
		}
	}
	return nil
}
