package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newCompress(e *env) *cli.Command {
	return &cli.Command{
		Name:  "compress",
		Usage: "compress what was stored without, for the sake of speed",
		Description: "Files that come over SFTP are stored as they are and compressed afterwards, beside backups and\n" +
			"restores, by itself. This does it now. Packs that are still being filled are left for later.\n\n" +
			"  strongroom compress --wait\n" +
			"  strongroom compress --status",
		Flags: clientFlags(
			&cli.BoolFlag{Name: "wait", Usage: "wait for its end and show what it did"},
			&cli.BoolFlag{Name: "status", Usage: "start nothing; show what waits, what runs and what ran last"},
		),
		Action: func(c *cli.Context) error {
			if c.Bool("status") {
				return ask(e, c, 0, 0, func(client *api.Client) (api.CompressStatus, error) { return client.CompressStatus(c.Context) }, showCompressStatus)
			}
			return askJob(e, c, 0, 0, func(client *api.Client) (api.Job, error) {
				j, err := client.Compress(c.Context, api.CompressRequest{})
				if err != nil || !c.Bool("wait") {
					return j, err
				}
				return follow(c.Context, e, client, j)
			})
		},
	}
}

func showCompressStatus(w io.Writer, s api.CompressStatus) error {
	if err := fields(w, "not compressed yet", units.Human(s.WaitingBytes)); err != nil {
		return err
	}
	return showEachJob(w, s.Running, s.Last)
}

func showCompressed(w io.Writer, r api.CompressResult) error {
	left := ""
	if r.Skipped > 0 {
		left = plural(r.Skipped, "damaged pack")
	}
	return fields(w,
		"written anew", plural(r.Packs, "pack"),
		"left alone", left,
		"size", units.Human(r.BeforeBytes)+" before, "+units.Human(r.AfterBytes)+" after",
		"saved", units.Human(max(r.BeforeBytes-r.AfterBytes, 0)),
	)
}

func compressSummary(r api.CompressResult) string {
	return fmt.Sprintf("%s, %s saved", plural(r.Packs, "pack"), units.Human(max(r.BeforeBytes-r.AfterBytes, 0)))
}
