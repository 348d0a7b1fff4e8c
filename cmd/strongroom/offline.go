package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/offline"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newExportOffline(e *env) *cli.Command {
	return &cli.Command{
		Name:      "export-offline",
		Usage:     "give a disk or file back from a data directory without a server, writing nothing to it",
		ArgsUsage: "[REF OUT]",
		Description: "For the day when there is no server: a read-only mount, a copy of tier0 on another disk, both databases\n" +
			"lost. --data is the data directory or a tier alone. Every block, chunk and image is verified. OUT is a\n" +
			"file, which appears when it is whole, or - for a pipe. --file gives back what came over SFTP, byte\n" +
			"for byte. With --list it prints the points there are, of the VM that REF names or of all; or the\n" +
			"disks, files and blobs of the point that REF names. What is in the trash is named by its id.\n\n" +
			"  strongroom export-offline --data /mnt/rescue --list\n" +
			"  strongroom export-offline --data /mnt/rescue --list web1@latest\n" +
			"  strongroom export-offline --data /mnt/rescue web1/vda@latest vda.raw\n" +
			"  strongroom export-offline --data /mnt/rescue web1/vda@latest~1 vda.qcow2 --format qcow2\n" +
			"  strongroom export-offline --data /mnt/rescue web1@latest as-it-came.qcow2 --file vda.qcow2\n" +
			"  strongroom export-offline --data /mnt/rescue web1@latest domain.xml --blob domain.xml",
		Flags: []cli.Flag{
			dataFlag(""), jsonFlag(),
			&cli.BoolFlag{Name: "list", Usage: "list points instead, or what one point has"},
			&cli.StringFlag{Name: "disk", Usage: "`DISK`, when REF does not name it"},
			&cli.StringFlag{Name: "file", Usage: "write the point's file `NAME` instead of a disk"},
			&cli.StringFlag{Name: "blob", Usage: "write the point's blob `NAME` instead of a disk"},
			&cli.StringFlag{Name: "format", Value: "raw", Usage: "`FORMAT` raw or qcow2"},
			&cli.BoolFlag{Name: "force", Usage: "replace a file that exists and is not empty"},
			&cli.BoolFlag{Name: "ignore-damage", Usage: "write zeros where data is damaged, name the places, and exit with 6"},
			&cli.BoolFlag{Name: "no-verify", Usage: "verify blocks only, not chunks and the image as a whole"},
			&cli.StringFlag{Name: "scratch", Usage: "`DIR` for temporary files; without it the catalog is held in memory"},
		},
		Action: func(c *cli.Context) error { return runExportOffline(e, c) },
	}
}

func runExportOffline(e *env, c *cli.Context) (err error) {
	least, most := 2, 2
	if c.Bool("list") {
		least, most = 0, 1
	}
	if err := arguments(c, least, most); err != nil {
		return err
	}
	if err := oneThing(c); err != nil {
		return err
	}
	dir := c.String("data")
	if dir == "" {
		dir = server.NewConfig().Data
	}
	s, err := offline.Open(dir, offline.Options{Scratch: c.String("scratch")})
	if err != nil {
		return err
	}
	defer s.Close()
	if holder := s.Holder(); holder != "" {
		e.warn(holder + " has this directory open; what it removes meanwhile is reported as damage")
	}
	switch {
	case c.Bool("list"):
		return listOffline(e, c, s)
	case c.String("blob") != "":
		return blobOffline(e, c, s)
	}
	return exportOffline(c.Context, e, c, s)
}

// oneThing refuses options that ask for two things at once.
func oneThing(c *cli.Context) error {
	if c.String("file") == "" || c.Bool("list") {
		return nil
	}
	if c.String("blob") != "" {
		return usagef("--file and --blob: write one of them at a time")
	}
	if c.String("disk")+diskOf(c.Args().First()) != "" || c.String("format") != string(restore.Raw) {
		return usagef("--file is for a file as it came; it goes with no disk and no --format")
	}
	return nil
}

func listOffline(e *env, c *cli.Context, s *offline.Store) error {
	if name := c.Args().First(); name != "" && (ids.IsID(name) || !ids.IsName(name)) {
		return pointOffline(e, c, s, name)
	}
	live, err := s.List(c.Args().First())
	if err != nil {
		return err
	}
	trash, err := s.Trash()
	if err != nil {
		return err
	}
	list := []api.Point{}
	for _, p := range append(live, trash...) {
		if vm := c.Args().First(); vm == "" || vm == p.VM {
			list = append(list, server.DescribePoint(p))
		}
	}
	if c.Bool("json") {
		return printJSON(e.stdout, list)
	}
	return showPoints(e.stdout, list)
}

// pointOffline lists what a point has. As JSON it is a list of one point.
func pointOffline(e *env, c *cli.Context, s *offline.Store, ref string) error {
	p, _, err := s.Find(ref)
	if err != nil {
		return err
	}
	described := server.DescribePoint(p)
	if c.Bool("json") {
		return printJSON(e.stdout, []api.Point{described})
	}
	return showPoint(e.stdout, described)
}

func blobOffline(e *env, c *cli.Context, s *offline.Store) error {
	p, _, err := s.Find(c.Args().First())
	if err != nil {
		return err
	}
	data, err := s.Blob(p.ID, c.String("blob"))
	if err != nil {
		return err
	}
	if out := c.Args().Get(1); out != "-" {
		return restore.WriteFile(out, data, c.Bool("force"))
	}
	_, err = e.stdout.Write(data)
	return err
}

func exportOffline(ctx context.Context, e *env, c *cli.Context, s *offline.Store) error {
	format, err := restore.ParseFormat(c.String("format"))
	if err != nil {
		return usagef("--format: %v", err)
	}
	o := offline.ExportOptions{
		Disk: c.String("disk"), File: c.String("file"), Format: format, Force: c.Bool("force"), IgnoreDamage: c.Bool("ignore-damage"), NoVerify: c.Bool("no-verify"),
	}
	report := e.stdout
	if o.Path = c.Args().Get(1); o.Path == "-" {
		o.Path, o.To, report = "", e.stdout, e.stderr
	}
	if isTerminal(e.stderr) {
		var bar *progressbar.ProgressBar
		o.Begin = func(n int64) { bar = newBar(e.stderr); bar.ChangeMax64(max(n, 1)) }
		o.Progress = func(n int64) { bar.Add64(n) }
		defer func() {
			if bar != nil {
				bar.Clear()
			}
		}()
	}
	r, err := s.Export(ctx, c.Args().First(), o)
	var damage *offline.DamageError
	if errors.As(err, &damage) {
		return fmt.Errorf("%w; --ignore-damage exports the rest, with zeros in its place", err)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(report, r)
	} else {
		err = showExported(report, r)
	}
	if err == nil && r.DamagedParts > 0 {
		err = &damagedError{fmt.Sprintf("zeros stand for %s that are damaged, in %d places", units.Human(r.DamagedBytes), r.DamagedParts)}
	}
	return err
}

func showExported(w io.Writer, r offline.Report) error {
	verified := "no"
	if r.Verified {
		verified = "yes, root " + r.Root[:min(16, len(r.Root))]
	}
	kind, name := "disk", r.VM+"/"+r.Disk
	if r.File != "" {
		kind, name = "file", r.VM+":/"+printable(r.File)
	}
	if err := fields(w, "point", r.Point, kind, name, "size", units.Human(r.Size), "data", units.Human(r.Data), "verified", verified); err != nil {
		return err
	}
	for _, d := range r.Damage {
		if _, err := fmt.Fprintln(w, "damaged:", d); err != nil {
			return err
		}
	}
	return nil
}
