package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/server/api"
)

func newDamage(e *env) *cli.Command {
	return &cli.Command{
		Name:  "damage",
		Usage: "list known damage and the images it affects",
		Description: "Exits with 6 when there is any. Damaged blocks are never served; all else of the images can be read.\n" +
			"A backup that brings the blocks again heals them: in mode auto the next one is a full by itself.\n\n" +
			"  strongroom damage --json",
		Flags: clientFlags(),
		Action: func(c *cli.Context) error {
			var found error
			err := ask(e, c, 0, 0, func(client *api.Client) (api.DamageReport, error) {
				d, err := client.Damage(c.Context)
				if len(d.Packs) > 0 {
					found = &damagedError{"stored data is damaged"}
				}
				return d, err
			}, showDamage)
			if err != nil {
				return err
			}
			return found
		},
	}
}

func showDamage(w io.Writer, d api.DamageReport) error {
	if len(d.Packs) == 0 {
		_, err := fmt.Fprintln(w, "no damage is known")
		return err
	}
	t := newTable(">PACK", ">DAMAGED BLOCKS", "")
	for _, p := range d.Packs {
		whole := ""
		if p.Whole {
			whole = "missing or unreadable as a whole"
		}
		t.add(fmt.Sprint(p.Pack), fmt.Sprint(p.Blocks), whole)
	}
	if err := t.print(w); err != nil {
		return err
	}
	if len(d.Images) == 0 {
		_, err := fmt.Fprintln(w, "\nno image is affected")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return affectedTable(d.Images).print(w)
}

func affectedTable(images []api.AffectedImage) *table {
	t := newTable("AFFECTED", "DISK", "POINT", "TIME", ">DAMAGED BLOCKS")
	for _, im := range images {
		t.add(im.VM, im.Disk, im.Point, when(im.Time), fmt.Sprint(im.Blocks))
	}
	return t
}
