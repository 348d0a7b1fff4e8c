package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newBackup(e *env) *cli.Command {
	return &cli.Command{
		Name:        "backup",
		Usage:       "open, watch, commit and abort backups",
		Subcommands: []*cli.Command{newBackupStart(e), newBackupStatus(e), newBackupCommit(e), newBackupAbort(e)},
	}
}

func newBackupStart(e *env) *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "open a backup of a VM and print where to write its disks",
		ArgsUsage: "VM",
		Description: "Each disk becomes an NBD export that only who knows its name can write. With --sftp the backup gets\n" +
			"a login too, for files: an image of a disk is a file DISK.qcow2, DISK.raw or DISK.img, all others are\n" +
			"kept as they are. Nothing is published before \"strongroom backup commit\"; an open backup whose time\n" +
			"passes is aborted, and the login ends with it.\n\n" +
			"In mode auto a disk is incremental when the server has an image of it that is not larger, else\n" +
			"full. An incremental export shows the parent's content and takes what changed. With --parent or\n" +
			"--parent-checkpoint the server refuses when its newest image is another one, unless --branch says\n" +
			"that the VM goes on from that older point.\n\n" +
			"  strongroom backup start web1 --disk vda=10GiB --disk vdb=2T --checkpoint cp7 --blob domain.xml=web1.xml\n" +
			"  strongroom backup start web1 --sftp --key job.key\n" +
			"  strongroom backup start web1 --disk vda=10GiB --branch --parent web1@latest~4 --manual",
		Flags: clientFlags(
			&cli.StringSliceFlag{Name: "disk", Usage: "`DISK=SIZE` to back up; may be repeated"},
			&cli.StringFlag{Name: "mode", Value: "auto", Usage: "`MODE` full, incremental or auto"},
			&cli.StringFlag{Name: "parent", Usage: "`REF` of the point the client's bitmaps began at"},
			&cli.StringFlag{Name: "parent-checkpoint", Usage: "`NAME` of the checkpoint the client's bitmaps began at"},
			&cli.StringFlag{Name: "checkpoint", Usage: "`NAME` of the checkpoint this backup makes at the client"},
			&cli.StringSliceFlag{Name: "blob", Usage: "`NAME=FILE` to keep with the point; may be repeated"},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE` of the point; may be repeated"},
			&cli.BoolFlag{Name: "manual", Usage: "this point is asked for by a person: no chain limit and no keep rule takes it"},
			&cli.BoolFlag{Name: "branch", Usage: "the VM was set back to --parent, an older point; go on from there"},
			&cli.BoolFlag{Name: "sftp", Usage: "make a login for this backup and print how to mount it; no --disk is needed"},
			&cli.StringFlag{Name: "key", Usage: "write the login's private key to `FILE` and the server's host key to FILE.known_hosts"},
			&cli.StringFlag{Name: "ttl", Usage: "`TIME` within which to commit, such as 24h or 2d (default: the server's)"},
		),
		Action: func(c *cli.Context) error {
			keys := &keyFiles{path: c.String("key")}
			return ask(e, c, 1, 1, func(client *api.Client) (api.Backup, error) {
				r, err := backupRequest(c)
				if err != nil {
					return api.Backup{}, err
				}
				return startBackup(c.Context, client, r, keys)
			}, func(w io.Writer, b api.Backup) error {
				return errors.Join(showStarted(w, b), showLogin(w, b, keys))
			})
		},
	}
}

func newBackupStatus(e *env) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show a backup, or all that the server remembers",
		ArgsUsage: "[SESSION]",
		Flags:     clientFlags(),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return ask(e, c, 0, 0, func(client *api.Client) ([]api.Backup, error) {
					return client.Backups(c.Context)
				}, showBackups)
			}
			return ask(e, c, 1, 1, func(client *api.Client) (api.Backup, error) {
				return client.Backup(c.Context, c.Args().First())
			}, showBackup)
		},
	}
}

func newBackupCommit(e *env) *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "publish a backup as a recovery point and print the receipt",
		ArgsUsage: "SESSION",
		Description: "Clients still connected are disconnected after what they have in flight is answered. When the\n" +
			"command succeeds, the point survives a power cut. Committing again prints the same receipt.\n\n" +
			"Of files that came over SFTP, images are made first. One that cannot be an image is named, and the\n" +
			"backup stays open.",
		Flags: clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Receipt, error) {
				return commitBackup(c.Context, e, client, c.Args().First())
			}, showReceipt)
		},
	}
}

func newBackupAbort(e *env) *cli.Command {
	return &cli.Command{
		Name:      "abort",
		Usage:     "give a backup up: nothing of it is published",
		ArgsUsage: "SESSION",
		Flags:     clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Backup, error) {
				return client.Abort(c.Context, c.Args().First())
			}, func(w io.Writer, b api.Backup) error {
				_, err := fmt.Fprintf(w, "session %s of %s: %s\n", b.Session, b.VM, b.State)
				return err
			})
		},
	}
}

func showStarted(w io.Writer, b api.Backup) error {
	if err := fields(w, "session", b.Session, "vm", b.VM, "expires", when(b.Expires)); err != nil {
		return err
	}
	if len(b.Disks) == 0 {
		return nil
	}
	t := newTable("DISK", "MODE", "PARENT", ">SIZE", "URI")
	for _, d := range b.Disks {
		t.add(d.Disk, d.Mode, dash(d.Parent), units.Human(d.Size), dash(d.URI))
		if d.UnixURI != "" {
			t.add("", "", "", "", d.UnixURI)
		}
	}
	return t.print(w)
}

func showBackup(w io.Writer, b api.Backup) error {
	err := fields(w, "session", b.Session, "vm", b.VM, "state", b.State, "reason", b.Reason, "point", b.Point,
		"started", when(b.Started), "expires", when(b.Expires), "labels", labels(b.Labels))
	if err != nil {
		return err
	}
	if b.SFTP != nil {
		if err := fields(w, "login", b.SFTP.User+"@"+b.SFTP.Address+":"+b.SFTP.Path); err != nil {
			return err
		}
	}
	t := newTable("DISK", "MODE", "PARENT", ">SIZE", ">WRITTEN", ">ZEROED", ">NEW", ">STORED", "EXPORT")
	for _, d := range b.Disks {
		t.add(d.Disk, d.Mode, dash(d.Parent), units.Human(d.Size), units.Human(d.WrittenBytes), units.Human(d.ZeroedBytes),
			units.Human(d.NewBytes), units.Human(d.StoredBytes), dash(d.Export))
	}
	return printTables(w, t, backupFileTable(b.Files))
}

func showBackups(w io.Writer, list []api.Backup) error {
	t := newTable("SESSION", "VM", "STATE", "STARTED", "EXPIRES", ">DISKS", ">FILES", ">WRITTEN", ">STORED", "POINT")
	for _, b := range list {
		var written, stored int64
		for _, f := range b.Files {
			written += f.WrittenBytes
			stored += f.StoredBytes
		}
		for _, d := range b.Disks {
			written += d.WrittenBytes
			stored += d.StoredBytes
		}
		t.add(b.Session, b.VM, b.State, when(b.Started), when(b.Expires), fmt.Sprint(len(b.Disks)), fmt.Sprint(len(b.Files)),
			units.Human(written), units.Human(stored), dash(b.Point))
	}
	return t.print(w)
}

func showReceipt(w io.Writer, r api.Receipt) error {
	if err := fields(w, "point", r.Point, "vm", r.VM, "time", when(r.Time)); err != nil {
		return err
	}
	return printTables(w, imageTable(r.Images), fileTable(r.Files))
}

func imageTable(images []api.Image) *table {
	t := newTable("DISK", ">SIZE", "MODE", "PARENT", ">WRITTEN", ">NEW", ">STORED", "CHECKPOINT", "ROOT")
	for _, i := range images {
		t.add(i.Disk, units.Human(i.Size), i.Mode, dash(i.Parent), units.Human(i.WrittenBytes), units.Human(i.NewBytes),
			units.Human(i.StoredBytes), dash(i.Checkpoint), i.Root[:min(16, len(i.Root))])
	}
	return t
}

// labels prints labels in one line, sorted.
func labels(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, " ")
}
