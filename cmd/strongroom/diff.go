package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newDiff(e *env) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "show what differs between two points of a VM",
		ArgsUsage: "REF_A REF_B",
		Description: "What of REF_B's disks is not as in REF_A, exact by 64 KiB; REF_A may be older or newer. No data is read.\n" +
			"A disk REF_A does not have, and what lies beyond the end of one it has, is all changed.\n\n" +
			"--map lists the changed ranges of one disk: offset, length, type and description as nbdinfo --map prints\n" +
			"them, and which of them are zero now. Its JSON is that of nbdinfo --json --map, clean ranges and all.\n\n" +
			"  strongroom diff web1@latest~1 web1\n" +
			"  strongroom diff web1/vda@latest~7 web1/vda --map --json > changed.json",
		Flags: clientFlags(
			&cli.StringFlag{Name: "disk", Usage: "`DISK` to compare (default: all that REF_B has)"},
			&cli.BoolFlag{Name: "map", Usage: "list the changed ranges"},
		),
		Action: func(c *cli.Context) error { return runDiff(e, c) },
	}
}

// difference is the answer, and its JSON.
type difference struct {
	VM    string     `json:"vm"`
	Since string     `json:"since"` // the point of REF_A
	Point string     `json:"point"` // and of REF_B
	Disks []diskDiff `json:"disks"`
}

type diskDiff struct {
	Disk    string `json:"disk"`
	Size    int64  `json:"size"`
	Since   *int64 `json:"since_size,omitempty"` // of the other disk, when there is one
	Changed int64  `json:"changed_bytes"`
	Zero    int64  `json:"changed_zero_bytes"` // of the changed ones, those that are zero now
}

// mapEntry is one entry of the map as nbdinfo has it, which readers of such maps
// are strict about; so it does not tell zeros.
type mapEntry struct {
	Offset      int64  `json:"offset"`
	Length      int64  `json:"length"`
	Type        uint32 `json:"type"`
	Description string `json:"description"`
}

// changedRange is a range of a disk that has changed.
type changedRange struct {
	off, n int64
	zero   bool // now
}

// diffJob is a comparison with everything decided.
type diffJob struct {
	since, point api.Point
	disks        []api.Image
	nbd          nbdclient.Target // without the export
}

func runDiff(e *env, c *cli.Context) error {
	if !c.Bool("map") {
		return ask(e, c, 2, 2, func(client *api.Client) (d difference, err error) {
			job, err := planDiff(c, client)
			if err != nil {
				return d, err
			}
			return job.summary(c.Context)
		}, showDifference)
	}
	if err := arguments(c, 2, 2); err != nil {
		return err
	}
	client, err := connect(c)
	if err != nil {
		return err
	}
	defer client.Close()
	job, err := planDiff(c, client)
	if err != nil {
		return err
	}
	if len(job.disks) > 1 {
		return usagef("--map is of one disk, but point %s of %s has %d: choose with --disk", job.point.Point, job.point.VM, len(job.disks))
	}
	return job.printMap(c.Context, e.stdout, c.Bool("json"))
}

func planDiff(c *cli.Context, client *api.Client) (*diffJob, error) {
	a, b := c.Args().Get(0), c.Args().Get(1)
	disk := c.String("disk")
	for _, d := range []string{diskOf(a), diskOf(b)} {
		if disk != "" && d != "" && disk != d {
			return nil, usagef("disk %s cannot be compared with disk %s: a comparison is of one disk at two points", d, disk)
		}
		if d != "" {
			disk = d
		}
	}
	job := &diffJob{}
	var err error
	if job.since, err = client.Point(c.Context, a); err != nil {
		return nil, err
	}
	if job.point, err = client.Point(c.Context, b); err != nil {
		return nil, err
	}
	if job.since.VM != job.point.VM {
		return nil, usagef("%s is of VM %s and %s of VM %s: only points of one VM can be compared", a, job.since.VM, b, job.point.VM)
	}
	if err := job.choose(disk); err != nil {
		return nil, err
	}
	t, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	job.nbd, err = findNBD(c.Context, client, c.String("api"), t)
	return job, err
}

func (j *diffJob) choose(disk string) error {
	var have []string
	for _, i := range j.point.Images {
		if disk == "" || i.Disk == disk {
			j.disks = append(j.disks, i)
		}
		have = append(have, i.Disk)
	}
	switch {
	case len(have) == 0:
		return &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no disk, only files", j.point.Point, j.point.VM),
			Hint: "files cannot be compared; compare points that have disks"}
	case len(j.disks) == 0:
		return &api.Error{Status: 404, Message: fmt.Sprintf("point %s of %s has no disk %s", j.point.Point, j.point.VM, disk),
			Hint: "it has " + strings.Join(have, ", ")}
	}
	return nil
}

func (j *diffJob) summary(ctx context.Context) (d difference, err error) {
	d = difference{VM: j.point.VM, Since: j.since.Point, Point: j.point.Point}
	for _, image := range j.disks {
		one := diskDiff{Disk: image.Disk, Size: image.Size}
		if i := j.older(image.Disk); i != nil {
			one.Since = &i.Size
		}
		err := j.each(ctx, image, true, func(r changedRange) error {
			one.Changed += r.n
			if r.zero {
				one.Zero += r.n
			}
			return nil
		})
		if err != nil {
			return d, err
		}
		d.Disks = append(d.Disks, one)
	}
	return d, nil
}

// older is the disk of REF_A, or nil.
func (j *diffJob) older(disk string) *api.Image {
	i := slices.IndexFunc(j.since.Images, func(i api.Image) bool { return i.Disk == disk })
	if i < 0 {
		return nil
	}
	return &j.since.Images[i]
}

