// Command strongroom is the backup server and the client of its control API.
//
// Each command is a value: its constructor (newServe, newRestore, …) declares
// flags and help; its action decodes them into an options struct and calls a
// run function, which tests can call directly. Results go to standard output,
// everything else to standard error; exit.go has the exit codes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
