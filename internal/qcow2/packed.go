package qcow2

import (
	"slices"
	"sync"
)

// unpacked keeps the clusters decompressed last, for reads of parts of them.
type unpacked struct {
	mu       sync.Mutex
	clusters []unpackedCluster
}

type unpackedCluster struct {
	host int64
	data []byte // never changed
}

func (u *unpacked) get(host int64) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.clusters {
		if c.host == host {
			return c.data
		}
	}
	return nil
}

func (u *unpacked) put(host int64, data []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.clusters) == unpackedClusters {
		u.clusters = slices.Delete(u.clusters, 0, 1)
	}
	u.clusters = append(u.clusters, unpackedCluster{host, data})
}

// readPacked fills p from byte in of the compressed cluster c.
func (q *Reader) readPacked(p []byte, c cluster, in int64) error {
	if int64(len(p)) == q.ClusterSize() {
		return q.unpackTo(p, c)
	}
	data := q.recent.get(c.host)
	if data == nil {
		data = make([]byte, q.ClusterSize())
		if err := q.unpackTo(data, c); err != nil {
			return err
		}
		q.recent.put(c.host, data)
	}
	copy(p, data[in:])
	return nil
}

// unpackTo decompresses c into p, which has the length of a cluster. What is
// beyond the file's end counts as zeros, as for QEMU.
func (q *Reader) unpackTo(p []byte, c cluster) error {
	buf := q.unpack.source()
	defer q.unpack.sources.Put(buf)
	from := (*buf)[:c.packed]
	have := min(c.packed, q.fileSize-c.host)
	clear(from[have:])
	if err := readFull(q.file, from[:have], c.host); err != nil {
		return err
	}
	if err := q.unpack.one(p, from); err != nil {
		return malformed(c.host, "the compressed cluster there, %d bytes: %v", c.packed, err)
	}
	return nil
}
