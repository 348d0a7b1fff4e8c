package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newGC(e *env) *cli.Command {
	return &cli.Command{
		Name:  "gc",
		Usage: "give back the space of what no point needs any more",
		Description: "Collection runs by itself (gc in the server's configuration), beside backups and restores. This\n" +
			"starts one now. Points in the trash keep their space until they leave it.\n\n" +
			"  strongroom gc --wait\n" +
			"  strongroom gc --status",
		Flags: clientFlags(
			&cli.BoolFlag{Name: "wait", Usage: "wait for its end and show what it did"},
			&cli.BoolFlag{Name: "status", Usage: "start nothing; show what could be had back, what runs and what ran last"},
			&cli.Float64Flag{Name: "dead-ratio", Usage: "write packs anew that are dead by at least this `SHARE`, 0.02 to 1 (default: the server's)"},
		),
		Action: func(c *cli.Context) error {
			if c.Bool("status") {
				return ask(e, c, 0, 0, func(client *api.Client) (api.GCStatus, error) { return client.GCStatus(c.Context) }, showGCStatus)
			}
			return askJob(e, c, 0, 0, func(client *api.Client) (api.Job, error) {
				j, err := client.GC(c.Context, api.GCRequest{DeadRatio: c.Float64("dead-ratio")})
				if err != nil || !c.Bool("wait") {
					return j, err
				}
				return follow(c.Context, e, client, j)
			})
		},
	}
}

func showGCStatus(w io.Writer, s api.GCStatus) error {
	if err := fields(w,
		"reclaimable", units.Human(s.ReclaimableBytes),
		"waiting", waiting(s.PendingPoints),
		"trash", fmt.Sprintf("%s, %s", plural(s.TrashPoints, "point"), units.Human(s.TrashBytes)),
		"last success", when(s.LastSuccess)); err != nil {
		return err
	}
	return showEachJob(w, s.Running, s.Last)
}

// waiting tells of points whose space is not counted yet.
func waiting(points int64) string {
	if points == 0 {
		return ""
	}
	return plural(points, "point") + " removed since the last look, or still read"
}

func showCollected(w io.Writer, r api.GCResult) error {
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, fmt.Sprintf("%s %v", p.Name, time.Duration(p.Seconds*float64(time.Second)).Round(time.Millisecond)))
	}
	return fields(w,
		"purged", plural(r.Purged, "point"),
		"forgotten", plural(r.Forgotten, "point"),
		"still needed", strings.Join(r.Pinned, " "),
		"marked", plural(r.Points, "point")+", "+plural(r.Chunks, "chunk"),
		"looked at", fmt.Sprintf("%s: %s live, %s dead", plural(r.Packs, "pack"), units.Human(r.LiveBytes), units.Human(r.DeadBytes)),
		"condemned", units.Human(r.CondemnedBytes)+" in "+plural(r.Victims, "pack"),
		"moved", units.Human(r.MovedBytes),
		"freed", units.Human(r.FreedBytes),
		"phases", strings.Join(phases, ", "),
	)
}

func plural[N int | int64](n N, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
