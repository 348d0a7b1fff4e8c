package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newPointUndelete(e *env) *cli.Command {
	return &cli.Command{
		Name:        "undelete",
		Usage:       "bring a deleted point back from the trash",
		ArgsUsage:   "ID",
		Description: "\"strongroom trash ls\" has the ids.\n\n  strongroom point undelete 06gzkhntg1hgxmj5",
		Flags:       clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Point, error) {
				return client.UndeletePoint(c.Context, c.Args().First())
			}, said("is back"))
		},
	}
}

func newPointHold(e *env) *cli.Command {
	return &cli.Command{
		Name:      "hold",
		Usage:     "keep a point until it is released",
		ArgsUsage: "REF",
		Description: "A held point is not deleted, pruned, merged away or taken by a chain limit, and uses up no keep\n" +
			"rule.\n\n  strongroom point hold web1@latest --reason \"before the upgrade, ticket 4711\"",
		Flags: clientFlags(&cli.StringFlag{Name: "reason", Usage: "`TEXT` that says why; shown to whoever wants it gone"}),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (p api.Point, err error) {
				if c.String("reason") == "" {
					return p, usagef("say why, for whoever wonders in a year: --reason TEXT")
				}
				if err := mustNamePoint(c.Args().First()); err != nil {
					return p, err
				}
				return client.HoldPoint(c.Context, c.Args().First(), c.String("reason"))
			}, said("is held"))
		},
	}
}

func newPointRelease(e *env) *cli.Command {
	return &cli.Command{
		Name:        "release",
		Usage:       "end the hold on a point",
		ArgsUsage:   "REF",
		Description: "A lock is not ended by it.\n\n  strongroom point release web1@06gzkhntg1hgxmj5",
		Flags:       clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (p api.Point, err error) {
				if err := mustNamePoint(c.Args().First()); err != nil {
					return p, err
				}
				return client.ReleasePoint(c.Context, c.Args().First())
			}, said("is released"))
		},
	}
}

func newPointLock(e *env) *cli.Command {
	return &cli.Command{
		Name:      "lock",
		Usage:     "keep a point until a date; nothing can shorten it",
		ArgsUsage: "REF",
		Description: "Until then nobody can delete the point: no command, no rule, no limit. The date can only be moved on.\n" +
			"Make sure of the date: its space is taken until then.\n\n" +
			"  strongroom point lock web1@latest --until 2027-12-31\n" +
			"  strongroom point lock web1@latest --for 30d",
		Flags: clientFlags(
			&cli.StringFlag{Name: "until", Usage: "`DATE` as 2027-12-31 (its end, UTC) or an RFC 3339 time"},
			&cli.StringFlag{Name: "for", Usage: "`TIME` from now on, such as 30d"},
		),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (p api.Point, err error) {
				until, err := lockDate(c.String("until"), c.String("for"), time.Now())
				if err != nil {
					return p, err
				}
				if err := mustNamePoint(c.Args().First()); err != nil {
					return p, err
				}
				return client.LockPoint(c.Context, c.Args().First(), until)
			}, func(w io.Writer, p api.Point) error {
				return said("is locked until "+when(p.LockedUntil))(w, p)
			})
		},
	}
}

// lockDate is the time that one of the two flags means.
func lockDate(until, duration string, now time.Time) (time.Time, error) {
	switch {
	case (until == "") == (duration == ""):
		return time.Time{}, usagef("say until when: either --until DATE or --for TIME")
	case duration != "":
		d, err := units.ParseDuration(duration)
		if err != nil {
			return time.Time{}, usagef("--for: %v", err)
		}
		return now.Add(time.Duration(d)).UTC(), nil
	}
	if day, err := time.Parse(time.DateOnly, until); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := parseDate(until)
	if err != nil {
		return t, usagef("--until %q: %v", until, err)
	}
	return t, nil
}

// parseDate reads the beginning of a day or a time.
func parseDate(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, errors.New("want a date as 2027-12-31 or an RFC 3339 time as 2027-12-31T18:00:00Z")
	}
	return t.UTC(), nil
}

// said prints what has become of a point.
func said(what string) func(io.Writer, api.Point) error {
	return func(w io.Writer, p api.Point) error {
		_, err := fmt.Fprintf(w, "point %s of %s %s\n", p.Point, p.VM, what)
		return err
	}
}

// pointFlags are the things about a point that a listing has a word for.
func pointFlags(p api.Point) string {
	return flagWords(p.Manual, p.Hold, p.LockedUntil, false, false)
}

func flagWords(manual bool, hold string, locked time.Time, damaged, used bool) string {
	var words []string
	for _, f := range []struct {
		on   bool
		word string
	}{
		{manual, "manual"}, {hold != "", "held"}, {locked.After(time.Now()), "locked"}, {damaged, "DAMAGED"}, {used, "in-use"},
	} {
		if f.on {
			words = append(words, f.word)
		}
	}
	return strings.Join(words, ",")
}

// yes is for fields that are shown only when they are true.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// orNothing is for times that are shown only when they are set.
func orNothing(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return when(t)
}
