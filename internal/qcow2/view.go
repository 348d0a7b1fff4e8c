package qcow2

import (
	"fmt"
	"io"
	"strings"
)

// ViewOptions say what the virtual file shows.
type ViewOptions struct {
	Size int64 // of the disk in bytes; shown rounded up to a sector of 512
	// Backing is the name of the backing file, a qcow2 file too, 1023 bytes at most.
	// Empty: the file is flat, and zeros are simply not in it.
	Backing string
	// Source is the content of the whole disk, safe for concurrent use.
	Source io.ReaderAt
	// Extents calls yield for the pieces of the disk that are in this file, Data or
	// Zero, ascending and not overlapping, until it returns false. What is in no
	// extent shows the backing file's content, or reads as zeros. Clusters that are
	// in the file in part only are taken from Source whole. Called once, by NewView.
	Extents func(yield func(off, n int64, kind Kind) bool) error
}

// View is a qcow2 file that exists nowhere: its bytes are made as they are
// read. It is immutable and safe for concurrent use. Memory as of clusters.
type View struct {
	l      *layout
	disk   int64 // bytes Source has
	source io.ReaderAt
}

// NewView lays out the file. Errors are of Extents, or tell what of the options
// is wrong.
func NewView(o ViewOptions) (*View, error) {
	if o.Size < 0 || o.Size > sizeMax {
		return nil, fmt.Errorf("a qcow2 image cannot have %d bytes: the limit is %d", o.Size, sizeMax)
	}
	if len(o.Backing) > backingNameMax || strings.IndexByte(o.Backing, 0) >= 0 {
		return nil, fmt.Errorf("backing file name %.60q: want %d bytes at most, none of them zero", o.Backing, backingNameMax)
	}
	b := viewBuilder{size: o.Size, layer: o.Backing != ""}
	if err := o.Extents(b.extent); err != nil {
		return nil, err
	}
	b.flush()
	if b.err != nil {
		return nil, b.err
	}
	size := divUp(o.Size, sectorSize) * sectorSize
	return &View{newLayout(size, o.Backing, b.clusters), o.Size, o.Source}, nil
}

// viewBuilder turns extents into clusters.
type viewBuilder struct {
	clusters clusters
	size     int64
	layer    bool // there is a backing file
	err      error

	// The extents to be marked next, neighbours of one kind.
	kind     Kind
	from, to int64
}

// extent takes one from the options' Extents.
func (b *viewBuilder) extent(off, n int64, kind Kind) bool {
	if b.err = checkExtent(off, n, b.to, b.size); b.err != nil {
		return false
	}
	if kind != Data && kind != Zero {
		b.err = fmt.Errorf("an extent of a qcow2 file is data or zero, not %v", kind)
		return false
	}
	if off != b.to || kind != b.kind {
		b.flush()
		b.from, b.kind = off, kind
	}
	b.to = off + n
	return true
}

// flush marks the clusters of the extents gathered.
func (b *viewBuilder) flush() {
	if b.from == b.to {
		return
	}
	first, last := b.from/ClusterSize, (b.to-1)/ClusterSize
	switch {
	case b.kind == Data:
		b.clusters.add(Data, first, last)
	case b.layer:
		b.flushZero(first, last)
	}
}

// flushZero marks the clusters that are zero as a whole. Of the first and the
// last the rest may be anything: they are data.
func (b *viewBuilder) flushZero(first, last int64) {
	if b.from%ClusterSize != 0 {
		b.clusters.add(Data, first, first)
		first++
	}
	cut := b.to%ClusterSize != 0 && b.to != b.size
	if cut {
		last--
	}
	b.clusters.add(Zero, first, last)
	if cut {
		b.clusters.add(Data, max(first, last+1), last+1)
	}
}

// Size is the length of the file in bytes.
func (v *View) Size() int64 { return v.l.total * ClusterSize }

// ReadAt reads bytes of the file. Those of the disk come from Source, in pieces
// as long as what is contiguous in both. Errors are Source's.
func (v *View) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d of a qcow2 file: the offset is negative", off)
	}
	want := min(int64(len(p)), max(0, v.Size()-off))
	done := int64(0)
	for done < want {
		n, err := v.readPiece(p[done:want], off+done)
		if err != nil {
			return int(done), err
		}
		done += n
	}
	if done < int64(len(p)) {
		return int(done), io.EOF
	}
	return int(done), nil
}

// readPiece fills the beginning of p and returns how much of it.
func (v *View) readPiece(p []byte, off int64) (int64, error) {
	start := v.l.first * ClusterSize
	if off < start {
		n := min(int64(len(p)), start-off)
		v.l.fill(p[:n], off)
		return n, nil
	}
	cluster, in := v.l.at(off/ClusterSize-v.l.first), off%ClusterSize
	run := v.l.run(cluster, divUp(in+int64(len(p)), ClusterSize))
	n := min(int64(len(p)), run*ClusterSize-in)
	at := cluster*ClusterSize + in
	have := max(0, min(n, v.disk-at))
	clear(p[have:n])
	if have == 0 {
		return n, nil
	}
	if got, err := v.source.ReadAt(p[:have], at); int64(got) < have {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("read %d bytes of the disk at %d: %w", have, at, err)
	}
	return n, nil
}
