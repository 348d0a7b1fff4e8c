// Command run lets every mutant live once and reports which test caught it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	only := flag.String("run", "", "only mutants whose name contains this")
	seed := flag.String("seed", "1", "STRONGROOM_SEED of the tests")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *only, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run builds the tests, sees that they pass without a mutant, and then lets
// each mutant live.
func run(ctx context.Context, out io.Writer, only, seed string) error {
	if err := compareWithCode("."); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(mutants), func(m fault) bool { return !strings.Contains(m.name, only) })
	b, err := build(ctx, chosen, seed)
	if err != nil {
		return err
	}
	defer b.remove()
	began := time.Now()
	if err := b.healthy(ctx, chosen); err != nil {
		return err
	}
	results := make([]result, len(chosen))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range chosen {
		g.Go(func() error {
			results[i] = b.try(gctx, m)
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return print(out, results, time.Since(began))
}

// print writes the table; the error tells of survivors.
func print(out io.Writer, results []result, took time.Duration) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MUTANT\tWHAT IS WRONG\tCAUGHT BY\tSECONDS")
	var alive []string
	for _, r := range results {
		by := r.caughtBy
		if by == "" {
			by = "nobody"
			alive = append(alive, r.name)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\n", r.name, r.what, by, r.took.Seconds())
	}
	t.Flush()
	fmt.Fprintf(out, "%d of %d mutants caught, in %.0f s\n", len(results)-len(alive), len(results), took.Seconds())
	if len(alive) > 0 {
		return fmt.Errorf("not caught: %s", strings.Join(alive, ", "))
	}
	return nil
}
