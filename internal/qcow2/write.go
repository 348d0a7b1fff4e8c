package qcow2

import (
	"fmt"
	"io"
)

// WriteAt writes p, disk content at off, to its place in w, a file that becomes
// what the View shows. p must lie within data clusters; the rest of the last one
// must read as zeros in w. Safe for concurrent use when w is.
func (v *View) WriteAt(w io.WriterAt, p []byte, off int64) error { return v.l.writeAt(w, p, off) }

// WriteMetadata writes everything but the data clusters.
func (v *View) WriteMetadata(w io.WriterAt) error { return v.l.writeMetadata(w) }

// DataStart is the byte of the file at which the data clusters begin.
func (v *View) DataStart() int64 { return v.l.first * ClusterSize }

// Map calls yield for what the file has of the disk from off to end, multiples of
// ClusterSize, in order: Data, contiguous in the file too, and, when there is a
// backing file, Zero. The last cluster counts as a whole. If yield fails, Map ends
// with its error.
func (v *View) Map(off, end int64, yield func(Mapping) error) error {
	l := v.l
	first, stop := off/ClusterSize, end/ClusterSize
	for i := l.find(first / groupClusters); i < len(l.groups) && first < stop; i++ {
		g := &l.groups[i]
		base := g.number * groupClusters
		for in := max(first-base, 0); in < min(groupClusters, stop-base); {
			m := Mapping{Offset: (base + in) * ClusterSize}
			n := int64(1)
			switch {
			case g.data.has(in):
				n = min(g.data.run(in), stop-base-in)
				m.Kind, m.Host = Data, (l.first+g.before+g.data.rank(in))*ClusterSize
			case g.zero.has(in):
				for m.Kind = Zero; in+n < min(groupClusters, stop-base) && g.zero.has(in+n) && !g.data.has(in+n); n++ {
				}
			}
			m.Length = n * ClusterSize
			if in += n; m.Kind == Unallocated {
				continue
			}
			if err := yield(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *layout) writeAt(w io.WriterAt, p []byte, off int64) error {
	for len(p) > 0 {
		cluster, in := off/ClusterSize, off%ClusterSize
		place, ok := l.place(cluster)
		if !ok {
			return fmt.Errorf("data at %d is in no planned extent", off)
		}
		run := l.run(cluster, divUp(in+int64(len(p)), ClusterSize))
		n := min(int64(len(p)), run*ClusterSize-in)
		if _, err := w.WriteAt(p[:n], (l.first+place)*ClusterSize+in); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (l *layout) writeMetadata(w io.WriterAt) error {
	p := make([]byte, ClusterSize)
	for off := int64(0); off < l.first*ClusterSize; off += ClusterSize {
		l.fill(p, off)
		if _, err := w.WriteAt(p, off); err != nil {
			return err
		}
	}
	return nil
}
