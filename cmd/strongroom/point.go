package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newPoint(e *env) *cli.Command {
	return &cli.Command{
		Name:  "point",
		Usage: "list, show and remove recovery points",
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
				Usage:     "show a point: disks, blobs, labels",
				ArgsUsage: "REF",
				Flags:     clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 1, 1, func(client *api.Client) (api.Point, error) {
						return client.Point(c.Context, c.Args().First())
					}, showPoint)
				},
			},
			newPointRemove(e),
		},
	}
}

func newPointRemove(e *env) *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Aliases:   []string{"remove"},
		Usage:     "remove a point; the others keep all their data",
		ArgsUsage: "REF",
		Description: "REF must name the point: VM@POINT or a point's id. A point is removed whole, with all its disks.\n" +
			"On a terminal the command asks first.",
		Flags: clientFlags(&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Removed, error) {
				return runPointRemove(c.Context, e, client, c.Args().First(), c.Bool("yes"))
			}, func(w io.Writer, r api.Removed) error {
				_, err := fmt.Fprintf(w, "point %s of %s is removed\n", r.Point, r.VM)
				return err
			})
		},
	}
}

func runPointRemove(ctx context.Context, e *env, client *api.Client, ref string, yes bool) (r api.Removed, err error) {
	vm, _, named := strings.Cut(ref, "@")
	if !named && !ids.IsID(ref) {
		return r, &usageError{message: fmt.Sprintf("%q does not name a point", ref), hint: "write " + ref + "@POINT; see: strongroom point ls"}
	}
	if strings.ContainsAny(vm, "/:") {
		return r, &usageError{message: fmt.Sprintf("%q names a disk, but a point is removed whole", ref), hint: "write VM@POINT"}
	}
	p, err := client.Point(ctx, ref)
	if err != nil {
		return r, err
	}
	if !yes && isTerminal(e.stdin) {
		fmt.Fprintf(e.stderr, "remove point %s of %s, made %s, with disks %s? [y/N] ", p.Point, p.VM, when(p.Time), disks(p.Images))
		if !answerYes(e.stdin) {
			return r, errors.New("not removed")
		}
	}
	return client.RemovePoint(ctx, p.Point, false)
}

func disks(images []api.Image) string {
	var names []string
	for _, i := range images {
		names = append(names, i.Disk)
	}
	return strings.Join(names, ", ")
}

func answerYes(r io.Reader) bool {
	line, _ := bufio.NewReader(io.LimitReader(r, 80)).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}

// isTerminal reports whether a stream is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func showPoints(w io.Writer, list []api.Point) error {
	t := newTable("POINT", "VM", "TIME", "MODE", ">DISKS", ">SIZE", ">WRITTEN", ">NEW", ">STORED", "LABELS")
	for _, p := range list {
		var size, written, fresh, stored int64
		for _, i := range p.Images {
			size += i.Size
			written += i.WrittenBytes
			fresh += i.NewBytes
			stored += i.StoredBytes
		}
		t.add(p.Point, p.VM, when(p.Time), modes(p.Images), fmt.Sprint(len(p.Images)), units.Human(size), units.Human(written),
			units.Human(fresh), units.Human(stored), labels(p.Labels))
	}
	return t.print(w)
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
	err := fields(w, "point", p.Point, "vm", p.VM, "time", when(p.Time), "started", when(p.Started), "labels", labels(p.Labels))
	if err != nil {
		return err
	}
	if err := imageTable(p.Images).print(w); err != nil || len(p.Blobs) == 0 {
		return err
	}
	t := newTable("BLOB", ">SIZE")
	for _, b := range p.Blobs {
		t.add(b.Name, units.Human(b.Size))
	}
	return t.print(w)
}
