package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

// inPlaceFlags are the flags of restore that belong to --in-place.
func inPlaceFlags() []cli.Flag {
	const category = "in place"
	return []cli.Flag{
		&cli.StringFlag{Name: "in-place", Category: category, Usage: "overwrite `TARGET`, a file, block device or NBD URI, where it differs"},
		&cli.BoolFlag{Name: "resize", Category: category, Usage: "give a file the size the disk had"},
		&cli.StringFlag{Name: "dirty", Category: category, Usage: "`FILE` that says what the guest changed since --since: an nbdinfo or imageio map, or lines OFFSET LENGTH"},
		&cli.StringFlag{Name: "dirty-bitmap", Category: category, Usage: "NBD `URI` of the QEMU export that has the bitmap (default: TARGET)"},
		&cli.StringFlag{Name: "bitmap", Category: category, Usage: "`NAME` of QEMU's dirty bitmap, of what the guest changed since --since"},
		&cli.StringFlag{Name: "since", Category: category, Value: "latest", Usage: "`POINT` of the VM since which --dirty or --bitmap tell what changed"},
		&cli.StringFlag{Name: "journal", Category: category, Usage: "`FILE` that tells what an interrupted restore has left (default: beside a file, else in the state directory)"},
	}
}

func runInPlace(e *env, c *cli.Context) error { return errors.New("restoring in place is unfinished") }
