package server

import (
	"encoding/hex"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/volume"
)

// Conversions from the engines' types to the API's. They are apart so that a
// change below never changes the contract by accident.

func receipt(r volume.Receipt) api.Receipt {
	out := api.Receipt{Point: r.Point, VM: r.VM, Time: r.Time, Images: []api.Image{}}
	for _, im := range r.Images {
		out.Images = append(out.Images, image(im.Image))
	}
	for _, f := range r.Files {
		out.Files = append(out.Files, file(f.FileImage, f.Root))
	}
	return out
}

func file(f catalog.FileImage, root string) api.File {
	return api.File{
		Name: f.Name, Size: f.Size, Modified: f.Modified.UTC(), Disk: f.Disk, Root: root,
		WrittenBytes: f.WrittenBytes, NewBytes: f.NewBytes, StoredBytes: f.StoredBytes,
	}
}

func backupFile(f volume.FileStatus) api.BackupFile {
	return api.BackupFile{
		Name: f.Name, Size: f.Size, Modified: f.Modified.UTC(), Unfinished: f.Unfinished, Lost: f.Lost,
		WrittenBytes: f.WrittenBytes, NewBytes: f.NewBytes, StoredBytes: f.StoredBytes,
	}
}

func image(im catalog.Image) api.Image {
	return api.Image{
		Disk: im.Disk, Size: im.Size, Mode: string(im.Mode), Parent: im.Parent, Root: hex.EncodeToString(im.Root[:]),
		Checkpoint: im.Checkpoint, WrittenBytes: im.WrittenBytes, ZeroedBytes: im.ZeroedBytes,
		NewBytes: im.NewBytes, StoredBytes: im.StoredBytes,
	}
}

// DescribePoint is a point as the API has it.
func DescribePoint(p catalog.Point) api.Point { return point(p) }

func point(p catalog.Point) api.Point {
	out := api.Point{
		Point: p.ID, VM: p.VM, Time: p.Time, Started: p.Start, Labels: p.Labels, Images: []api.Image{},
		Manual: p.Manual, Sealed: p.Sealed, Hold: p.Hold, LockedUntil: p.LockedUntil, Trashed: p.Trashed, Purge: p.Purge,
	}
	for _, im := range p.Images {
		out.Images = append(out.Images, image(im))
	}
	for _, f := range p.Files {
		out.Files = append(out.Files, file(f, hex.EncodeToString(f.Root[:])))
	}
	for _, b := range p.Blobs {
		out.Blobs = append(out.Blobs, api.BlobInfo{Name: b.Name, Size: b.Size, SHA256: hex.EncodeToString(b.Hash[:])})
	}
	return out
}

func machine(v catalog.VM) api.VM {
	out := api.VM{
		VM: v.Name, Points: v.Points, Images: v.Images, LogicalBytes: v.LogicalBytes,
		Latest: v.Latest, Time: v.LatestTime, Disks: []api.VMDisk{},
	}
	for _, d := range v.Disks {
		out.Disks = append(out.Disks, api.VMDisk{Disk: d.Disk, Size: d.Size, Point: d.Point, Time: d.Time})
	}
	return out
}

// putBytes is all that was put into the store, zeros and duplicates included.
func putBytes(s dedup.Stats) int64 {
	return (s.Put.Zero + s.Put.Hint + s.Put.Recent + s.Put.Index + s.Put.New) * dedup.BlockSize
}
