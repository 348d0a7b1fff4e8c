package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newVerify(e *env) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read a point's data, or all, and check every byte of it",
		ArgsUsage: "[REF]",
		Description: "The server verifies everything within scrub.target-age by itself; without an argument this shows how\n" +
			"far it is. Damage is repaired when there is another copy, else the command exits with 6 and names\n" +
			"the images that cannot be read whole. Verified are whole packs, so what points share is read once.\n\n" +
			"--restored checks what restore has written, with the manifest beside it and without a server: disks in\n" +
			"raw and qcow2 files, chains and archives, files and blobs. It names what is missing and the bytes of each\n" +
			"disk that differ, to 64 MiB, and then exits with 6.\n\n" +
			"  strongroom verify web1@latest\n" +
			"  strongroom verify web1/vda --older-than 7d\n" +
			"  strongroom verify --all --no-wait\n" +
			"  strongroom verify --restored /srv/restored/web1\n" +
			"  strongroom verify --restored vda.raw.restore.json",
		Flags: clientFlags(
			&cli.BoolFlag{Name: "all", Usage: "verify every pack"},
			&cli.StringFlag{Name: "older-than", Usage: "leave out what was verified within `TIME`, such as 7d"},
			&cli.StringFlag{Name: "since", Usage: "leave out what was verified after `DATE`, as 2027-12-31 or an RFC 3339 time"},
			&cli.BoolFlag{Name: "no-wait", Usage: "start it and return"},
			&cli.StringFlag{Name: "restored", Usage: "check what was restored into `DIR`, or is in the manifest FILE.restore.json"},
		),
		Action: func(c *cli.Context) error {
			if c.String("restored") != "" {
				return runVerifyRestored(e, c)
			}
			if c.NArg() == 0 && !c.Bool("all") {
				return ask(e, c, 0, 0, func(client *api.Client) (api.ScrubStatus, error) { return client.ScrubStatus(c.Context) }, showScrub)
			}
			return runVerify(e, c)
		},
	}
}

func runVerify(e *env, c *cli.Context) error {
	q, err := verifyRequest(c)
	if err != nil {
		return err
	}
	return askJob(e, c, 0, 1, func(client *api.Client) (api.Job, error) {
		j, err := client.Verify(c.Context, q)
		if err != nil || c.Bool("no-wait") {
			return j, err
		}
		if j, err = follow(c.Context, e, client, j); err != nil {
			return j, err
		}
		if v := j.Verify; v != nil && v.DamagedBlocks+v.DamagedPacks > v.Repaired {
			return j, &damagedError{fmt.Sprintf("damage was found: %s, %s as a whole; %s repaired", plural(v.DamagedBlocks, "block"), plural(v.DamagedPacks, "pack"), plural(v.Repaired, "block"))}
		}
		return j, nil
	})
}

func verifyRequest(c *cli.Context) (q api.VerifyRequest, err error) {
	q.Ref = c.Args().First()
	if q.Ref != "" && c.Bool("all") {
		return q, usagef("name a point or --all, not both")
	}
	if text := c.String("older-than"); text != "" {
		d, err := units.ParseDuration(text)
		if err != nil {
			return q, usagef("--older-than: %v", err)
		}
		q.OlderThanSeconds = int64(time.Duration(d) / time.Second)
	}
	if text := c.String("since"); text != "" {
		if q.Since, err = parseDate(text); err != nil {
			return q, usagef("--since %q: %v", text, err)
		}
	}
	return q, nil
}

func showVerified(w io.Writer, r api.VerifyResult) error {
	if err := fields(w,
		"read", plural(r.Packs, "pack")+", "+units.Human(r.Bytes),
		"left out", plural(r.Skipped, "pack"),
		"good", plural(r.Blocks, "block"),
		"damaged", fmt.Sprintf("%s, %s as a whole", plural(r.DamagedBlocks, "block"), plural(r.DamagedPacks, "pack")),
		"repaired", plural(r.Repaired, "block"),
	); err != nil || len(r.Images) == 0 {
		return err
	}
	return affectedTable(r.Images).print(w)
}

func showScrub(w io.Writer, s api.ScrubStatus) error {
	target := "off"
	if s.TargetAgeSeconds > 0 {
		target = age(s.TargetAgeSeconds)
	}
	if err := fields(w, "packs", fmt.Sprintf("%d, %d of them never verified", s.Packs, s.Unverified), "oldest verified", oldest(s), "target", target); err != nil {
		return err
	}
	return showEachJob(w, s.Running, s.Last)
}

func oldest(s api.ScrubStatus) string {
	if s.Packs == s.Unverified {
		return "none yet"
	}
	return age(s.OldestSeconds) + " ago"
}

// age prints seconds as a person would.
func age(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d >= 2*units.Day {
		return fmt.Sprintf("%d days", d/units.Day)
	}
	return d.Round(time.Second).String()
}
