package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/internal/vma"
	"github.com/strongroom-backup/strongroom/server/api"
)

// stdoutName as --output is standard output.
const stdoutName = "-"

// restoreJob is a restore with everything decided.
type restoreJob struct {
	client   *api.Client
	point    api.Point
	disks    []api.Image
	chains   map[string][]restore.Layer // by disk, with --chain
	source   *api.File                  // instead of disks
	dir      string                     // of the disks and blobs; empty: one disk to file
	file     string                     // or stdoutName
	blobs    bool
	format   restore.Format
	force    bool
	verify   bool
	nbd      nbdclient.Target // without the export
	manifest string           // path; empty: none
	record   restore.Manifest
	stdout   io.Writer
	bar      *progressbar.ProgressBar
}

func (j *restoreJob) run(ctx context.Context) (r restored, err error) {
	r = restored{Point: j.point.Point, VM: j.point.VM, Disks: []restoredDisk{}, Manifest: j.manifest, Verified: j.verify}
	if j.dir != "" && !(j.chains != nil && len(j.disks) == 1) { // a chain makes its own
		if err := os.MkdirAll(j.dir, 0o700); err != nil {
			return r, err
		}
	}
	switch {
	case j.source != nil:
		err = j.restoreFile(ctx, &r)
	case j.format == restore.VMA:
		err = j.restoreArchive(ctx, &r)
	default:
		err = j.restoreDisks(ctx, &r)
	}
	if err == nil && j.manifest != "" {
		err = j.writeManifest()
	}
	return r, err
}

func (j *restoreJob) restoreDisks(ctx context.Context, r *restored) error {
	for _, image := range j.disks {
		do := j.restoreDisk
		if j.chains != nil {
			do = j.restoreChain
		}
		d, err := do(ctx, image)
		if err != nil {
			return fmt.Errorf("disk %s of %s@%s: %w", image.Disk, j.point.VM, j.point.Point, err)
		}
		r.Disks = append(r.Disks, d)
	}
	if !j.blobs {
		return nil
	}
	for _, b := range j.point.Blobs {
		path := filepath.Join(j.dir, b.Name)
		if err := j.restoreBlob(ctx, b, path); err != nil {
			return fmt.Errorf("blob %s of %s@%s: %w", b.Name, j.point.VM, j.point.Point, err)
		}
		r.Blobs = append(r.Blobs, path)
	}
	return nil
}

// target is the export of a disk at a point.
func (j *restoreJob) target(disk, point string) nbdclient.Target {
	t := j.nbd
	t.Export = j.point.VM + "/" + disk + "@" + point
	return t
}

// events moves the progress bar.
func (j *restoreJob) events(what string) (e restore.Events) {
	if j.bar == nil {
		return e
	}
	e.Begin = func(step string, n int64) {
		j.bar.Describe(step + " " + what)
		j.bar.Reset()
		j.bar.ChangeMax64(max(n, 1))
	}
	e.Progress = func(n int64) { j.bar.Add64(n) }
	return e
}

func (j *restoreJob) restoreDisk(ctx context.Context, image api.Image) (restoredDisk, error) {
	d := restore.Disk{
		Target: j.target(image.Disk, j.point.Point), Size: image.Size, Output: j.diskPath(image.Disk), Format: j.format,
		Force: j.force, Verify: j.verify, Events: j.events(image.Disk),
	}
	var r restore.Result
	var err error
	if d.Output == stdoutName {
		r, err = d.Stream(ctx, j.stdout)
	} else {
		r, err = d.Run(ctx)
	}
	if err != nil {
		return restoredDisk{}, err
	}
	j.record.Disks = append(j.record.Disks, restore.ManifestDisk{
		Disk: image.Disk, Size: image.Size, Format: j.format, File: j.nameOf(d.Output), ManifestHash: restore.NewManifestHash(r.Hash),
	})
	return restoredDisk{Disk: image.Disk, Size: image.Size, Data: r.Data, Format: string(j.format), File: d.Output, Root: r.Hash.Root.String()}, nil
}

func (j *restoreJob) restoreBlob(ctx context.Context, b api.BlobInfo, path string) error {
	data, err := j.blob(ctx, b)
	if err != nil {
		return err
	}
	j.record.Blobs = append(j.record.Blobs, restore.ManifestBlob{Name: b.Name, File: j.nameOf(path), Size: b.Size, SHA256: b.SHA256})
	return restore.WriteFile(path, data, j.force)
}

// blob fetches and checks a blob.
func (j *restoreJob) blob(ctx context.Context, b api.BlobInfo) ([]byte, error) {
	data, err := j.client.Blob(ctx, j.point.Point, b.Name)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != b.SHA256 {
		return nil, &restore.DamageError{Err: fmt.Errorf("the server sent %d bytes that are not what the point says", len(data))}
	}
	return data, nil
}

// restoreArchive writes all disks and blobs into one archive.
func (j *restoreJob) restoreArchive(ctx context.Context, r *restored) error {
	a := restore.Archive{Created: j.point.Time, Output: j.file, Force: j.force, Verify: j.verify, Events: j.events(j.point.VM)}
	for _, d := range j.disks {
		a.Disks = append(a.Disks, restore.ArchiveDisk{Name: d.Disk, Target: j.target(d.Disk, j.point.Point), Size: d.Size})
	}
	if j.blobs {
		for _, b := range j.point.Blobs {
			data, err := j.blob(ctx, b)
			if err != nil {
				return fmt.Errorf("blob %s of %s@%s: %w", b.Name, j.point.VM, j.point.Point, err)
			}
			a.Blobs = append(a.Blobs, vma.Config{Name: b.Name, Data: data})
			j.record.Blobs = append(j.record.Blobs, restore.ManifestBlob{Name: b.Name, File: j.nameOf(j.file), Size: b.Size, SHA256: b.SHA256})
		}
	}
	var list []restore.Result
	var err error
	if j.file == stdoutName {
		list, err = a.Stream(ctx, j.stdout)
	} else {
		list, err = a.Run(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s@%s: %w", j.point.VM, j.point.Point, err)
	}
	for i, d := range j.disks {
		h := list[i].Hash
		j.record.Disks = append(j.record.Disks, restore.ManifestDisk{
			Disk: d.Disk, Size: d.Size, Format: restore.VMA, File: j.nameOf(j.file), ManifestHash: restore.NewManifestHash(h),
		})
		r.Disks = append(r.Disks, restoredDisk{Disk: d.Disk, Size: d.Size, Data: list[i].Data, Format: string(restore.VMA), File: j.file, Root: h.Root.String()})
	}
	return nil
}

// nameOf is a file's name in the manifest: relative to its directory when it lies
// there, else absolute.
func (j *restoreJob) nameOf(path string) string {
	if j.manifest == "" {
		return ""
	}
	if path == stdoutName {
		return streamedName(j.manifest)
	}
	file, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if dir, err := filepath.Abs(filepath.Dir(j.manifest)); err == nil {
		if name, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(name) {
			return name
		}
	}
	return file
}

func (j *restoreJob) writeManifest() error {
	j.record.Point, j.record.VM, j.record.Time = j.point.Point, j.point.VM, j.point.Time
	j.record.Restored = time.Now().UTC()
	return restore.WriteManifest(j.manifest, &j.record, j.force || j.outdated())
}
