package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/imports"
	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/internal/vma"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newImport(e *env) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "make a recovery point of a disk image or of an archive of a whole VM",
		ArgsUsage: "FILE|- VM",
		Description: "FILE is a VMA archive, a qcow2 image or a raw disk; what it is its first bytes tell, or --format.\n" +
			"From a VMA archive come all disks, under the names of its devices, and its configuration files as\n" +
			"blobs. An image is one disk. \"-\" is standard input: an archive, or a raw disk of --size; nothing\n" +
			"is kept in temporary files.\n\n" +
			"All is written into a backup that is committed at the end. If anything goes wrong the backup is\n" +
			"aborted, and nothing of it is published. What the server has already is not stored again.\n\n" +
			"  strongroom import vzdump-qemu-100.vma web1 --map drive-scsi0=root\n" +
			"  zstd -dc vzdump-qemu-100.vma.zst | strongroom import - web1\n" +
			"  strongroom import web1.qcow2 web1 --disk vda --backing\n" +
			"  dd if=/dev/vg0/web1 bs=1M | strongroom import - web1 --size 10GiB",
		Flags: clientFlags(
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` vma, qcow2 or raw (default: what the first bytes tell)"},
			&cli.StringFlag{Name: "disk", Usage: "`DISK` an image becomes (default: the file's name without its ending, else vda)"},
			&cli.StringSliceFlag{Name: "map", Usage: "`DEVICE=DISK`: another name for a disk of an archive; may be repeated"},
			&cli.StringFlag{Name: "size", Usage: "`SIZE` of a raw disk from standard input"},
			&cli.BoolFlag{Name: "backing", Usage: "read the files too that a qcow2 image stands on"},
			&cli.StringFlag{Name: "mode", Value: "auto", Usage: "`MODE` full, incremental or auto"},
			&cli.StringFlag{Name: "parent", Usage: "`REF` of the point that must be the newest"},
			&cli.StringFlag{Name: "checkpoint", Usage: "`NAME` of the checkpoint this point stands for at the client"},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE` of the point; may be repeated"},
			&cli.BoolFlag{Name: "manual", Usage: "no chain limit and no keep rule takes this point"},
			&cli.StringFlag{Name: "ttl", Usage: "`TIME` within which to be done, such as 24h or 2d (default: the server's)"},
		),
		Action: func(c *cli.Context) error {
			return ask(e, c, 2, 2, func(client *api.Client) (imported, error) { return runImport(e, c, client) }, showImported)
		},
	}
}

// imported is the answer of an import, and its JSON.
type imported struct {
	api.Receipt
	Source  string   `json:"source"`
	Format  string   `json:"format"`
	Blobs   []string `json:"blobs,omitempty"`
	Skipped []string `json:"skipped,omitempty"` // devices that are no disks
}

func runImport(e *env, c *cli.Context, client *api.Client) (r imported, err error) {
	o, err := importOptions(e, c)
	if err != nil {
		return r, err
	}
	request, err := importRequest(c)
	if err != nil {
		return r, err
	}
	s, err := imports.Open(c.Context, o)
	if err != nil {
		return r, sourceError(err)
	}
	defer s.Close()
	fillRequest(&request, s)
	t, err := tlsConfig(c)
	if err != nil {
		return r, err
	}
	target, err := findNBD(c.Context, client, c.String("api"), t)
	if err != nil {
		return r, err
	}
	for _, name := range s.Skipped {
		e.warn(fmt.Sprintf("%s of %s is the memory of a running VM and is left out", name, printable(s.Name)))
	}
	r = imported{Source: s.Name, Format: string(s.Format), Skipped: s.Skipped}
	for _, b := range request.Blobs {
		r.Blobs = append(r.Blobs, b.Name)
	}
	r.Receipt, err = importInto(c.Context, e, client, request, s, target)
	return r, err
}

func importOptions(e *env, c *cli.Context) (o imports.Options, err error) {
	o = imports.Options{Path: c.Args().First(), Stdin: e.stdin, Disk: c.String("disk"), Backing: c.Bool("backing"), Map: map[string]string{}}
	if o.Format, err = imports.ParseFormat(c.String("format")); err != nil {
		return o, usagef("--%v", err)
	}
	for _, text := range c.StringSlice("map") {
		from, to, ok := strings.Cut(text, "=")
		if _, twice := o.Map[from]; !ok || from == "" || to == "" || twice {
			return o, usagef("--map %q: want DEVICE=DISK, each device once", text)
		}
		o.Map[from] = to
	}
	if text := c.String("size"); text != "" {
		size, err := units.ParseSize(text)
		if err != nil || size <= 0 {
			return o, usagef("--size %q: want a size, such as 10GiB", text)
		}
		o.Size = int64(size)
	}
	return o, nil
}

