package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/server/api"
)

func newHealth(e *env) *cli.Command {
	return &cli.Command{
		Name:        "health",
		Usage:       "ask whether the server works",
		Description: "Exits 0 when the server answers that it works, 1 when it answers that it does not, 5 when it does not answer.",
		Flags:       clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 0, 0, func(client *api.Client) (api.Health, error) { return client.Health(c.Context) },
				func(w io.Writer, h api.Health) error {
					if _, err := fmt.Fprintln(w, h.Status); err != nil {
						return err
					}
					for _, text := range h.Warnings {
						if _, err := fmt.Fprintln(w, "warning:", text); err != nil {
							return err
						}
					}
					return nil
				})
		},
	}
}
