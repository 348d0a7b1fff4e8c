package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/buildinfo"
)

func newVersion(e *env) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print which build this is",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			i := buildinfo.Get()
			if c.Bool("json") {
				return printJSON(e.stdout, i)
			}
			_, err := fmt.Fprintf(e.stdout, "strongroom %s %s %s %s\n", i.Version, dash(i.Revision), i.Go, i.Platform)
			return err
		},
	}
}
