package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/inplace"
	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// inPlaceFlags are the flags of restore that belong to --in-place.
func inPlaceFlags() []cli.Flag {
	const category = "in place"
	return []cli.Flag{
		&cli.StringFlag{Name: "in-place", Category: category, Usage: "overwrite `TARGET`, a file, a block device or an NBD URI, where it differs"},
		&cli.BoolFlag{Name: "resize", Category: category, Usage: "give a file the size that the disk had"},
		&cli.StringFlag{Name: "dirty", Category: category, Usage: "`FILE` that says what the guest has changed after --since: a map of nbdinfo or imageio in JSON, or lines OFFSET LENGTH; - reads standard input"},
		&cli.StringFlag{Name: "bitmap", Category: category, Usage: "QEMU's dirty bitmap `NAME`, which says the same"},
		&cli.StringFlag{Name: "dirty-bitmap", Category: category, Usage: "NBD `URI` of the export with the bitmap (default: TARGET)"},
		&cli.StringFlag{Name: "since", Category: category, Value: "latest", Usage: "`POINT` of the VM since which --dirty or --bitmap say what changed"},
		&cli.StringFlag{Name: "journal", Category: category, Usage: "`FILE` that tells what an interrupted restore has left (default: hidden beside a file, else in the state directory)"},
	}
}

// inPlaceHelp is for the description of restore.
const inPlaceHelp = "--in-place overwrites a disk that exists, and only where it differs. When nothing is known, the whole\n" +
	"target is compared with hashes from the server. A dirty map says where to look: it is believed, so it must\n" +
	"name all that was written since the backup --since; --verify compares everything afterwards. The VM must\n" +
	"be shut down, or the target be an export of its QEMU that the guest does not use. A journal tells what an\n" +
	"interrupted restore has left: the same command goes on, and one without a map compares everything.\n\n" +
	"  strongroom restore web1/vda@latest~1 --in-place /dev/vg0/web1\n" +
	"  strongroom restore web1/vda@latest --in-place 'nbd+unix:///vda?socket=/run/qemu/web1.sock' --bitmap b1"

// inPlaceJob is a restore in place with everything decided and opened.
type inPlaceJob struct {
	inplace.Restore
	image   api.Image
	closers []io.Closer
}

func (j *inPlaceJob) close() {
	for _, c := range slices.Backward(j.closers) {
		c.Close()
	}
}

func runInPlace(e *env, c *cli.Context) error {
	return ask(e, c, 1, 1, func(client *api.Client) (inplace.Result, error) {
		job, err := planInPlace(e, c, client)
		if err != nil {
			return inplace.Result{}, inPlaceError(err)
		}
		defer job.close()
		job.Found = func(m inplace.Mix) { e.warn(job.Target.Name() + " is " + m.String()) }
		if isTerminal(e.stderr) {
			bar := newBar(e.stderr)
			job.Begin = func(p inplace.Phase, n int64) { bar.Describe(string(p)); bar.Reset(); bar.ChangeMax64(max(n, 1)) }
			job.Progress = func(n int64) { bar.Add64(n) }
			defer bar.Clear()
		}
		r, err := job.Run(c.Context)
		if r.Mixed != nil {
			if c.Bool("json") {
				printJSON(e.stdout, r)
			}
			if errors.Is(err, context.Canceled) { // of which only the fact is told elsewhere
				e.warn(err.Error())
			}
		}
		return r, inPlaceError(err)
	}, showInPlace)
}

// inPlaceError sorts errors into exit codes.
func inPlaceError(err error) error {
	is := func(list ...error) bool {
		return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
	}
	switch {
	case is(context.Canceled):
		return err
	case is(inplace.ErrDamaged):
		return &damagedError{err.Error()}
	case is(inplace.ErrDirty):
		return &usageError{message: err.Error()}
	case is(inplace.ErrBusy, inplace.ErrSize, inplace.ErrJournal, inplace.ErrTarget):
		return &refusedError{err}
	}
	return err
}

