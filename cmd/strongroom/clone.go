package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newClone(e *env) *cli.Command {
	return &cli.Command{
		Name:  "clone",
		Usage: "run a VM from a point: writable disks over it, kept until sealed or discarded",
		Subcommands: []*cli.Command{
			newCloneCreate(e), newCloneList(e), newCloneShow(e), newCloneResume(e), newCloneSeal(e), newCloneDiscard(e),
		},
	}
}

func newCloneCreate(e *env) *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "make writable disks over those of a point and print where they are",
		ArgsUsage: "REF",
		Description: "It takes no time and no space, whatever the size: what is not written is read from the point. Each\n" +
			"disk becomes an NBD export that only who knows its name can use; QEMU can boot from it at once and\n" +
			"move it to its own storage meanwhile. What the guest writes is kept like a backup: it survives a\n" +
			"crash of the server under the same names, and what it flushed survives a power cut.\n" +
			"The point cannot be removed while the clone is there. On a terminal the options for QEMU are printed\n" +
			"too.\n\n" +
			"  strongroom clone create web1\n" +
			"  strongroom clone create web1@latest~2 --disk vda --disk vdb --label why=ransomware\n" +
			"  strongroom clone create web1/vda@2026-11-20T10:00:00Z --json",
		Flags: clientFlags(
			&cli.StringSliceFlag{Name: "disk", Usage: "`DISK` to clone; may be repeated (default: all)"},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE` of the clone, and of the point it may become; may be repeated"},
		),
		Action: func(c *cli.Context) error {
			return askClone(e, c, func(client *api.Client, ref string) (api.Clone, error) {
				labels, err := parseLabels(c.StringSlice("label"))
				if err != nil {
					return api.Clone{}, err
				}
				return client.CreateClone(c.Context, api.CloneRequest{Ref: ref, Disks: c.StringSlice("disk"), Labels: labels})
			}, showNewClone)
		},
	}
}

func newCloneList(e *env) *cli.Command {
	return &cli.Command{
		Name:    "list",
		Aliases: []string{"ls"},
		Usage:   "list the clones there are",
		Description: "States: open; sealing; stale, when writes that were answered may be lost (see \"clone resume\"); dead,\n" +
			"when nothing can be read any more.",
		Flags: clientFlags(),
		Action: func(c *cli.Context) error {
			return ask(e, c, 0, 0, func(client *api.Client) ([]api.Clone, error) { return client.Clones(c.Context) }, showClones)
		},
	}
}

func newCloneShow(e *env) *cli.Command {
	return &cli.Command{
		Name:        "show",
		Usage:       "show a clone, its exports and who is connected",
		ArgsUsage:   "CLONE",
		Description: "A clone that was sealed or discarded is remembered for a week.",
		Flags:       clientFlags(),
		Action: func(c *cli.Context) error {
			return askClone(e, c, func(client *api.Client, id string) (api.Clone, error) { return client.Clone(c.Context, id) }, showClone)
		},
	}
}

func newCloneResume(e *env) *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "open a stale clone again, under new names",
		ArgsUsage: "CLONE",
		Description: "A clone is stale when the server's host went down, or a disk failed, before what was written was\n" +
			"flushed. A guest that saw those writes must not go on over their loss, so the old names are refused\n" +
			"for ever. Resumed, the disks are as at the last flush, as real ones are after a power cut: boot the\n" +
			"VM again from the new names.\n\n" +
			"  strongroom clone resume 06gzn3xfezh2arja",
		Flags: clientFlags(),
		Action: func(c *cli.Context) error {
			return askClone(e, c, func(client *api.Client, id string) (api.Clone, error) { return client.ResumeClone(c.Context, id) }, showNewClone)
		},
	}
}

func newCloneSeal(e *env) *cli.Command {
	return &cli.Command{
		Name:      "seal",
		Usage:     "make a clone a recovery point, print the receipt, and end it",
		ArgsUsage: "CLONE",
		Description: "The new point's parent is the one the clone is over: a branch, when that was not the newest. Refused\n" +
			"while clients are connected, unless --force disconnects them after what they have in flight is\n" +
			"answered. When the command succeeds, the point survives a power cut. Sealing again prints the same\n" +
			"receipt.\n\n" +
			"  strongroom clone seal 06gzn3xfezh2arja",
		Flags: clientFlags(forceFlag()),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Receipt, error) {
				return client.SealClone(c.Context, c.Args().First(), c.Bool("force"))
			}, showReceipt)
		},
	}
}

func newCloneDiscard(e *env) *cli.Command {
	return &cli.Command{
		Name:      "discard",
		Aliases:   []string{"rm"},
		Usage:     "give a clone up, with all that was written to it",
		ArgsUsage: "CLONE",
		Description: "The point below stays as it is. Refused while clients are connected, unless --force disconnects\n" +
			"them. On a terminal the command asks first.\n\n" +
			"  strongroom clone discard 06gzn3xfezh2arja",
		Flags: clientFlags(forceFlag(), &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.Clone, error) {
				return discardClone(c.Context, e, client, c.Args().First(), c.Bool("force"), c.Bool("yes"))
			}, func(w io.Writer, x api.Clone) error {
				_, err := fmt.Fprintf(w, "clone %s of %s@%s is %s\n", x.Clone, x.VM, x.Base, x.State)
				return err
			})
		},
	}
}

func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "disconnect clients, as if the disks were pulled out"}
}

// askClone is ask about the one thing the argument names. What is shown depends
// on where the client runs.
func askClone(e *env, c *cli.Context, question func(*api.Client, string) (api.Clone, error), show func(e *env, w io.Writer, x api.Clone, local bool) error) error {
	local := false
	return ask(e, c, 1, 1, func(client *api.Client) (api.Clone, error) {
		local = client.Local()
		return question(client, c.Args().First())
	}, func(w io.Writer, x api.Clone) error { return show(e, w, x, local) })
}

// discardClone asks a person before what a guest wrote is gone.
func discardClone(ctx context.Context, e *env, client *api.Client, id string, force, yes bool) (api.Clone, error) {
	if !yes && isTerminal(e.stdin) {
		x, err := client.Clone(ctx, id)
		if err != nil {
			return x, err
		}
		fmt.Fprintf(e.stderr, "discard clone %s of %s, made %s, with %s written to it? [y/N] ", x.Clone, x.VM, when(x.Created), units.Human(cloneTotals(x).written))
		if !answerYes(e.stdin) {
			return x, errors.New("not discarded")
		}
	}
	return client.DiscardClone(ctx, id, force)
}
