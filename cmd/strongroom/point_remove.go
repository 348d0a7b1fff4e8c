package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newPointRemove(e *env) *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Aliases:   []string{"remove"},
		Usage:     "delete a point; the others keep all their data",
		ArgsUsage: "REF",
		Description: "REF must name the point: VM@POINT or a point's id. A point is deleted whole, with all its disks.\n" +
			"It waits in the trash, from where \"strongroom point undelete\" brings it back, for as long as its\n" +
			"VM's policy says (trash.keep); with --now it is gone. Its space comes back with the collection\n" +
			"after that. A point in the trash is named by its id.\n" +
			"On a terminal the command asks first.\n\n" +
			"  strongroom point rm web1@latest~3\n" +
			"  strongroom point rm --now 06gzkhntg1hgxmj5",
		Flags: clientFlags(
			&cli.BoolFlag{Name: "now", Usage: "pass the trash by: the point cannot be brought back"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
		),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Removed, error) {
				return pointRemoval{ref: c.Args().First(), now: c.Bool("now"), yes: c.Bool("yes")}.run(c.Context, e, client)
			}, showRemoved)
		},
	}
}

type pointRemoval struct {
	ref      string
	now, yes bool
}

func (r pointRemoval) run(ctx context.Context, e *env, client *api.Client) (api.Removed, error) {
	if err := mustNamePoint(r.ref); err != nil {
		return api.Removed{}, err
	}
	p, err := client.Point(ctx, r.ref)
	if err != nil {
		return api.Removed{}, err
	}
	if !p.Trashed.IsZero() && !r.now {
		return api.Removed{}, &refusedError{fmt.Errorf("point %s of %s is in the trash already, until %s; --now removes it for good", p.Point, p.VM, when(p.Purge))}
	}
	if !r.yes && isTerminal(e.stdin) {
		verb := "delete"
		if r.now {
			verb = "delete for good"
		}
		fmt.Fprintf(e.stderr, "%s point %s of %s, made %s, with %s? [y/N] ", verb, p.Point, p.VM, when(p.Time), contents(p))
		if !answerYes(e.stdin) {
			return api.Removed{}, errors.New("not deleted")
		}
	}
	return client.RemovePoint(ctx, p.Point, r.now)
}

// mustNamePoint refuses references that mean a point without naming it.
func mustNamePoint(ref string) error {
	vm, _, named := strings.Cut(ref, "@")
	if !named && !ids.IsID(ref) {
		return &usageError{message: fmt.Sprintf("%q does not name a point", ref), hint: "write " + ref + "@POINT; see: strongroom point ls"}
	}
	if strings.ContainsAny(vm, "/:") {
		return &usageError{message: fmt.Sprintf("%q names a disk, but this is about a whole point", ref), hint: "write VM@POINT"}
	}
	return nil
}

// contents names what a point has.
func contents(p api.Point) string {
	var parts []string
	if len(p.Images) > 0 {
		parts = append(parts, "disks "+disks(p.Images))
	}
	if len(p.Files) > 0 {
		parts = append(parts, plural(len(p.Files), "file"))
	}
	return strings.Join(parts, " and ")
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

func showRemoved(w io.Writer, r api.Removed) (err error) {
	if r.Purge.IsZero() {
		_, err = fmt.Fprintf(w, "point %s of %s is removed\n", r.Point, r.VM)
	} else {
		_, err = fmt.Fprintf(w, "point %s of %s is in the trash until %s\n", r.Point, r.VM, when(r.Purge))
	}
	return err
}
