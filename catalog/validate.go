package catalog

import (
	"fmt"
	"unicode/utf8"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

const nameShape = "up to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit"

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// check finds everything wrong with a point that can be seen without the
// database.
func (p *NewPoint) check() error {
	switch {
	case !ids.IsID(p.ID):
		return invalid("point id %q: want 16 characters as made by ids.New", p.ID)
	case !ids.IsName(p.VM):
		return invalid("VM name %q: use %s", p.VM, nameShape)
	case len(p.Images) > MaxDisks || len(p.Files) > MaxFiles:
		return invalid("point %s of VM %s has %d disks and %d files; it may have %d and %d",
			p.ID, p.VM, len(p.Images), len(p.Files), MaxDisks, MaxFiles)
	case len(p.Images)+len(p.Files) == 0:
		return invalid("point %s of VM %s has neither a disk nor a file", p.ID, p.VM)
	}
	if err := CheckLabels(p.Labels); err != nil {
		return err
	}
	if err := CheckBlobs(p.Blobs); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range p.Images {
		im := &p.Images[i]
		if seen[im.Disk] {
			return invalid("VM %s has disk %q twice", p.VM, im.Disk)
		}
		seen[im.Disk] = true
		if err := im.check(); err != nil {
			return fmt.Errorf("VM %s, disk %q: %w", p.VM, im.Disk, err)
		}
	}
	return p.checkFiles(seen)
}

// checkFiles checks the files of a point with these disks.
func (p *NewPoint) checkFiles(disks map[string]bool) error {
	seen := map[string]bool{}
	for i := range p.Files {
		f := &p.Files[i]
		if seen[f.Name] {
			return invalid("VM %s has file %q twice", p.VM, f.Name)
		}
		seen[f.Name] = true
		if f.Disk != "" && !disks[f.Disk] {
			return invalid("VM %s, file %q: it was understood as disk %q, which the point has not", p.VM, f.Name, f.Disk)
		}
		if err := f.check(); err != nil {
			return fmt.Errorf("VM %s, file %q: %w", p.VM, f.Name, err)
		}
	}
	return nil
}

func (f *NewFile) check() error {
	if err := CheckFileName(f.Name); err != nil {
		return err
	}
	switch {
	case f.Size < 0 || f.Size > MaxDiskSize:
		return invalid("size %d: it may be 0 to 1 PiB", f.Size)
	case unixMilli(f.Modified) > maxTime:
		return invalid("modified in the year %d", f.Modified.Year())
	case min(f.WrittenBytes, f.NewBytes, f.StoredBytes) < 0:
		return invalid("a byte count is negative")
	}
	return checkRefs(f.Size, f.Chunks)
}

// CheckLabels tells whether labels may be kept with a point: at most MaxLabels,
// keys that are names, values of at most MaxLabelBytes of UTF-8.
func CheckLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return invalid("%d labels; a point keeps %d", len(labels), MaxLabels)
	}
	for k, v := range labels {
		switch {
		case !ids.IsName(k):
			return invalid("label name %q: use %s", k, nameShape)
		case len(v) > MaxLabelBytes || !utf8.ValidString(v):
			return invalid("label %s: a value is at most %d bytes of UTF-8", k, MaxLabelBytes)
		}
	}
	return nil
}

// CheckBlobs tells whether blobs may be kept with a point: at most MaxBlobs,
// of different names, MaxBlobBytes each and MaxPointBlobBytes together.
func CheckBlobs(blobs []Blob) error {
	if len(blobs) > MaxBlobs {
		return invalid("%d blobs; a point keeps %d", len(blobs), MaxBlobs)
	}
	total, seen := 0, map[string]bool{}
	for _, b := range blobs {
		switch {
		case !ids.IsName(b.Name):
			return invalid("blob name %q: use %s", b.Name, nameShape)
		case seen[b.Name]:
			return invalid("blob %s is there twice", b.Name)
		case len(b.Data) > MaxBlobBytes:
			return invalid("blob %s is %d bytes; it may be %d", b.Name, len(b.Data), MaxBlobBytes)
		}
		seen[b.Name] = true
		if total += len(b.Data); total > MaxPointBlobBytes {
			return invalid("the blobs of a point may be %d bytes together", MaxPointBlobBytes)
		}
	}
	return nil
}

