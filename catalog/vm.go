package catalog

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// VM sums up a VM's points. A VM is here as long as it has a point.
type VM struct {
	Name         string
	Points       int
	Images       int       // of disks; files are not counted
	LogicalBytes int64     // sizes of all images, and of the files not understood as one
	Latest       string    // id of the newest point
	LatestTime   time.Time // its commit time
	Disks        []VMDisk  // sorted by name: every disk some point has
}

// VMDisk is the newest image of one disk of a VM.
type VMDisk struct {
	Disk  string
	Size  int64
	Point string
	Time  time.Time // the point's commit time
}

// LatestBytes is the size of the newest image of every disk.
func (v *VM) LatestBytes() (n int64) {
	for _, d := range v.Disks {
		n += d.Size
	}
	return n
}

// add counts a point that is newer than all the others.
func (v *VM) add(p *Point) {
	v.Points++
	v.Images += len(p.Images)
	v.Latest, v.LatestTime = p.ID, p.Time
	for i := range p.Files {
		if p.Files[i].Disk == "" {
			v.LogicalBytes = addCapped(v.LogicalBytes, p.Files[i].Size)
		}
	}
	for _, im := range p.Images {
		v.LogicalBytes += im.Size
		d := VMDisk{Disk: im.Disk, Size: im.Size, Point: p.ID, Time: p.Time}
		i, found := slices.BinarySearchFunc(v.Disks, im.Disk, func(d VMDisk, name string) int {
			return strings.Compare(d.Disk, name)
		})
		if found {
			v.Disks[i] = d
		} else {
			v.Disks = slices.Insert(v.Disks, i, d)
		}
	}
}

// appendVM encodes all but the name, which is in the key.
func appendVM(b []byte, v *VM) []byte {
	b = binary.AppendUvarint(b, uint64(v.Points))
	b = binary.AppendUvarint(b, uint64(v.Images))
	b = binary.AppendUvarint(b, uint64(v.LogicalBytes))
	b = appendString(b, v.Latest)
	b = appendTime(b, v.LatestTime)
	b = binary.AppendUvarint(b, uint64(len(v.Disks)))
	for _, d := range v.Disks {
		b = appendString(b, d.Disk)
		b = binary.AppendUvarint(b, uint64(d.Size))
		b = appendString(b, d.Point)
		b = appendTime(b, d.Time)
	}
	return b
}

func decodeVM(name string, b []byte) (VM, error) {
	d := decoder{b: b}
	v := VM{Name: name, Points: int(d.int64()), Images: int(d.int64()), LogicalBytes: d.int64()}
	v.Latest, v.LatestTime = d.string(maxName), d.time()
	n := d.size(uint64(len(d.b)))
	for i := uint64(0); i < n && !d.bad; i++ {
		v.Disks = append(v.Disks, VMDisk{Disk: d.string(maxName), Size: int64(d.size(MaxDiskSize)),
			Point: d.string(maxName), Time: d.time()})
	}
	return v, d.end()
}
