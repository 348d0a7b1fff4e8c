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
			"them, type 1 (dirty) throughout. Its JSON also says whether a range is zero now.\n\n" +
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

// changedRange is one entry of the map; the first four fields are nbdinfo's.
type changedRange struct {
	Offset      int64  `json:"offset"`
	Length      int64  `json:"length"`
	Type        uint32 `json:"type"`
	Description string `json:"description"`
	Zero        bool   `json:"zero"`
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
		err := j.each(ctx, image, func(_, n int64, zero bool) error {
			one.Changed += n
			if zero {
				one.Zero += n
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
// touch differ in zero.
func (j *diffJob) each(ctx context.Context, image api.Image, yield func(off, n int64, zero bool) error) error {
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
		walk := &diffWalk{conn: conn, since: since, yield: yield}
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
	yield func(off, n int64, zero bool) error

	open changedRange // may still grow
}

func (w *diffWalk) run() error {
	for off := int64(0); off < w.conn.Size(); off += diffWindow {
		n := min(diffWindow, w.conn.Size()-off)
		changed, err := w.changed(off, n)
		if err != nil || len(changed) == 0 {
			if err != nil {
				return err
			}
			continue
		}
		last := changed[len(changed)-1]
		from := changed[0].Offset
		err = w.conn.Status(nbdclient.Allocation, from, last.Offset+last.Length-from, func(off, n int64, flags uint32) error {
			for len(changed) > 0 && changed[0].Offset < off+n {
				c := changed[0]
				begin, end := max(off, c.Offset), min(off+n, c.Offset+c.Length)
				if err := w.add(begin, end-begin, flags&nbdclient.Zero != 0); err != nil {
					return err
				}
				if end < c.Offset+c.Length {
					break // it goes on in the next extent
				}
				changed = changed[1:]
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return w.flush()
}

// changed are the changed ranges of a window.
func (w *diffWalk) changed(off, n int64) (list []changedRange, err error) {
	if w.since == "" {
		return []changedRange{{Offset: off, Length: n}}, nil
	}
	err = w.conn.Status(w.since, off, n, func(off, n int64, flags uint32) error {
		if flags&nbdclient.Dirty != 0 {
			list = append(list, changedRange{Offset: off, Length: n})
		}
		return nil
	})
	return list, err
}

func (w *diffWalk) add(off, n int64, zero bool) error {
	if w.open.Offset+w.open.Length == off && w.open.Zero == zero {
		w.open.Length += n
		return nil
	}
	err := w.flush()
	w.open = changedRange{Offset: off, Length: n, Zero: zero}
	return err
}

func (w *diffWalk) flush() error {
	if w.open.Length == 0 {
		return nil
	}
	return w.yield(w.open.Offset, w.open.Length, w.open.Zero)
}

// printMap prints ranges as they come: there may be more than fit in memory.
func (j *diffJob) printMap(ctx context.Context, stdout io.Writer, asJSON bool) error {
	w := bufio.NewWriter(stdout)
	before := "[\n"
	err := j.each(ctx, j.disks[0], func(off, n int64, zero bool) error {
		r := changedRange{Offset: off, Length: n, Type: nbdclient.Dirty, Description: "dirty", Zero: zero}
		if !asJSON {
			what := r.Description
			if zero {
				what += ",zero"
			}
			_, err := fmt.Fprintf(w, "%12d %12d %4d  %s\n", r.Offset, r.Length, r.Type, what)
			return err
		}
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = w.WriteString(before + string(line))
		before = ",\n"
		return err
	})
	if err == nil && asJSON {
		if before == "[\n" {
			before = "["
		} else {
			before = "\n"
		}
		_, err = w.WriteString(before + "]\n")
	}
	if e := w.Flush(); err == nil {
		err = e
	}
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
