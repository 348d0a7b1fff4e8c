package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newRestore(e *env) *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "write a point's disks, or one of its files, in any form",
		ArgsUsage: "REF",
		Description: "One disk goes into the file or block device --output names, or into that directory as DISK.raw or\n" +
			"DISK.qcow2. Several disks go into a directory, which is made, together with the point's blobs. Files\n" +
			"appear under their names when they are whole and synced. Raw files are sparse; what is no data is\n" +
			"zeroed on a device. --output - writes one disk, or with --format vma all disks and blobs, to standard\n" +
			"output. --format vma makes one archive of everything. --chain writes a disk's full backup and its\n" +
			"incrementals as qcow2 files with relative backing files. --file gives back what came over SFTP, byte for\n" +
			"byte.\n\n" +
			"Beside what is written comes a manifest with hashes: strongroom-restore.json in a directory,\n" +
			"FILE.restore.json beside a file. \"strongroom verify --restored\" checks against it, without a server.\n\n" +
			"  strongroom restore web1@latest --output /srv/restored/web1\n" +
			"  strongroom restore web1@latest --file vda.qcow2 --output as-it-came.qcow2\n" +
			"  strongroom restore web1@latest --disk vda --output vda.qcow2 --format qcow2 --verify\n" +
			"  strongroom restore web1/vda@2026-11-20T10:00:00Z --output /dev/vg0/web1\n" +
			"  strongroom restore web1/vda@latest~2 --output - | zstd > vda.raw.zst\n" +
			"  strongroom restore web1@latest --format vma --output web1.vma\n" +
			"  strongroom restore web1/vda --format qcow2 --chain /srv/chains/web1\n\n" +
			inPlaceHelp,
		Flags: append(clientFlags(
			&cli.StringFlag{Name: "disk", Usage: "`DISK` to restore (default: all)"},
			&cli.StringFlag{Name: "file", Usage: "the point's file `NAME` instead of disks"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE`, block device or directory to write; - is standard output"},
			&cli.StringFlag{Name: "format", Value: "raw", Usage: "`FORMAT` raw, qcow2 or vma"},
			&cli.StringFlag{Name: "chain", Usage: "write the chain of backups as qcow2 files into `DIR`"},
			&cli.BoolFlag{Name: "verify", Usage: "read everything that was written once more, and compare it"},
			&cli.StringFlag{Name: "manifest", Usage: "write the manifest to `FILE`"},
			&cli.BoolFlag{Name: "force", Usage: "replace files that exist and are not empty; overwrite a device that is not blank"},
		), inPlaceFlags()...),
		Action: func(c *cli.Context) error { return runRestore(e, c) },
	}
}

// restored is the answer of a restore, and its JSON.
type restored struct {
	Point    string         `json:"point"`
	VM       string         `json:"vm"`
	Disks    []restoredDisk `json:"disks"`
	File     *restoredFile  `json:"file,omitempty"`
	Blobs    []string       `json:"blobs,omitempty"`    // paths
	Manifest string         `json:"manifest,omitempty"` // path
	Verified bool           `json:"verified,omitempty"` // read back and compared
}

type restoredDisk struct {
	Disk   string   `json:"disk"`
	Size   int64    `json:"size"`
	Data   int64    `json:"data_bytes"` // read from the server; the rest is zeros
	Format string   `json:"format"`
	File   string   `json:"file"`            // of a chain the last one
	Chain  []string `json:"chain,omitempty"` // all files of a chain, the full one first
	Root   string   `json:"root"`            // content hash, hex
}

func runRestore(e *env, c *cli.Context) error {
	if c.String("in-place") != "" {
		return runInPlace(e, c)
	}
	if err := checkRestoreFlags(c); err != nil {
		return err
	}
	answer, show := e, showRestored
	if c.String("output") == stdoutName {
		if isTerminal(e.stdout) {
			return usagef("--output -: standard output is a terminal; name a file, or a program that reads")
		}
		quiet := *e
		quiet.stdout = e.stderr // the disk has standard output to itself
		answer, show = &quiet, func(io.Writer, restored) error { return nil }
	}
	return ask(answer, c, 1, 1, func(client *api.Client) (r restored, err error) {
		job, err := planRestore(c, client)
		if err != nil {
			return r, err
		}
		job.stdout = e.stdout
		if isTerminal(e.stderr) {
			job.bar = newBar(e.stderr)
			defer job.bar.Clear()
		}
		return job.run(c.Context)
	}, show)
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
	verified := ""
	if r.Verified {
		verified = "everything reads back as it was written"
	}
	if r.File != nil {
		return fields(w, "file", printable(r.File.Name), "size", units.Human(r.File.Size), "data", units.Human(r.File.Data), "written to", r.File.File,
			"manifest", r.Manifest, "verified", verified)
	}
	t := newTable("DISK", ">SIZE", ">DATA", "FORMAT", "FILE")
	for _, d := range r.Disks {
		format := d.Format
		if len(d.Chain) > 0 {
			format = plural(len(d.Chain), "layer")
		}
		t.add(d.Disk, units.Human(d.Size), units.Human(d.Data), format, d.File)
	}
	for _, b := range r.Blobs {
		t.add("", "", "", "blob", b)
	}
	if err := t.print(w); err != nil {
		return err
	}
	return fields(w, "manifest", r.Manifest, "verified", verified)
}
