package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newRestore(e *env) *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "write a point's disks into files",
		ArgsUsage: "REF",
		Description: "One disk goes into the file --output names, or into that directory as DISK.raw or DISK.qcow2.\n" +
			"Several disks go into a directory, which is made, together with the point's blobs. Files appear\n" +
			"under their names when they are whole and synced. Raw files are sparse.\n\n" +
			"  strongroom restore web1@latest --disk vda --output vda.qcow2 --format qcow2\n" +
			"  strongroom restore web1/vda@2026-11-20T10:00:00Z --output /tmp/vda.raw",
		Flags: clientFlags(
			&cli.StringFlag{Name: "disk", Usage: "`DISK` to restore (default: all)"},
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
	dir    string // of the disks and blobs; empty: one disk to file
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
		return job.run(c.Context)
	}, showRestored)
}

func planRestore(c *cli.Context, client *api.Client) (*restoreJob, error) {
	job := &restoreJob{client: client, force: c.Bool("force")}
	var err error
	if job.format, err = restore.ParseFormat(c.String("format")); err != nil {
		return nil, usagef("--%v", err)
	}
	if c.String("output") == "" {
		return nil, usagef("--output: name the file or directory to write")
	}
	ref := c.Args().First()
	if job.point, err = client.Point(c.Context, ref); err != nil {
		return nil, err
	}
	if err := job.choose(c.String("disk"), diskOf(ref)); err != nil {
		return nil, err
	}
	if err := job.place(c.String("output")); err != nil {
		return nil, err
	}
	t, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	job.nbd, err = findNBD(c.Context, client, c.String("api"), t)
	return job, err
}

// diskOf is the disk a reference names, if any.
func diskOf(ref string) string {
	head, _, _ := strings.Cut(ref, "@")
	if i := strings.IndexAny(head, "/:"); i >= 0 {
		return head[i+1:]
	}
	return ""
}

func (j *restoreJob) choose(flag, ref string) error {
	if flag != "" && ref != "" && flag != ref {
		return usagef("--disk %s is not the disk %s of the reference", flag, ref)
	}
	name := flag + ref
	if flag == ref {
		name = ref
	}
	var have []string
	for _, i := range j.point.Images {
		if !ids.IsName(i.Disk) {
			return fmt.Errorf("the server names a disk %.80q, which cannot be", i.Disk)
		}
		if name == "" || name == i.Disk {
			j.disks = append(j.disks, i)
		}
		have = append(have, i.Disk)
	}
	if len(j.disks) == 0 {
		return &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no disk %s", j.point.Point, j.point.VM, name),
			Hint: "it has " + strings.Join(have, ", ")}
	}
	j.blobs = name == ""
	return nil
}

// place decides between a file and a directory.
func (j *restoreJob) place(output string) error {
	st, err := os.Stat(output)
	isDir := err == nil && st.IsDir()
	switch {
	case isDir || strings.HasSuffix(output, "/"):
		j.dir = output
	case len(j.disks) == 1:
		j.file, j.blobs = output, false
	case err == nil:
		return usagef("--output %s is a file, but the point has %d disks: name a directory, or one disk with --disk", output, len(j.disks))
	default:
		j.dir = output
	}
	return j.checkOutputs()
}

// outputs are the paths that will be written, disks first.
func (j *restoreJob) outputs() (paths []string) {
	for _, d := range j.disks {
		paths = append(paths, j.diskPath(d.Disk))
	}
	if j.blobs {
		for _, b := range j.point.Blobs {
			paths = append(paths, filepath.Join(j.dir, b.Name))
		}
	}
	return paths
}

func (j *restoreJob) diskPath(disk string) string {
	if j.dir == "" {
		return j.file
	}
	return filepath.Join(j.dir, disk+"."+string(j.format))
}

// checkOutputs finds what would fail late before the first byte is read.
func (j *restoreJob) checkOutputs() error {
	paths := j.outputs()
	for i, p := range paths {
		if name := filepath.Base(p); j.dir != "" && (!ids.IsName(name) || slices.Contains(paths[:i], p)) {
			return fmt.Errorf("point %s of %s: %.80q cannot be written beside the others; restore one disk with --disk",
				j.point.Point, j.point.VM, name)
		}
		if err := restore.CheckOutput(p, j.force); err != nil {
			return err
		}
	}
	return nil
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
		d.Begin = func(n int64) { j.bar.Describe(image.Disk); j.bar.Reset(); j.bar.ChangeMax64(max(n, 1)) }
		d.Progress = func(n int64) { j.bar.Add64(n) }
	}
	data, err := d.Run(ctx)
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

// findNBD decides how to reach the server's NBD side: over its unix socket when
// that is here, else over TCP.
func findNBD(ctx context.Context, client *api.Client, target string, t *tls.Config) (nbdclient.Target, error) {
	info, err := client.Info(ctx)
	if err != nil {
		return nbdclient.Target{}, err
	}
	if st, err := os.Stat(info.NBD.Socket); client.Local() && err == nil && st.Mode().Type() == fs.ModeSocket {
		return nbdclient.Target{Network: "unix", Address: info.NBD.Socket}, nil
	}
	host, port, err := net.SplitHostPort(info.NBD.Address)
	if err != nil {
		return nbdclient.Target{}, fmt.Errorf("the server does not offer NBD where this command can reach it")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
		if u, err := url.Parse(target); err == nil && u.Hostname() != "" {
			host = u.Hostname()
		}
	}
	if !info.NBD.TLS || !info.NBD.ForceTLS && t == nil {
		return nbdclient.Target{Network: "tcp", Address: net.JoinHostPort(host, port)}, nil
	}
	if t == nil {
		t = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t = t.Clone()
	t.ServerName = host
	return nbdclient.Target{Network: "tcp", Address: net.JoinHostPort(host, port), TLS: t}, nil
}

func showRestored(w io.Writer, r restored) error {
	t := newTable("DISK", ">SIZE", ">DATA", "FORMAT", "FILE")
	for _, d := range r.Disks {
		t.add(d.Disk, units.Human(d.Size), units.Human(d.Data), d.Format, d.File)
	}
	for _, b := range r.Blobs {
		t.add("", "", "", "blob", b)
	}
	return t.print(w)
}
