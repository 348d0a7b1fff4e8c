package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newStats(e *env) *cli.Command {
	return &cli.Command{
		Name:  "stats",
		Usage: "show what the store holds and what it saved",
		Flags: clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 0, 0, func(client *api.Client) (api.Stats, error) { return client.Stats(c.Context) }, showStats)
		},
	}
}

func showStats(w io.Writer, s api.Stats) error {
	var sessions []string
	for _, state := range slices.Sorted(maps.Keys(s.Sessions)) {
		sessions = append(sessions, fmt.Sprintf("%d %s", s.Sessions[state], state))
	}
	return fields(w,
		"VMs", fmt.Sprint(s.VMs),
		"points", fmt.Sprint(s.Points),
		"images", fmt.Sprint(s.Images),
		"logical", units.Human(s.LogicalBytes),
		"stored", fmt.Sprintf("%s in %d packs", units.Human(s.StoredBytes), s.Packs),
		"ratio", ratio(s.LogicalBytes, s.StoredBytes),
		"file system", fmt.Sprintf("%s free of %s; %s usable, %s held back", units.Human(s.FreeBytes), units.Human(s.CapacityBytes), units.Human(s.UsableBytes), units.Human(s.ReserveBytes)),
		"reclaimable", units.Human(s.ReclaimableBytes),
		"trash", fmt.Sprintf("%s, %s", plural(s.TrashPoints, "point"), units.Human(s.TrashBytes)),
		"sessions", strings.Join(sessions, ", "),
		"NBD connections", fmt.Sprint(s.Connections),
		"SFTP connections", fmt.Sprint(s.SFTPClients),
		"up", (time.Duration(s.Uptime) * time.Second).String(),
		"since then", fmt.Sprintf("%s put, %s of it new, %s stored for it", units.Human(s.WrittenBytes), units.Human(s.NewBytes), units.Human(s.PackedBytes)),
	)
}