// importRequest is what the flags say of the backup.
func importRequest(c *cli.Context) (r api.BackupRequest, err error) {
	r = api.BackupRequest{VM: c.Args().Get(1), Mode: c.String("mode"), Parent: c.String("parent"), Checkpoint: c.String("checkpoint"), Manual: c.Bool("manual")}
	if r.Labels, err = parseLabels(c.StringSlice("label")); err != nil {
		return r, err
	}
	r.TTLSeconds, err = parseTTL(c.String("ttl"))
	return r, err
}

// fillRequest adds what the source says of the backup.
func fillRequest(r *api.BackupRequest, s *imports.Source) {
	for _, d := range s.Disks {
		r.Disks = append(r.Disks, api.DiskRequest{Disk: d.Name, Size: d.Size})
	}
	for _, c := range s.Configs {
		r.Blobs = append(r.Blobs, api.Blob{Name: c.Name, Data: c.Data})
	}
	own := map[string]string{"source": strings.ToValidUTF8(s.Name, "?"), "source-format": string(s.Format)}
	if !s.Created.IsZero() {
		own["source-time"] = s.Created.UTC().Format(time.RFC3339)
	}
	for k, v := range own {
		if _, ok := r.Labels[k]; !ok {
			r.Labels[k] = v
		}
	}
}

// importInto opens a backup, fills it from the source and commits it. It is
// aborted when anything fails.
func importInto(ctx context.Context, e *env, client *api.Client, request api.BackupRequest, s *imports.Source, target nbdclient.Target) (r api.Receipt, err error) {
	b, err := client.StartBackup(ctx, request)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, abortImport(ctx, client, b))
		}
	}()
	if err := copyImport(ctx, e, b, s, target); err != nil {
		return r, sourceError(err)
	}
	return commitBackup(ctx, e, client, b.Session)
}

// copyImport writes the source to the backup's exports.
func copyImport(ctx context.Context, e *env, b api.Backup, s *imports.Source, target nbdclient.Target) error {
	exports := map[string]string{}
	for _, d := range b.Disks {
		exports[d.Disk] = d.Export
	}
	progress := func(int64) {}
	if isTerminal(e.stderr) {
		bar := newBar(e.stderr)
		bar.Describe(printable(s.Name))
		bar.ChangeMax64(s.Size())
		defer bar.Clear()
		progress = func(n int64) { bar.Add64(n) }
	}
	return s.Copy(ctx, func(ctx context.Context, disk int) (imports.Device, error) {
		t := target
		t.Export = exports[s.Disks[disk].Name]
		conn, err := nbdclient.Dial(ctx, t)
		if err != nil {
			return nil, err // not a Device that is a nil *Conn
		}
		return conn, nil
	}, progress)
}

// abortTimeout is for a server that is there; of one that is not, the backup's
// time passes.
const abortTimeout = 30 * time.Second

// abortImport aborts the backup, even when the user has interrupted the command.
func abortImport(ctx context.Context, client *api.Client, b api.Backup) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if _, err := client.Abort(ctx, b.Session); err != nil {
		return fmt.Errorf("backup %s could not be aborted: %w; see: strongroom backup status %s", b.Session, err, b.Session)
	}
	return nil
}

// sourceError sorts the errors of reading a source.
func sourceError(err error) error {
	var usage *imports.UsageError
	var archive *vma.FormatError
	var image *qcow2.FormatError
	switch {
	case errors.As(err, &usage):
		return &usageError{usage.Message, usage.Hint}
	case errors.As(err, &archive), errors.As(err, &image), errors.Is(err, qcow2.ErrUnsupported):
		return &refusedError{err}
	}
	return err
}

func showImported(w io.Writer, r imported) error {
	if err := fields(w, "source", printable(r.Source), "format", r.Format, "blobs", strings.Join(r.Blobs, " ")); err != nil {
		return err
	}
	return showReceipt(w, r.Receipt)
}
