package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newUsage(e *env) *cli.Command {
	return &cli.Command{
		Name:      "usage",
		Usage:     "show exactly what a point, a disk, a VM or the store takes",
		ArgsUsage: "[REF]",
		Description: "REF is VM, VM/DISK, VM@POINT, VM/DISK@POINT or a point's id; without it, the store. Points in the trash\n" +
			"count. Unique is what nothing else has; the last line is what deleting all of it would free.\n\n" +
			"  strongroom usage web1\n" +
			"  strongroom usage web1@latest~5",
		Flags: clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 0, 1, func(client *api.Client) (api.UsageReport, error) {
				return client.Usage(c.Context, c.Args().First())
			}, showUsage)
		},
	}
}

func showUsage(w io.Writer, r api.UsageReport) error {
	u := r.Usage
	points := fmt.Sprint(r.Points)
	if r.TrashedPoints > 0 {
		points += fmt.Sprintf(", and %d in the trash", r.TrashedPoints)
	}
	return fields(w,
		r.Kind, r.Ref,
		"points", points,
		"logical", units.Human(u.LogicalBytes),
		"transferred", fmt.Sprintf("%s, %s of it new", units.Human(u.TransferredBytes), units.Human(u.NewBytes)),
		"unique", units.Human(u.UniqueBytes),
		"shared", units.Human(u.SharedBytes),
		"stored", fmt.Sprintf("%s: %s unique, %s shared", units.Human(u.StoredBytes), units.Human(u.UniqueStoredBytes), units.Human(u.SharedStoredBytes)),
		"freed if deleted", units.Human(u.UniqueStoredBytes),
	)
}