// each calls yield for the changed ranges of a disk, in order; neighbours that
// touch differ in zero, which is only told when zeros is set.
func (j *diffJob) each(ctx context.Context, image api.Image, zeros bool, yield func(changedRange) error) error {
	target := j.nbd
	target.Export = j.point.VM + "/" + image.Disk + "@" + j.point.Point
	since := ""
	if j.older(image.Disk) != nil {
		since = "qemu:dirty-bitmap:since-" + j.since.Point
		target.Contexts = []string{since}
	}
	conn, err := nbdclient.Dial(ctx, target)
	if err == nil {
		defer conn.Close()
		walk := &diffWalk{conn: conn, since: since, zeros: zeros, yield: yield}
		err = walk.run()
	}
	if err != nil {
		return fmt.Errorf("compare disk %s of %s, point %s, with point %s: %w", image.Disk, j.point.VM, j.point.Point, j.since.Point, err)
	}
	return nil
}

// diffWindow is how much of a disk is asked about at a time: what fits in one
// request, and what has few enough ranges to keep.
const diffWindow = 2 << 30

// diffWalk puts what changed and what is zero together, window by window.
type diffWalk struct {
	conn  *nbdclient.Conn
	since string // context; empty: everything has changed
	zeros bool
	yield func(changedRange) error

	open changedRange // may still grow
}

func (w *diffWalk) run() error {
	for off := int64(0); off < w.conn.Size(); off += diffWindow {
		changed, err := w.changed(off, min(diffWindow, w.conn.Size()-off))
		if err == nil && len(changed) > 0 {
			err = w.split(changed)
		}
		if err != nil {
			return err
		}
	}
	return w.flush()
}

// changed are the changed ranges of a window.
func (w *diffWalk) changed(off, n int64) (list []changedRange, err error) {
	if w.since == "" {
		return []changedRange{{off: off, n: n}}, nil
	}
	err = w.conn.Status(w.since, off, n, func(off, n int64, flags uint32) error {
		if flags&nbdclient.Dirty != 0 {
			list = append(list, changedRange{off: off, n: n})
		}
		return nil
	})
	return list, err
}

// split tells which parts of changed ranges are zero.
func (w *diffWalk) split(changed []changedRange) error {
	if !w.zeros {
		for _, c := range changed {
			if err := w.add(c); err != nil {
				return err
			}
		}
		return nil
	}
	first, last := changed[0], changed[len(changed)-1]
	return w.conn.Status(nbdclient.Allocation, first.off, last.off+last.n-first.off, func(off, n int64, flags uint32) error {
		for len(changed) > 0 && changed[0].off < off+n {
			c := changed[0]
			begin, end := max(off, c.off), min(off+n, c.off+c.n)
			if err := w.add(changedRange{begin, end - begin, flags&nbdclient.Zero != 0}); err != nil {
				return err
			}
			if end < c.off+c.n {
				break // it goes on in the next extent
			}
			changed = changed[1:]
		}
		return nil
	})
}

func (w *diffWalk) add(r changedRange) error {
	if w.open.off+w.open.n == r.off && w.open.zero == r.zero {
		w.open.n += r.n
		return nil
	}
	err := w.flush()
	w.open = r
	return err
}

func (w *diffWalk) flush() error {
	if w.open.n == 0 {
		return nil
	}
	return w.yield(w.open)
}

// printMap prints ranges as they come: there may be more than fit in memory.
func (j *diffJob) printMap(ctx context.Context, stdout io.Writer, asJSON bool) error {
	w := bufio.NewWriter(stdout)
	var err error
	if asJSON {
		err = j.printJSON(ctx, w)
	} else {
		err = j.each(ctx, j.disks[0], true, func(r changedRange) error {
			what := "dirty"
			if r.zero {
				what = "dirty,zero"
			}
			_, err := fmt.Fprintf(w, "%12d %12d %4d  %s\n", r.off, r.n, nbdclient.Dirty, what)
			return err
		})
	}
	if e := w.Flush(); err == nil {
		err = e
	}
	return err
}

// printJSON prints an array with an entry per line.
func (j *diffJob) printJSON(ctx context.Context, w *bufio.Writer) error {
	next, before := int64(0), "[\n"
	print := func(off, n int64, flags uint32, what string) error {
		if n == 0 {
			return nil
		}
		line, err := json.Marshal(mapEntry{off, n, flags, what})
		if err == nil {
			_, err = w.WriteString(before + string(line))
		}
		next, before = off+n, ",\n"
		return err
	}
	err := j.each(ctx, j.disks[0], false, func(r changedRange) error {
		if err := print(next, r.off-next, 0, "clean"); err != nil {
			return err
		}
		return print(r.off, r.n, nbdclient.Dirty, "dirty")
	})
	if err != nil {
		return err // what was printed is no JSON then
	}
	if err := print(next, j.disks[0].Size-next, 0, "clean"); err != nil {
		return err
	}
	_, err = w.WriteString("\n]\n")
	return err
}

func showDifference(w io.Writer, d difference) error {
	t := newTable("DISK", ">SIZE", ">SIZE BEFORE", ">CHANGED", ">NOW ZERO")
	for _, x := range d.Disks {
		before := "-"
		if x.Since != nil {
			before = units.Human(*x.Since)
		}
		t.add(x.Disk, units.Human(x.Size), before, units.Human(x.Changed), units.Human(x.Zero))
	}
	return t.print(w)
}
