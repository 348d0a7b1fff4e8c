package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/buildinfo"
)

// env is the world a command runs in.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// warn tells the user something that is not the answer.
func (e *env) warn(text string) { fmt.Fprintln(e.stderr, "strongroom: warning:", text) }

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(&env{stdin: stdin, stdout: stdout, stderr: stderr})
	if len(args) > 0 {
		args = append(args[:1:1], reorder(app.Commands, app.Flags, args[1:])...)
	}
	err := app.RunContext(ctx, args)
	report(stderr, err)
	return exitCode(err)
}

func newApp(e *env) *cli.App {
	app := &cli.App{
		Name:  "strongroom",
		Usage: "backup storage for QEMU/KVM virtual machines",
		Description: "Run a server with \"strongroom serve\". The other commands ask it, over the unix socket in the\n" +
			"data directory or wherever --api says.\n\n" +
			"A reference REF to data is VM[/DISK][@POINT]; POINT is an id, an RFC 3339 time, latest or latest~N.\n" +
			"A point's id alone is a reference too. Sizes are bytes or have a unit: K, M, G, T (KiB, MiB, GiB, TiB),\n" +
			"powers of 1024.\n\n" + exitHelp,
		Version:                   buildinfo.Get().Version,
		HideVersion:               true,
		Suggest:                   true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true,
		Reader:                    e.stdin,
		Writer:                    e.stdout,
		ErrWriter:                 e.stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // the default would exit here
		OnUsageError:              onUsageError,
		Action:                    noCommand,
		Commands: []*cli.Command{
			newServe(e), newConfig(e), newHealth(e), newVersion(e),
			newBackup(e), newImport(e), newSFTP(e), newRestore(e), newClone(e), newVM(e), newPoint(e), newTrash(e), newChain(e), newDiff(e), newPolicy(e), newPrune(e),
			newGC(e), newCompress(e), newVerify(e), newDamage(e), newUsage(e), newJob(e), newStats(e),
			newRebuild(e), newExportOffline(e),
		},
	}
	finish(app.Commands)
	return app
}

// finish gives every command what all have.
func finish(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		if len(c.Subcommands) > 0 {
			c.Action = noCommand
			finish(c.Subcommands)
			continue
		}
		if c.Description != "" {
			c.Description += "\n\n"
		}
		c.Description += exitHelp
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return &usageError{message: err.Error(), hint: "see: " + c.Command.HelpName + " --help"}
}

// noCommand runs when a command was named that does not exist, or none.
func noCommand(c *cli.Context) error {
	if c.Args().Present() {
		return &usageError{message: "no command " + c.Args().First(), hint: "see: " + c.Command.HelpName + " --help"}
	}
	if err := cli.ShowSubcommandHelp(c); err != nil {
		return err
	}
	return &usageError{message: "name a command"}
}

// arguments checks the number of arguments; names are as in the usage.
func arguments(c *cli.Context, least, most int) error {
	if n := c.NArg(); n < least || n > most {
		return &usageError{
			message: "want: " + c.Command.HelpName + " " + c.Command.ArgsUsage,
			hint:    "see: " + c.Command.HelpName + " --help",
		}
	}
	return nil
}
