package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// VMs returns every VM that has a live point, by name.
func (c *Catalog) VMs() (vms []VM, err error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	err = eachVM(c.db, func(v *VM) error {
		vms = append(vms, *v)
		return nil
	})
	return vms, err
}

// Points returns the live points of a VM, of all VMs when vm is "", oldest first.
// There are none for a VM that is not here.
func (c *Catalog) Points(vm string) (points []Point, err error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	err = eachPoint(c.db, vm, func(p *Point) error {
		points = append(points, *p)
		return nil
	})
	if vm == "" {
		slices.SortFunc(points, func(a, b Point) int { return a.Time.Compare(b.Time) })
	}
	return points, err
}

// Point returns the point of an id, live or in the trash.
func (c *Catalog) Point(id string) (Point, error) {
	if err := c.enter(); err != nil {
		return Point{}, err
	}
	defer c.leave()
	snap := c.db.NewSnapshot() // it may be on its way to the trash
	defer snap.Close()
	_, p, err := getPoint(snap, id)
	return p, err
}

// Latest returns the newest point of vm that has the disk, of any disk when
// disk is "", and whether there is one.
func (c *Catalog) Latest(vm, disk string) (Point, bool, error) {
	if err := c.enter(); err != nil {
		return Point{}, false, err
	}
	defer c.leave()
	snap := c.db.NewSnapshot()
	defer snap.Close()
	v, err := getVM(snap, vm)
	if err != nil || v.Points == 0 {
		return Point{}, false, err
	}
	id, at := v.Latest, place{time: v.LatestTime, vm: vm}
	if disk != "" {
		i := slices.IndexFunc(v.Disks, func(d VMDisk) bool { return d.Disk == disk })
		if i < 0 {
			return Point{}, false, nil
		}
		id, at.time = v.Disks[i].Point, v.Disks[i].Time
	}
	p, err := pointAt(snap, id, at)
	return p, err == nil, err
}

// Blob returns the bytes of a blob, checked against its hash.
func (c *Catalog) Blob(pointID, name string) ([]byte, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	snap := c.db.NewSnapshot()
	defer snap.Close()
	_, p, err := getPoint(snap, pointID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.Blobs, func(b BlobInfo) bool { return b.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("blob %s of point %s %w: the point has %s", name, pointID, ErrNotFound, p.blobNames())
	}
	b, err := get(snap, blobKey(pointID, name))
	if err != nil {
		return nil, missing(err, "blob %s of point %s", name, pointID)
	}
	if sha256.Sum256(b) != p.Blobs[i].Hash {
		return nil, damaged(fmt.Sprintf("blob %s of point %s", name, pointID), errors.New("its hash is wrong"))
	}
	return b, nil
}

// ChunkList returns the numbers of all chunks of an image, or of a file by its
// FileKey, in disk order, until its point is forgotten. The caller may keep and
// change it.
func (c *Catalog) ChunkList(pointID, disk string) ([]ChunkNo, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	v, closer, err := c.db.Get(imageKey(pointID, disk))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, c.noImage(pointID, disk)
	}
	if err != nil {
		return nil, missing(err, "image of %s at point %s", partName(disk), pointID)
	}
	defer closer.Close()
	list, err := decodeChunkList(v)
	if err != nil {
		return nil, damaged(fmt.Sprintf("%s at point %s", partName(disk), pointID), err)
	}
	return list, nil
}

// noImage says whether the point or only the disk is missing.
func (c *Catalog) noImage(pointID, disk string) error {
	snap := c.db.NewSnapshot()
	defer snap.Close()
	_, p, err := getPoint(snap, pointID)
	if err != nil {
		return err
	}
	return p.lacks(disk)
}

func (p *Point) lacks(disk string) error {
	if _, file := IsFileKey(disk); file {
		return fmt.Errorf("%s of VM %s at point %s %w: the point has %d files", partName(disk), p.VM, p.ID, ErrNotFound, len(p.Files))
	}
	return fmt.Errorf("disk %s of VM %s at point %s %w: the point has %s", disk, p.VM, p.ID, ErrNotFound, p.diskNames())
}

func (p *Point) diskNames() string {
	if len(p.Images) == 0 {
		return "none"
	}
	names := make([]string, len(p.Images))
	for i, im := range p.Images {
		names[i] = im.Disk
	}
	return strings.Join(names, ", ")
}

func (p *Point) blobNames() string {
	if len(p.Blobs) == 0 {
		return "none"
	}
	names := make([]string, len(p.Blobs))
	for i, b := range p.Blobs {
		names[i] = b.Name
	}
	return strings.Join(names, ", ")
}

// Chunk returns a chunk record. It is shared: the caller must not change it.
// Number 0, the chunk of zeros, has no record.
func (c *Catalog) Chunk(n ChunkNo) (*Chunk, error) {
	if k := c.chunks.get(n); k != nil {
		return k, nil
	}
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	v, closer, err := c.db.Get(chunkKey(n))
	if err != nil {
		return nil, missing(err, "chunk %d", n)
	}
	defer closer.Close()
	k, err := decodeChunk(v)
	if err != nil {
		return nil, damaged(fmt.Sprintf("chunk %d", n), err)
	}
	c.chunks.put(n, k)
	return k, nil
}
