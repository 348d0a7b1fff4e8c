package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newVM(e *env) *cli.Command {
	return &cli.Command{
		Name:  "vm",
		Usage: "list the VMs that have recovery points",
		Subcommands: []*cli.Command{{
			Name:    "ls",
			Aliases: []string{"list"},
			Usage:   "list the VMs that have recovery points",
			Flags:   clientFlags(),
			Action: func(c *cli.Context) error {
				return ask(e, c, 0, 0, func(client *api.Client) ([]api.VM, error) {
					return client.VMs(c.Context)
				}, showVMs)
			},
		}},
	}
}

func showVMs(w io.Writer, list []api.VM) error {
	t := newTable("VM", ">POINTS", "NEWEST", "TIME", ">SIZE", "DISKS")
	for _, v := range list {
		var names []string
		var size int64
		for _, d := range v.Disks {
			names = append(names, d.Disk)
			size += d.Size
		}
		t.add(v.VM, fmt.Sprint(v.Points), v.Latest, when(v.Time), units.Human(size), strings.Join(names, " "))
	}
	return t.print(w)
}
