package catalog

import (
	"encoding/binary"
	"maps"
	"slices"
)

// Modes as stored.
const (
	modeFull        = 0
	modeIncremental = 1
)

// appendPoint encodes a point: id, VM, commit time, start (Unix milliseconds),
// labels sorted by key, files and images, blobs.
func appendPoint(b []byte, p *Point) []byte {
	b = appendString(b, p.ID)
	b = appendString(b, p.VM)
	b = appendTime(b, p.Time)
	b = appendTime(b, p.Start)
	b = binary.AppendUvarint(b, uint64(len(p.Labels)))
	for _, k := range slices.Sorted(maps.Keys(p.Labels)) {
		b = appendString(b, k)
		b = appendString(b, p.Labels[k])
	}
	entries := p.entries()
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		b = appendImage(b, &entries[i])
	}
	b = binary.AppendUvarint(b, uint64(len(p.Blobs)))
	for _, f := range p.Blobs {
		b = appendString(b, f.Name)
		b = binary.AppendUvarint(b, uint64(f.Size))
		b = append(b, f.Hash[:]...)
	}
	return b
}

func appendImage(b []byte, im *Image) []byte {
	mode := byte(modeFull)
	if im.Mode == Incremental {
		mode = modeIncremental
	}
	b = appendString(b, im.Disk)
	b = binary.AppendUvarint(b, uint64(im.Size))
	b = append(b, mode)
	b = appendString(b, im.Parent)
	b = append(b, im.Root[:]...)
	b = appendString(b, im.Checkpoint)
	for _, n := range []int64{im.WrittenBytes, im.ZeroedBytes, im.NewBytes, im.StoredBytes} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func decodePoint(b []byte) (Point, error) {
	d := decoder{b: b}
	p := d.point()
	return p, d.end()
}

func (d *decoder) point() Point {
	p := Point{ID: d.string(maxName), VM: d.string(maxName), Time: d.time(), Start: d.time()}
	if n := d.size(MaxLabels); n > 0 {
		p.Labels = make(map[string]string, n)
		for range n {
			k := d.string(maxName)
			p.Labels[k] = d.string(MaxLabelBytes)
		}
	}
	for range d.size(MaxDisks + MaxFiles) {
		if d.bad {
			break
		}
		if p.addEntry(d.image()) != nil {
			d.fail()
		}
	}
	if len(p.Images) > MaxDisks || len(p.Files) > MaxFiles {
		d.fail()
	}
	for range d.size(MaxBlobs) {
		p.Blobs = append(p.Blobs, BlobInfo{Name: d.string(maxName), Size: int64(d.size(MaxBlobBytes)), Hash: d.hash()})
	}
	return p
}

func (d *decoder) image() Image {
	im := Image{Disk: d.string(maxPart), Size: int64(d.size(MaxDiskSize)), Mode: d.mode()}
	im.Parent = d.string(maxName)
	im.Root = d.hash()
	im.Checkpoint = d.string(maxName)
	for _, n := range []*int64{&im.WrittenBytes, &im.ZeroedBytes, &im.NewBytes, &im.StoredBytes} {
		*n = d.int64()
	}
	return im
}

func (d *decoder) mode() Mode {
	switch d.size(modeIncremental) {
	case modeFull:
		return Full
	default:
		return Incremental
	}
}
