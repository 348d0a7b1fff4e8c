package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// runVerifyRestored compares restored files with their manifest.
func runVerifyRestored(e *env, c *cli.Context) error {
	for _, f := range []string{"all", "older-than", "since", "no-wait"} {
		if c.IsSet(f) {
			return usagef("--%s does not go with --restored", f)
		}
	}
	if c.NArg() > 0 {
		return usagef("--restored names a directory or a manifest; it goes with no REF")
	}
	found, err := restore.VerifyDir(c.Context, c.String("restored"), restoredEvents(e))
	if errors.Is(err, fs.ErrNotExist) {
		return &api.Error{Status: 404, Message: err.Error(), Hint: "a restore writes " + restore.ManifestName + " into a directory, and FILE" + restore.ManifestSuffix + " beside a file"}
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(e.stdout, found)
	} else {
		err = showChecked(e.stdout, found)
	}
	if n := len(found.Differences); err == nil && n > 0 {
		return &damagedError{fmt.Sprintf("%s: %s from what was restored", found.Manifest, plural(n, "difference"))}
	}
	return err
}

// restoredEvents move a progress bar.
func restoredEvents(e *env) restore.Events {
	if !isTerminal(e.stderr) {
		return restore.Events{}
	}
	bar := newBar(e.stderr)
	return restore.Events{
		Begin:    func(file string, n int64) { bar.Describe(printable(file)); bar.Reset(); bar.ChangeMax64(max(n, 1)) },
		Progress: func(n int64) { bar.Add64(n) },
	}
}

func showChecked(w io.Writer, c restore.Checked) error {
	if err := fields(w, "point", printable(c.Point), "vm", printable(c.VM), "checked", fmt.Sprintf("%s, %s, %s; %s of data",
		plural(c.Disks, "disk"), plural(c.Files, "file"), plural(c.Blobs, "blob"), units.Human(c.Bytes))); err != nil || len(c.Differences) == 0 {
		return err
	}
	t := newTable("DISK", "FILE", ">FROM", ">TO", "PROBLEM")
	for _, d := range c.Differences {
		from, to, problem := "-", "-", printable(d.Reason)
		if d.Length > 0 {
			from, to, problem = fmt.Sprint(d.Offset), fmt.Sprint(d.Offset+d.Length-1), "differs"
		}
		t.add(dash(printable(d.Disk)), printable(d.File), from, to, problem)
	}
	return t.print(w)
}
