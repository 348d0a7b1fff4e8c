package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newPoint(e *env) *cli.Command {
	return &cli.Command{
		Name:  "point",
		Usage: "list, show, delete, hold and lock recovery points",
		Subcommands: []*cli.Command{
			{
				Name:      "ls",
				Aliases:   []string{"list"},
				Usage:     "list the points of a VM, or of all, oldest first",
				ArgsUsage: "[VM]",
				Flags:     clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 0, 1, func(client *api.Client) ([]api.Point, error) {
						return client.Points(c.Context, c.Args().First())
					}, showPoints)
				},
			},
			{
				Name:      "show",
				Usage:     "show a point: disks, files, blobs, labels",
				ArgsUsage: "REF",
				Flags:     clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 1, 1, func(client *api.Client) (api.Point, error) {
						return client.Point(c.Context, c.Args().First())
					}, showPoint)
				},
			},
			newPointRemove(e), newPointUndelete(e), newPointHold(e), newPointRelease(e), newPointLock(e),
		},
	}
}

// isTerminal reports whether a stream is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func showPoints(w io.Writer, list []api.Point) error {
	t := newTable("POINT", "VM", "TIME", "MODE", ">DISKS", ">FILES", ">SIZE", ">WRITTEN", ">NEW", ">STORED", "FLAGS", "LABELS")
	for _, p := range list {
		var written, fresh, stored int64
		for _, i := range p.Images {
			written += i.WrittenBytes
			fresh += i.NewBytes
			stored += i.StoredBytes
		}
		for _, f := range p.Files {
			written += f.WrittenBytes
			fresh += f.NewBytes
			stored += f.StoredBytes
		}
		t.add(p.Point, p.VM, when(p.Time), modes(p.Images), fmt.Sprint(len(p.Images)), fmt.Sprint(len(p.Files)), units.Human(pointSize(p)), units.Human(written),
			units.Human(fresh), units.Human(stored), dash(pointFlags(p)), labels(p.Labels))
	}
	return t.print(w)
}

// pointSize is the size of a point's disks, and of the files that are none.
func pointSize(p api.Point) (size int64) {
	for _, i := range p.Images {
		size += i.Size
	}
	for _, f := range p.Files {
		if f.Disk == "" {
			size += f.Size
		}
	}
	return size
}

// modes is the mode of all images, or mixed.
func modes(images []api.Image) string {
	mode := ""
	for _, i := range images {
		if mode != "" && mode != i.Mode {
			return "mixed"
		}
		mode = i.Mode
	}
	return dash(mode)
}

func showPoint(w io.Writer, p api.Point) error {
	err := fields(w, "point", p.Point, "vm", p.VM, "time", when(p.Time), "started", when(p.Started), "labels", labels(p.Labels),
		"manual", yes(p.Manual), "sealed from a clone", yes(p.Sealed), "hold", p.Hold, "locked until", orNothing(p.LockedUntil), "deleted", orNothing(p.Trashed), "gone at", orNothing(p.Purge))
	if err != nil {
		return err
	}
	t := newTable("BLOB", ">SIZE")
	for _, b := range p.Blobs {
		t.add(b.Name, units.Human(b.Size))
	}
	return printTables(w, imageTable(p.Images), fileTable(p.Files), t)
}
