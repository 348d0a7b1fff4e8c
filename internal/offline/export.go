package offline

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/restore"
)

// ExportOptions say what goes where. Path or To is needed.
type ExportOptions struct {
	Disk   string         // needed when neither the reference nor the point leaves only one
	File   string         // a file's name: it is exported in place of a disk, byte for byte
	Format restore.Format // "" is raw, as files always are

	Path  string // of a file that appears when it is whole and synced
	Force bool   // replace one that is not empty

	To io.Writer // else: a pipe, which gets the whole disk or file, zeros included

	// IgnoreDamage writes zeros in place of what is damaged, and goes on.
	IgnoreDamage bool
	// NoVerify leaves out the hashes of chunks and image; blocks are verified
	// in any case.
	NoVerify bool

	// Begin is told the bytes of data that will be read, Progress each part of
	// them that has been written. Both may be nil.
	Begin    func(data int64)
	Progress func(n int64)
}

// Report says what was exported.
type Report struct {
	Point    string `json:"point"`
	VM       string `json:"vm"`
	Disk     string `json:"disk,omitempty"` // "" when it is a file
	File     string `json:"file,omitempty"`
	Size     int64  `json:"size"`       // of the disk or file, bytes
	Data     int64  `json:"data_bytes"` // of its content that is not known to be zeros
	Root     string `json:"root"`       // hash of the content, hex
	Verified bool   `json:"verified"`   // the content has this hash

	// What zeros were written for. Damage lists the first thousand parts.
	DamagedParts int64    `json:"damaged_parts"`
	DamagedBytes int64    `json:"damaged_bytes"`
	Damage       []Damage `json:"damage,omitempty"`
}

// Export writes the disk a reference names, or a file of that point. When it fails, Path is as it was.
// Damage is a *DamageError, unless IgnoreDamage puts it into the Report.
func (s *Store) Export(ctx context.Context, ref string, o ExportOptions) (Report, error) {
	p, disk, err := s.Find(ref)
	if err != nil {
		return Report{}, err
	}
	if disk != "" && o.Disk != "" && disk != o.Disk {
		return Report{}, fmt.Errorf("disk %s is not the disk %s of the reference %s", o.Disk, disk, ref)
	}
	if o.File != "" && (disk+o.Disk != "" || o.Format == restore.QCOW2) {
		return Report{}, fmt.Errorf("file %q is exported as it came: it goes with no disk and no format", o.File)
	}
	im, err := choose(&p, cmp.Or(disk, o.Disk), o.File)
	if err != nil {
		return Report{}, err
	}
	x := &export{s: s, o: o, point: &p, image: im}
	err = x.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	disk, file := x.names()
	r := Report{Point: p.ID, VM: p.VM, Disk: disk, File: file, Size: im.Size, Data: x.data, Root: hex.EncodeToString(im.Root[:]),
		Verified: err == nil && !o.NoVerify && x.found.count == 0, DamagedParts: x.found.count, DamagedBytes: x.found.bytes, Damage: x.found.list}
	return r, err
}

// export is one call of Export.
type export struct {
	s      *Store
	o      ExportOptions
	point  *catalog.Point
	image  catalog.Image // of a disk, or of a file by its key
	chunks []catalog.ChunkNo
	data   int64
	found  damages
}

func (x *export) run(ctx context.Context) (err error) {
	if x.chunks, err = x.s.cat.ChunkList(x.point.ID, x.image.Disk); err != nil {
		return err
	}
	data, err := x.extents()
	if err != nil {
		return err
	}
	for _, e := range data {
		x.data += e.Length
	}
	if x.o.Begin != nil {
		x.o.Begin(x.data)
	}
	t, err := x.newTarget(data)
	if err != nil {
		return err
	}
	err = x.copy(ctx, t)
	if err == nil {
		err = t.finish()
	}
	return errors.Join(err, t.close())
}

// names are those of what is exported; one is "".
func (x *export) names() (disk, file string) {
	if name, ok := catalog.IsFileKey(x.image.Disk); ok {
		return "", name
	}
	return x.image.Disk, ""
}

// damaged takes note of damage, or refuses to go on.
func (x *export) damaged(list ...Damage) error {
	if len(list) == 0 {
		return nil
	}
	if !x.o.IgnoreDamage {
		disk, file := x.names()
		return &DamageError{VM: x.point.VM, Disk: disk, File: file, Point: x.point.ID, Damage: list}
	}
	x.found.add(list...)
	return nil
}