func planInPlace(e *env, c *cli.Context, client *api.Client) (*inPlaceJob, error) {
	for _, f := range []string{"output", "format", "force", "file", "chain", "manifest"} {
		if c.IsSet(f) {
			return nil, usagef("--%s does not go with --in-place", f)
		}
	}
	ref := c.Args().First()
	point, err := client.Point(c.Context, ref)
	if err != nil {
		return nil, err
	}
	choice := restoreJob{point: point}
	if err := choice.choose(c.String("disk"), diskOf(ref)); err != nil {
		return nil, err
	}
	if len(choice.disks) > 1 {
		return nil, usagef("point %s of %s has %d disks: name one with --disk", point.Point, point.VM, len(choice.disks))
	}
	j := &inPlaceJob{image: choice.disks[0]}
	j.Ref = inplace.Ref{VM: point.VM, Disk: j.image.Disk, Point: point.Point}
	j.Resize, j.Verify = c.Bool("resize"), c.Bool("verify")
	j.Hashes = func(ctx context.Context) (io.ReadCloser, error) { return client.Hashes(ctx, point.Point, j.image.Disk) }
	if err := j.open(e, c, client); err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

// open opens both sides and reads the map.
func (j *inPlaceJob) open(e *env, c *cli.Context, client *api.Client) (err error) {
	if j.Target, err = inplace.Open(c.Context, c.String("in-place")); err != nil {
		return err
	}
	j.closers = append(j.closers, j.Target)
	if j.Journal = c.String("journal"); j.Journal == "" {
		if j.Journal, err = inplace.DefaultJournal(j.Target); err != nil {
			return err
		}
	}
	if j.Dirty, err = readDirty(e, c, j.Target); err != nil {
		return err
	}
	t, err := tlsConfig(c)
	if err != nil {
		return err
	}
	source, err := findNBD(c.Context, client, c.String("api"), t)
	if err != nil {
		return err
	}
	source.Export = j.Ref.String()
	if j.Dirty != nil {
		if source.Contexts, err = j.since(c, client); err != nil {
			return err
		}
	}
	conn, err := nbdclient.Dial(c.Context, source)
	if err != nil {
		return err
	}
	j.closers = append(j.closers, conn)
	j.Source = conn
	if conn.Size() != j.image.Size {
		return fmt.Errorf("export %s has %d bytes, but the point says %d", source.Export, conn.Size(), j.image.Size)
	}
	for _, name := range source.Contexts {
		if err := j.Dirty.AddChanges(conn, name); err != nil {
			return err
		}
	}
	return nil
}

// readDirty reads the map that the flags name; nil when they name none.
func readDirty(e *env, c *cli.Context, target inplace.Target) (*inplace.Dirty, error) {
	file, bitmap, uri := c.String("dirty"), c.String("bitmap"), c.String("dirty-bitmap")
	switch {
	case file != "" && bitmap+uri != "":
		return nil, usagef("--dirty and --bitmap: give one of them")
	case file != "":
		return readDirtyFile(e, file)
	case bitmap == "" && uri != "":
		return nil, usagef("--dirty-bitmap: name the bitmap with --bitmap")
	case bitmap == "" && c.IsSet("since"):
		return nil, usagef("--since is for --dirty and --bitmap")
	case bitmap == "":
		return nil, nil
	case uri == "" && target.Kind() != inplace.NBD:
		return nil, usagef("--bitmap: say with --dirty-bitmap which export has it")
	case uri == "":
		uri = target.Name()
	}
	return inplace.ReadBitmap(c.Context, uri, bitmap)
}

func readDirtyFile(e *env, path string) (*inplace.Dirty, error) {
	in := e.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	d, err := inplace.ParseDirty(in)
	if err != nil {
		return nil, fmt.Errorf("--dirty %s: %w", path, err)
	}
	return d, nil
}

// since is the context that tells what differs between the chosen point and the
// one that the map begins at; none when they are the same.
func (j *inPlaceJob) since(c *cli.Context, client *api.Client) ([]string, error) {
	base, err := client.Point(c.Context, j.Ref.VM+"@"+c.String("since"))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(base.Images, func(i api.Image) bool { return i.Disk == j.Ref.Disk }) {
		return nil, &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no disk %s, so nothing can have changed since", base.Point, base.VM, j.Ref.Disk),
			Hint: "name the backup that the map begins at with --since; strongroom point ls " + base.VM + " lists them"}
	}
	if base.Point == j.Ref.Point {
		return nil, nil
	}
	return []string{inplace.BitmapContext("since-" + base.Point)}, nil
}

func showInPlace(w io.Writer, r inplace.Result) error {
	found := ""
	if r.Found != nil {
		found = fmt.Sprintf("an incomplete restore of %s, begun %s", strings.TrimSpace(r.Found.Refs[len(r.Found.Refs)-1].String()), when(r.Found.Begun.Truncate(time.Second)))
	}
	size := units.Human(r.Size)
	if r.Was != r.Size {
		size += ", before " + units.Human(r.Was)
	}
	verified := "no"
	if r.Verified {
		verified = "all of it"
	}
	return fields(w, "disk", r.VM+"/"+r.Disk+"@"+r.Point, "target", r.Target, "size", size, "found", found, "compared", units.Human(r.Compared),
		"skipped", units.Human(r.Skipped), "fetched", units.Human(r.Fetched), "written", units.Human(r.Written), "zeroed", units.Human(r.Zeroed), "verified", verified)
}
