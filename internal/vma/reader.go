package vma

import (
	"encoding/binary"
	"io"
	"math/bits"
)

// Reader reads an archive as it comes. It refuses whatever is not as the format
// says, with a *FormatError; errors of the stream are passed on.
type Reader struct {
	r       io.Reader
	header  Header
	devices [256]*read
	at      int64 // bytes of the stream that were read
	start   int64 // of the extent at hand
	extent  [extentHeader]byte
	slot    int    // the next of the extent's
	data    []byte // blocks of the extent that have not been handed out
	buffer  []byte // data's beginning
	cluster []byte // one that is put together
	err     error
}

// read is a device and what has come of it.
type read struct {
	Device
	seen seen
	next int64 // of memory: the cluster that must come
}

// NewReader reads and checks the header.
func NewReader(r io.Reader) (*Reader, error) {
	h, n, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	a := &Reader{r: r, header: h, at: n, slot: slots}
	for _, d := range h.Devices {
		a.devices[d.ID] = &read{Device: d}
	}
	return a, nil
}

// Header is what the archive says it holds.
func (r *Reader) Header() Header { return r.header }

// Read is how many bytes of the stream have been read.
func (r *Reader) Read() int64 { return r.at }

// Next returns the next cluster, in the archive's order: data, up to the device's
// end, or zero and no data. data is valid until the next call. io.EOF comes only
// when every cluster of every device has come exactly once and nothing follows.
func (r *Reader) Next() (dev uint8, off int64, data []byte, zero bool, err error) {
	for r.err == nil {
		if r.slot == slots {
			r.err = r.readExtent()
			continue
		}
		info := binary.BigEndian.Uint64(r.extent[40+8*r.slot:])
		r.slot++
		if dev = uint8(info >> 32); dev == 0 {
			continue
		}
		cluster, mask := uint32(info), uint16(info>>48)
		if r.err = r.take(r.devices[dev], dev, cluster, mask); r.err != nil {
			break
		}
		off = int64(cluster) * ClusterSize
		return dev, off, r.blocks(r.devices[dev], off, mask), mask == 0, nil
	}
	return 0, 0, nil, false, r.err
}

// take checks that the cluster may come now.
func (r *Reader) take(d *read, dev uint8, cluster uint32, mask uint16) error {
	at := r.start + 40 + 8*int64(r.slot-1)
	switch {
	case d == nil:
		return malformed(at, "a cluster of device %d, which the header does not name", dev)
	case d.Memory():
		if int64(cluster) != d.next {
			return malformed(at, "cluster %d of %s comes where %d must", cluster, d.Name, d.next)
		}
		d.next++
		return nil
	case int64(cluster) >= d.clusters():
		return malformed(at, "cluster %d of %q, which ends at %d bytes", cluster, d.Name, d.Size)
	case int64(bits.Len16(mask)-1)*BlockSize >= d.Size-int64(cluster)*ClusterSize:
		return malformed(at, "cluster %d of %q has blocks beyond the device's end at %d bytes", cluster, d.Name, d.Size)
	case !d.seen.add(cluster):
		return malformed(at, "cluster %d of %q comes twice", cluster, d.Name)
	}
	return nil
}

// blocks hands out a cluster's data. Padding is cut off, whatever it holds.
func (r *Reader) blocks(d *read, off int64, mask uint16) []byte {
	if mask == 0 {
		return nil
	}
	n := int64(ClusterSize)
	if !d.Memory() {
		n = min(n, d.Size-off)
	}
	if mask == 1<<16-1 {
		data := r.data[:n]
		r.data = r.data[ClusterSize:]
		return data
	}
	if r.cluster == nil {
		r.cluster = make([]byte, ClusterSize)
	}
	for i := range ClusterSize / BlockSize {
		block := r.cluster[i*BlockSize:][:BlockSize]
		if mask>>i&1 == 0 {
			clear(block)
			continue
		}
		copy(block, r.data)
		r.data = r.data[BlockSize:]
	}
	return r.cluster[:n]
}

// readExtent reads and checks an extent. At the end of the stream it is io.EOF if
// all is there.
func (r *Reader) readExtent() error {
	r.start = r.at
	switch n, err := io.ReadFull(r.r, r.extent[:1]); {
	case n == 0 && err == io.EOF:
		return r.complete()
	case err != nil:
		return readFull(errorReader{err}, r.extent[:1], r.at, "data")
	}
	if err := readFull(r.r, r.extent[1:], r.at+1, "data"); err != nil {
		return err
	}
	blocks, err := r.checkExtent()
	if err != nil {
		return err
	}
	r.at += extentHeader
	r.slot = 0
	if n := blocks * BlockSize; n > cap(r.buffer) {
		r.buffer = make([]byte, n)
	}
	r.data = r.buffer[:blocks*BlockSize]
	if err := readFull(r.r, r.data, r.at, "data"); err != nil {
		return err
	}
	r.at += int64(len(r.data))
	return nil
}

// checkExtent checks an extent's header and says how many blocks follow.
func (r *Reader) checkExtent() (blocks int, err error) {
	b := r.extent[:]
	if string(b[:4]) != extentMagic {
		return 0, malformed(r.start, "neither data nor the archive's end")
	}
	if !sumRight(b, 24) {
		return 0, malformed(r.start+24, "a checksum is wrong: the archive is damaged")
	}
	if string(b[8:24]) != string(r.header.UUID[:]) {
		return 0, malformed(r.start+8, "what follows belongs to another archive")
	}
	be := binary.BigEndian
	for i := range slots {
		info := be.Uint64(b[40+8*i:])
		if uint8(info>>32) == 0 && info != 0 {
			return 0, malformed(r.start+40+8*int64(i), "a cluster without a device")
		}
		blocks += bits.OnesCount16(uint16(info >> 48))
	}
	if n := int(be.Uint16(b[6:])); n != blocks {
		return 0, malformed(r.start+6, "%d blocks follow, but the clusters have %d", n, blocks)
	}
	return blocks, nil
}

// complete is io.EOF when nothing is missing.
func (r *Reader) complete() error {
	for _, d := range r.devices {
		if d != nil && !d.Memory() && d.seen.count < d.clusters() {
			return malformed(r.at, "the archive ends, but cluster %d of %q is missing: it is not complete", d.seen.missing(), d.Name)
		}
	}
	return io.EOF
}

// errorReader fails.
type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }
