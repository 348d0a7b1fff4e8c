package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newTrash(e *env) *cli.Command {
	return &cli.Command{
		Name:  "trash",
		Usage: "list deleted points that can be brought back",
		Subcommands: []*cli.Command{{
			Name:    "ls",
			Aliases: []string{"list"},
			Usage:   "list deleted points, those that go for good first before the others",
			Description: "Bring one back:            strongroom point undelete ID\n" +
				"Remove one for good now:   strongroom point rm --now ID",
			Flags: clientFlags(),
			Action: func(c *cli.Context) error {
				return ask(e, c, 0, 0, func(client *api.Client) ([]api.Point, error) { return client.Trash(c.Context) }, showTrash)
			},
		}},
	}
}

func showTrash(w io.Writer, list []api.Point) error {
	t := newTable("POINT", "VM", "TIME", "DELETED", "GONE AT", ">DISKS", ">SIZE", "LABELS")
	for _, p := range list {
		size := pointSize(p)
		t.add(p.Point, p.VM, when(p.Time), when(p.Trashed), when(p.Purge), fmt.Sprint(len(p.Images)), units.Human(size), labels(p.Labels))
	}
	return t.print(w)
}