func (im *NewImage) check() error {
	switch {
	case !ids.IsName(im.Disk):
		return invalid("disk name: use %s", nameShape)
	case im.Size <= 0 || im.Size > MaxDiskSize:
		return invalid("size %d: it may be 1 byte to 1 PiB", im.Size)
	case im.Mode != Full && im.Mode != Incremental:
		return invalid("mode %q: it is full or incremental", im.Mode)
	case im.Mode == Full && im.Parent != "":
		return invalid("a full image has no parent, but %q is named", im.Parent)
	case im.Mode == Incremental && !ids.IsID(im.Parent):
		return invalid("parent %q: an incremental image names its parent point's id", im.Parent)
	case im.Checkpoint != "" && !ids.IsName(im.Checkpoint):
		return invalid("checkpoint name %q: use %s", im.Checkpoint, nameShape)
	case min(im.WrittenBytes, im.ZeroedBytes, im.NewBytes, im.StoredBytes) < 0:
		return invalid("a byte count is negative")
	}
	return checkRefs(im.Size, im.Chunks)
}

// checkRefs tells whether chunks can be those of size bytes.
func checkRefs(size int64, chunks []ChunkRef) error {
	if int64(len(chunks)) != chunkCount(size) {
		return invalid("%d chunks for %d bytes, which take %d", len(chunks), size, chunkCount(size))
	}
	for i, ref := range chunks {
		if ref.New == nil {
			if ref.No > maxChunkNo {
				return invalid("chunk %d: number %d is impossible", i, ref.No)
			}
			continue
		}
		if want := chunkLength(size, i); ref.New.Length != want {
			return invalid("chunk %d covers %d bytes, it must cover %d", i, ref.New.Length, want)
		}
		if err := checkChunk(ref.New); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
	}
	return nil
}

// chunkCount is the number of chunks a disk of size bytes has.
func chunkCount(size int64) int64 { return (size + dedup.ChunkSize - 1) / dedup.ChunkSize }

// chunkLength is how many bytes chunk i of a disk covers.
func chunkLength(size int64, i int) uint32 {
	return uint32(min(dedup.ChunkSize, size-int64(i)*dedup.ChunkSize))
}

// checkChunk tells whether c is a record as types.go describes it.
func checkChunk(c *Chunk) error {
	if c.Length == 0 || c.Length > dedup.ChunkSize {
		return invalid("a chunk of %d bytes", c.Length)
	}
	if c.Hash == (dedup.Hash{}) && len(c.Runs) > 0 {
		return invalid("the hash of zeros for a chunk with data")
	}
	blocks := (int(c.Length) + dedup.BlockSize - 1) / dedup.BlockSize
	end, due := 0, dedup.Addr(0)
	for i, r := range c.Runs {
		start, count := int(r.Start), int(r.Count)
		switch {
		case count == 0 || start < end || start+count > blocks:
			return invalid("run %d (blocks %d+%d) overlaps the one before or reaches past block %d", i, start, count, blocks)
		case r.Addr.Pack() == 0 || r.Addr.Pack() >= 1<<40 || int(r.Addr.Slot())+count > 1<<16:
			return invalid("run %d: address %s for %d blocks is impossible", i, r.Addr, count)
		case i > 0 && start == end && r.Addr == due && r.Addr.Slot() != 0:
			return invalid("run %d continues the one before: runs are maximal", i)
		}
		end, due = start+count, r.Addr+dedup.Addr(count)
	}
	return nil
}
