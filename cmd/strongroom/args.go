package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// reorder moves flags in front of the arguments of the command they belong to,
// because the parser stops at the first argument. What follows -- stays where
// it is. args begins after the program's name.
func reorder(commands []*cli.Command, flags []cli.Flag, args []string) []string {
	var front, rest []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return slices.Concat(front, []string{"--"}, rest, args[i+1:])
		case strings.HasPrefix(a, "-") && a != "-":
			front = append(front, a)
			if takesValue(flags, a) && i+1 < len(args) {
				i++
				front = append(front, args[i])
			}
		case len(rest) == 0 && find(commands, a) != nil:
			c := find(commands, a)
			return slices.Concat(front, []string{a}, reorder(c.Subcommands, c.Flags, args[i+1:]))
		default:
			rest = append(rest, a)
		}
	}
	if slices.ContainsFunc(rest, func(a string) bool { return strings.HasPrefix(a, "-") }) {
		front = append(front, "--")
	}
	return append(front, rest...)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue reports whether the next argument is the flag's value.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
