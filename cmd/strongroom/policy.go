package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newPolicy(e *env) *cli.Command {
	return &cli.Command{
		Name:  "policy",
		Usage: "show and set how a VM's points are kept and chained",
		Subcommands: []*cli.Command{
			{
				Name:        "show",
				Usage:       "show what holds for a VM, and whether the VM or the server says so",
				ArgsUsage:   "VM",
				Description: "  strongroom policy show web1",
				Flags:       clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 1, 1, func(client *api.Client) (api.VMPolicy, error) {
						return client.Policy(c.Context, c.Args().First())
					}, showPolicy)
				},
			},
			newPolicySet(e),
		},
	}
}

func newPolicySet(e *env) *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "set a VM's own policy; what is not named stays as it is",
		ArgsUsage: "VM",
		Description: "What a VM's policy leaves open is the server's (retention, chains and trash in its configuration).\n" +
			"A keep rule that is not named stays as it is in the VM's own policy; when that has none yet, it is off.\n\n" +
			"  strongroom policy set web1 --keep-last 3 --keep-daily 14 --keep-monthly 12\n" +
			"  strongroom policy set web1 --label-keep tier=gold:daily=30,yearly=7 --chain-limit 32\n" +
			"  strongroom policy set web1 --unset keep --unset chain-limit",
		Flags: clientFlags(slices.Concat(keepFlags(), []cli.Flag{
			&cli.StringSliceFlag{Name: "label-keep", Category: "keep rules", Usage: "`KEY=VALUE:RULE=N,…` for points with that label; may be repeated"},
			&cli.StringFlag{Name: "full-after", Usage: "in mode auto take a full after `N` incrementals, or off"},
			&cli.StringFlag{Name: "chain-limit", Usage: "allow `N` images in a chain, or off"},
			&cli.StringFlag{Name: "warn-manual", Usage: "warn above `N` manual points of a disk, or off"},
			&cli.BoolFlag{Name: "strict-chains", Usage: "a full's incrementals go only after a newer full exists (--strict-chains=false: they may)"},
			&cli.StringFlag{Name: "trash-keep", Usage: "keep deleted points for `TIME`, such as 7d; 0s deletes at once"},
			&cli.StringSliceFlag{Name: "unset", Usage: "let the server decide on `NAME` again: keep, label-keep, full-after, chain-limit, warn-manual, strict-chains, trash-keep or all"},
		})...),
		Action: func(c *cli.Context) error {
			return ask(e, c, 1, 1, func(client *api.Client) (api.VMPolicy, error) {
				return runPolicySet(c.Context, c, client)
			}, showPolicy)
		},
	}
}

func runPolicySet(ctx context.Context, c *cli.Context, client *api.Client) (api.VMPolicy, error) {
	vm := c.Args().First()
	now, err := client.Policy(ctx, vm)
	if err != nil {
		return now, err
	}
	p := now.Own
	for _, name := range c.StringSlice("unset") {
		if err := unsetPolicy(&p, name); err != nil {
			return now, err
		}
	}
	given, err := changePolicy(c, &p)
	if err != nil {
		return now, err
	}
	if !given && !c.IsSet("unset") {
		return now, usagef("name what to set, such as --keep-daily 7")
	}
	return client.SetPolicy(ctx, vm, p)
}

func unsetPolicy(p *api.Policy, name string) error {
	switch name {
	case "keep":
		p.Keep = nil
	case "label-keep":
		p.LabelKeep = nil
	case "full-after":
		p.FullAfter = nil
	case "chain-limit":
		p.ChainLimit = nil
	case "warn-manual":
		p.ManualWarn = nil
	case "strict-chains":
		p.StrictChains = nil
	case "trash-keep":
		p.TrashSeconds = nil
	case "all":
		*p = api.Policy{}
	default:
		return usagef("--unset %q: want keep, label-keep, full-after, chain-limit, warn-manual, strict-chains, trash-keep or all", name)
	}
	return nil
}

// changePolicy applies the flags and reports whether one was given.
func changePolicy(c *cli.Context, p *api.Policy) (given bool, err error) {
	keep := api.Keep{}
	if p.Keep != nil {
		keep = *p.Keep
	}
	if given, err = applyKeep(c, &keep); err != nil {
		return given, err
	}
	if given {
		p.Keep = &keep
	}
	for _, text := range c.StringSlice("label-keep") {
		label, keep, err := parseLabelKeep(text)
		if err != nil {
			return given, err
		}
		if given = true; p.LabelKeep == nil {
			p.LabelKeep = map[string]api.Keep{}
		}
		p.LabelKeep[label] = keep
	}
	for _, limit := range []struct {
		flag string
		to   **int
	}{{"full-after", &p.FullAfter}, {"chain-limit", &p.ChainLimit}, {"warn-manual", &p.ManualWarn}} {
		if !c.IsSet(limit.flag) {
			continue
		}
		n, err := parseLimit(c.String(limit.flag))
		if err != nil {
			return given, usagef("--%s %q: want a whole number of at least 1, or off", limit.flag, c.String(limit.flag))
		}
		given, *limit.to = true, &n
	}
	if c.IsSet("strict-chains") {
		strict := c.Bool("strict-chains")
		given, p.StrictChains = true, &strict
	}
	if text := c.String("trash-keep"); text != "" {
		d, err := units.ParseDuration(text)
		if err != nil {
			return given, usagef("--trash-keep: %v", err)
		}
		seconds := int64(time.Duration(d) / time.Second)
		given, p.TrashSeconds = true, &seconds
	}
	return given, nil
}

// parseLimit reads a count or off, which is 0.
func parseLimit(text string) (int, error) {
	if text == "off" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n, err
}

func showPolicy(w io.Writer, p api.VMPolicy) error {
	t := newTable("SETTING", "VALUE", "SET BY")
	by := func(own bool) string {
		if own {
			return p.VM
		}
		return "server"
	}
	own, all := p.Own, p.Effective
	t.add("keep", keepText(deref(all.Keep)), by(own.Keep != nil))
	for _, label := range slices.Sorted(maps.Keys(all.LabelKeep)) {
		t.add("keep if "+label, keepText(all.LabelKeep[label]), by(own.LabelKeep != nil))
	}
	t.add("full after", limitText(all.FullAfter, "incrementals"), by(own.FullAfter != nil))
	t.add("chain limit", limitText(all.ChainLimit, "images"), by(own.ChainLimit != nil))
	t.add("warn above", limitText(all.ManualWarn, "manual points"), by(own.ManualWarn != nil))
	t.add("strict chains", fmt.Sprint(deref(all.StrictChains)), by(own.StrictChains != nil))
	t.add("trash keeps for", units.Duration(time.Duration(deref(all.TrashSeconds))*time.Second).String(), by(own.TrashSeconds != nil))
	return t.print(w)
}

func limitText(n *int, of string) string {
	if deref(n) == 0 {
		return "off"
	}
	return fmt.Sprintf("%d %s", *n, of)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
