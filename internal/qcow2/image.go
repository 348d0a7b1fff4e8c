package qcow2

import (
	"fmt"
	"io"
)

// Extent is a run of bytes of the disk that hold data.
type Extent struct{ Offset, Length int64 }

// Image is the plan of a file to be written. It is immutable.
type Image struct{ l *layout }

// Plan lays out a disk of size bytes, a multiple of 512, whose data is in the
// given extents: ascending, not overlapping, within the disk.
func Plan(size int64, data []Extent) (*Image, error) {
	if size < 0 || size > sizeMax || size%sectorSize != 0 {
		return nil, fmt.Errorf("a qcow2 image cannot have %d bytes: want a multiple of %d up to %d", size, sectorSize, sizeMax)
	}
	var c clusters
	end := int64(0)
	for _, e := range data {
		if err := checkExtent(e.Offset, e.Length, end, size); err != nil {
			return nil, err
		}
		end = e.Offset + e.Length
		c.add(Data, e.Offset>>clusterBits, (end-1)>>clusterBits)
	}
	return &Image{newLayout(size, "", c)}, nil
}

// FileSize is the length the file must be given, in bytes.
func (m *Image) FileSize() int64 { return m.l.total * ClusterSize }

// DataStart is the byte of the file at which the data clusters begin; they
// follow in the order of the disk, and everything WriteMetadata writes lies
// before them.
func (m *Image) DataStart() int64 { return m.l.first * ClusterSize }

// WriteAt writes p, disk content at off, to its place in w. p must lie within
// the extents planned; the rest of their first and last clusters must read as
// zeros in w. Safe for concurrent use when w is.
func (m *Image) WriteAt(w io.WriterAt, p []byte, off int64) error { return m.l.writeAt(w, p, off) }

// WriteMetadata writes everything but the data clusters.
func (m *Image) WriteMetadata(w io.WriterAt) error { return m.l.writeMetadata(w) }
