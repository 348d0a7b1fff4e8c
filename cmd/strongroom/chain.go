package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newChain(e *env) *cli.Command {
	return &cli.Command{
		Name:        "chain",
		Usage:       "show and merge the images of a disk",
		Subcommands: []*cli.Command{newChainShow(e), newChainMerge(e)},
	}
}

func newChainShow(e *env) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "draw the tree of a disk's images",
		ArgsUsage: "VM/DISK",
		Description: "Oldest first; what goes on from an image stands below it, and a branch, as after a restore to an older\n" +
			"point, is set in. Every image is complete, so any can be deleted; FREED is what that gives back.\n\n" +
			"  strongroom chain show web1/vda",
		Flags: clientFlags(&cli.BoolFlag{Name: "ascii", Usage: "draw with ASCII characters (default when the locale is not UTF-8)"}),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (t api.Chain, err error) {
				vm, disk, err := vmDisk(c.Args().First())
				if err != nil {
					return t, err
				}
				return client.Chain(c.Context, vm, disk)
			}, func(w io.Writer, t api.Chain) error {
				return showChain(w, t, c.Bool("ascii") || !localeIsUTF8(os.Getenv))
			})
		},
	}
}

func newChainMerge(e *env) *cli.Command {
	return &cli.Command{
		Name:      "merge",
		Usage:     "join images of a disk into one",
		ArgsUsage: "VM/DISK",
		Description: "Into an older image (commit): it gets the content of --from, and the images after it up to --from are\n" +
			"gone. Into a newer one (pull): its content stays, and the images from --from up to it are gone beneath\n" +
			"it. Nothing is copied; what stays reads as before. A point that loses its last disk is gone with it.\n" +
			"Points that are held, locked or in use are not merged away.\n\n" +
			"  strongroom chain merge web1/vda --from 06gzkhntg1hgxmj5 --into latest --dry-run\n" +
			"  strongroom chain merge web1/vda --from latest~2 --into 06gzkhntg1hgxmj5",
		Flags: clientFlags(
			&cli.StringFlag{Name: "from", Usage: "`POINT` (id, time, latest~N) to take from"},
			&cli.StringFlag{Name: "into", Usage: "`POINT` that stays"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would go; change nothing"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask on a terminal"},
		),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Merged, error) { return runMerge(e, c, client) }, showMerged)
		},
	}
}

func runMerge(e *env, c *cli.Context, client *api.Client) (m api.Merged, err error) {
	vm, disk, err := vmDisk(c.Args().First())
	if err != nil {
		return m, err
	}
	if c.String("from") == "" || c.String("into") == "" {
		return m, usagef("name both images: --from POINT --into POINT")
	}
	q := api.MergeRequest{DryRun: true}
	// What the references mean now is what is asked about and done.
	for _, r := range []struct {
		text string
		id   *string
	}{{c.String("from"), &q.From}, {c.String("into"), &q.Into}} {
		p, err := client.Point(c.Context, mergeRef(vm, disk, r.text))
		if err != nil {
			return m, err
		}
		*r.id = p.Point
	}
	plan, err := client.Merge(c.Context, vm, disk, q)
	if err != nil || c.Bool("dry-run") {
		return plan, err
	}
	if !c.Bool("yes") && isTerminal(e.stdin) {
		fmt.Fprintf(e.stderr, "merge %s into %s (%s): disk %s of %s is gone from %s? [y/N] ", plan.From, plan.Into, plan.Direction, disk, vm, strings.Join(plan.Gone, ", "))
		if !answerYes(e.stdin) {
			return m, fmt.Errorf("not merged")
		}
	}
	q.DryRun = false
	return client.Merge(c.Context, vm, disk, q)
}

// mergeRef is a point of the disk, whether named with its VM or without.
func mergeRef(vm, disk, text string) string {
	if strings.ContainsAny(text, "@/") {
		return text
	}
	return vm + "/" + disk + "@" + text
}

// vmDisk splits VM/DISK.
func vmDisk(text string) (vm, disk string, err error) {
	i := strings.IndexAny(text, "/:")
	if i <= 0 || i == len(text)-1 || strings.Contains(text, "@") {
		return "", "", usagef("%q: want VM/DISK", text)
	}
	return text[:i], text[i+1:], nil
}

func showMerged(w io.Writer, m api.Merged) error {
	verb := "is gone"
	if m.DryRun {
		verb = "would be gone"
	}
	_, err := fmt.Fprintf(w, "%s of %s into %s: the image of %s %s from %s\n", m.Direction, m.From, m.Into, m.VM+"/"+m.Disk, verb, strings.Join(m.Gone, ", "))
	return err
}

func showChain(w io.Writer, c api.Chain, ascii bool) error {
	t := newTable("IMAGE", "TIME", "MODE", ">TRANSFERRED", ">UNIQUE", ">SHARED", ">STORED", ">FREED", "FLAGS")
	for _, row := range drawTree(c.Images, ascii) {
		if row.image == nil {
			t.add()
			continue
		}
		im, u := row.image, row.image.Usage
		t.add(row.art+im.Point, when(im.Time), im.Mode, units.Human(u.TransferredBytes), units.Human(u.UniqueBytes), units.Human(u.SharedBytes),
			units.Human(u.StoredBytes), units.Human(u.UniqueStoredBytes), flagWords(im.Manual, im.Hold, im.LockedUntil, im.Damaged, im.InUse))
	}
	u := c.Total
	t.add("all", "", fmt.Sprint(len(c.Images)), units.Human(u.TransferredBytes), units.Human(u.UniqueBytes), units.Human(u.SharedBytes),
		units.Human(u.StoredBytes), units.Human(u.UniqueStoredBytes))
	if err := t.print(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "the newest image's chain has %d of at most %s images; mode auto takes a full after %s incrementals\n", c.Length, orAny(c.Limit), orAny(c.FullAfter))
	for _, text := range c.Warnings {
		if _, err := fmt.Fprintln(w, "warning:", text); err != nil {
			return err
		}
	}
	return err
}

func orAny(n int) string {
	if n == 0 {
		return "any number of"
	}
	return fmt.Sprint(n)
}

// localeIsUTF8 reads the variables that say so, the strongest first.
func localeIsUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(strings.ReplaceAll(v, "-", ""))
			return strings.Contains(v, "utf8")
		}
	}
	return false
}
