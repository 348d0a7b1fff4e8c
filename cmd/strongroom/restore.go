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
	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newRestore(e *env) *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "write a point's disks, or one of its files, into files",
		ArgsUsage: "REF",
		Description: "One disk goes into the file --output names, or into that directory as DISK.raw or DISK.qcow2.\n" +
			"Several disks go into a directory, which is made, together with the point's blobs. Files appear\n" +
			"under their names when they are whole and synced. Raw files are sparse. --file gives back what came\n" +
			"over SFTP, byte for byte.\n\n" +
			"  strongroom restore web1@latest --file vda.qcow2 --output as-it-came.qcow2\n" +
			"  strongroom restore web1@latest --disk vda --output vda.qcow2 --format qcow2\n" +
			"  strongroom restore web1/vda@2026-11-20T10:00:00Z --output /tmp/vda.raw",
		Flags: clientFlags(
			&cli.StringFlag{Name: "disk", Usage: "`DISK` to restore (default: all)"},
			&cli.StringFlag{Name: "file", Usage: "the point's file `NAME` instead of disks"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` or directory to write"},
			&cli.StringFlag{Name: "format", Value: "raw", Usage: "`FORMAT` raw or qcow2"},
			&cli.BoolFlag{Name: "force", Usage: "replace files that exist and are not empty"},
		),
		Action: func(c *cli.Context) error { return runRestore(e, c) },
	}
}

// restored is the answer of a restore, and its JSON.
type restored struct {
	Point string         `json:"point"`
	VM    string         `json:"vm"`
	Disks []restoredDisk `json:"disks"`
	File  *restoredFile  `json:"file,omitempty"`
	Blobs []string       `json:"blobs,omitempty"` // paths
}

type restoredDisk struct {
	Disk   string `json:"disk"`
	Size   int64  `json:"size"`
	Data   int64  `json:"data_bytes"` // read from the server; the rest is zeros
	Format string `json:"format"`
	File   string `json:"file"`
}

// restoreJob is a restore with everything decided.
type restoreJob struct {
	client *api.Client
	point  api.Point
	disks  []api.Image
	source *api.File // instead of disks
	dir    string    // of the disks and blobs; empty: one disk to file
	file   string
	blobs  bool
	format restore.Format
	force  bool
	nbd    nbdclient.Target // without the export
	bar    *progressbar.ProgressBar
}

func runRestore(e *env, c *cli.Context) error {
	return ask(e, c, 1, 1, func(client *api.Client) (r restored, err error) {
		job, err := planRestore(c, client)
		if err != nil {
			return r, err
		}
		if isTerminal(e.stderr) {
			job.bar = newBar(e.stderr)
		}
		if job.source != nil {
			return job.runFile(c.Context)
		}
		return job.run(c.Context)
	}, showRestored)
}

func (j *restoreJob) run(ctx context.Context) (r restored, err error) {
	r = restored{Point: j.point.Point, VM: j.point.VM}
	if j.dir != "" {
		if err := os.MkdirAll(j.dir, 0o700); err != nil {
			return r, err
		}
	}
	for _, image := range j.disks {
		d, err := j.restoreDisk(ctx, image)
		if err != nil {
			return r, fmt.Errorf("disk %s of %s@%s: %w", image.Disk, j.point.VM, j.point.Point, err)
		}
		r.Disks = append(r.Disks, d)
	}
	if !j.blobs {
		return r, nil
	}
	for _, b := range j.point.Blobs {
		path := filepath.Join(j.dir, b.Name)
		if err := j.restoreBlob(ctx, b, path); err != nil {
			return r, fmt.Errorf("blob %s of %s@%s: %w", b.Name, j.point.VM, j.point.Point, err)
		}
		r.Blobs = append(r.Blobs, path)
	}
	return r, nil
}

func (j *restoreJob) restoreDisk(ctx context.Context, image api.Image) (restoredDisk, error) {
	target := j.nbd
	target.Export = j.point.VM + "/" + image.Disk + "@" + j.point.Point
	d := restore.Disk{Target: target, Size: image.Size, Output: j.diskPath(image.Disk), Format: j.format, Force: j.force}
	if j.bar != nil {
		d.Events.Begin = func(_ string, n int64) { j.bar.Describe(image.Disk); j.bar.Reset(); j.bar.ChangeMax64(max(n, 1)) }
		d.Events.Progress = func(n int64) { j.bar.Add64(n) }
	}
	done, err := d.Run(ctx)
	data := done.Data
	if j.bar != nil {
		j.bar.Clear()
	}
	return restoredDisk{Disk: image.Disk, Size: image.Size, Data: data, Format: string(j.format), File: d.Output}, err
}

func (j *restoreJob) restoreBlob(ctx context.Context, b api.BlobInfo, path string) error {
	data, err := j.client.Blob(ctx, j.point.Point, b.Name)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != b.SHA256 {
		return &restore.DamageError{Err: fmt.Errorf("the server sent %d bytes that are not what the point says", len(data))}
	}
	return restore.WriteFile(path, data, j.force)
}

// progressEvery is how often the progress bar is drawn again.
const progressEvery = 100 * time.Millisecond

// newBar shows bytes, speed and time left.
func newBar(w io.Writer) *progressbar.ProgressBar {
	return progressbar.NewOptions64(1, progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(progressEvery),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
}

func showRestored(w io.Writer, r restored) error {
	if r.File != nil {
		return fields(w, "file", printable(r.File.Name), "size", units.Human(r.File.Size), "data", units.Human(r.File.Data), "written to", r.File.File)
	}
	t := newTable("DISK", ">SIZE", ">DATA", "FORMAT", "FILE")
	for _, d := range r.Disks {
		t.add(d.Disk, units.Human(d.Size), units.Human(d.Data), d.Format, d.File)
	}
	for _, b := range r.Blobs {
		t.add("", "", "", "blob", b)
	}
	return t.print(w)
}
