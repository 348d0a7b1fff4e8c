package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// run is the whole program. Everything it made is gone when it returns, but
// for the cached image and what --keep asks to keep.
func run(ctx context.Context, args []string) (err error) {
	opt, err := parseOptions(args)
	if err != nil {
		return err
	}
	tools, err := findTools(ctx)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	b.report.Machine = describeMachine(opt.dir, tools)
	if err := b.rows(ctx); err != nil {
		return err
	}
	b.report.print(os.Stdout)
	if opt.json == "" {
		return nil
	}
	return b.report.writeJSON(opt.json)
}
