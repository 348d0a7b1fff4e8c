package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/server/api"
)

func newPrune(e *env) *cli.Command {
	return &cli.Command{
		Name:      "prune",
		Usage:     "move the points that no keep rule keeps to the trash",
		ArgsUsage: "[VM]",
		Description: "Without keep rules on the command line the VMs' policies hold (strongroom policy show VM); with them,\n" +
			"they hold in place of every policy. A point stays when one rule keeps it. Each rule takes the newest\n" +
			"point of each of its hours, days, … counted back from the newest point; those without a point do not\n" +
			"count, and it passes over those that the rules before it cover already. Points that are held, locked\n" +
			"or manual stay and use up no rule.\n\n" +
			"  strongroom prune --dry-run\n" +
			"  strongroom prune web1 --keep-last 3 --keep-daily 7 --keep-weekly 4 --dry-run",
		Flags: clientFlags(slices.Concat(keepFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what stays and what would go, and why; change nothing"},
		})...),
		Action: func(c *cli.Context) error {
			return ask(e, c, 0, 1, func(client *api.Client) (r api.PruneReport, err error) {
				q := api.PruneRequest{VM: c.Args().First()}
				var keep api.Keep
				given, err := applyKeep(c, &keep)
				if err != nil {
					return r, err
				}
				if given {
					q.Keep = &keep
				}
				if c.Bool("dry-run") {
					return client.PlanPrune(c.Context, q)
				}
				j, err := client.Prune(c.Context, q)
				if err == nil {
					j, err = follow(c.Context, e, client, j)
				}
				return deref(j.Prune), err
			}, showPrune)
		},
	}
}

func showPrune(w io.Writer, r api.PruneReport) error {
	t := newTable("POINT", "VM", "TIME", "", "REASON")
	for _, p := range r.Points {
		reason := p.Reason
		if p.Group != "" {
			reason += " (" + p.Group + ")"
		}
		if p.Error != "" {
			reason += "; still there: " + p.Error
		}
		t.add(p.Point, p.VM, when(p.Time), pruneWord(p, r.DryRun), reason)
	}
	if err := t.print(w); err != nil {
		return err
	}
	verb := "removed"
	if r.DryRun {
		verb = "would go"
	}
	_, err := fmt.Fprintf(w, "%d kept, %d %s\n", r.Kept, r.Removed, verb)
	return err
}

func pruneWord(p api.PrunePoint, dry bool) string {
	switch {
	case p.Keep:
		return "keep"
	case p.Error != "":
		return "failed"
	case dry:
		return "remove"
	}
	return "removed"
}
