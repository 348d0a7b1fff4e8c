package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/server/api"
)

// keepRules are the keep rules as flags and words.
var keepRules = []struct {
	name, usage string
	of          func(*api.Keep) *int
}{
	{"last", "keep the `N` newest points", func(k *api.Keep) *int { return &k.Last }},
	{"hourly", "keep the newest point of each of `N` hours that have one", func(k *api.Keep) *int { return &k.Hourly }},
	{"daily", "keep the newest point of each of `N` days that have one", func(k *api.Keep) *int { return &k.Daily }},
	{"weekly", "keep the newest point of each of `N` ISO weeks that have one", func(k *api.Keep) *int { return &k.Weekly }},
	{"monthly", "keep the newest point of each of `N` months that have one", func(k *api.Keep) *int { return &k.Monthly }},
	{"yearly", "keep the newest point of each of `N` years that have one", func(k *api.Keep) *int { return &k.Yearly }},
}

func keepFlags() (flags []cli.Flag) {
	for _, r := range keepRules {
		flags = append(flags, &cli.IntFlag{Name: "keep-" + r.name, Category: "keep rules", Usage: r.usage})
	}
	return flags
}

// applyKeep sets the rules that flags name and reports whether one did.
func applyKeep(c *cli.Context, k *api.Keep) (given bool, err error) {
	for _, r := range keepRules {
		flag := "keep-" + r.name
		if !c.IsSet(flag) {
			continue
		}
		if given = true; c.Int(flag) < 0 {
			return given, usagef("--%s: want 0 (off) or more", flag)
		}
		*r.of(k) = c.Int(flag)
	}
	return given, nil
}

// parseLabelKeep reads KEY=VALUE:RULE=N,RULE=N.
func parseLabelKeep(text string) (label string, k api.Keep, err error) {
	bad := usagef("--label-keep %q: want KEY=VALUE:RULE=N,…, such as tier=gold:daily=30,yearly=7", text)
	label, rules, ok := cutLast(text, ":")
	if !ok || !strings.Contains(label, "=") {
		return "", k, bad
	}
	for rule := range strings.SplitSeq(rules, ",") {
		name, count, _ := strings.Cut(rule, "=")
		if !setRule(&k, name, count) {
			return "", k, bad
		}
	}
	return label, k, nil
}

func setRule(k *api.Keep, name, count string) bool {
	n, err := strconv.Atoi(count)
	for _, r := range keepRules {
		if r.name == name && err == nil && n >= 0 {
			*r.of(k) = n
			return true
		}
	}
	return false
}

// cutLast cuts around the last separator: a label's value may hold one.
func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// keepText prints rules in one line.
func keepText(k api.Keep) string {
	var rules []string
	for _, r := range keepRules {
		if n := *r.of(&k); n != 0 {
			rules = append(rules, fmt.Sprintf("%s=%d", r.name, n))
		}
	}
	if len(rules) == 0 {
		return "every point"
	}
	return strings.Join(rules, " ")
}
