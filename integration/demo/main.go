// Command demo shows one real backup and one real restore, with a stock QEMU on
// the other side, and prints what they took. It is what "make demo" runs.
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
	o := options{}
	flag.StringVar(&o.binary, "strongroom", "bin/strongroom", "the `binary` to show")
	flag.Int64Var(&o.content, "content", 1100<<20, "`bytes` of files on the disk")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "`directory` to work in; some five times the disk's content is needed")
	flag.BoolVar(&o.keep, "keep", false, "leave everything in place")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

type options struct {
	binary  string
	content int64
	dir     string
	keep    bool
}

func run(ctx context.Context, o options) (err error) {
	d, err := newDemo(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{
		d.makeDisk, d.serve, d.attach, d.full, d.change, d.incremental, d.restores,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.report(ctx)
}
