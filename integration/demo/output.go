package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// row is a line of the table at the end. Restores have no bytes sent.
type row struct {
	name              string
	sent, new, stored int64 // bytes
	took              time.Duration
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func note(format string, args ...any) { say("    "+format, args...) }

// step announces a step; the function it returns says how long it took.
func step(name string) func(*error) {
	say("• %s", name)
	began := time.Now()
	return func(err *error) {
		if *err == nil {
			note("%.1f s", time.Since(began).Seconds())
		}
	}
}

// report prints the table and what the store says of itself.
func (d *demo) report(ctx context.Context) error {
	st, err := d.srv.Stats(ctx)
	if err != nil {
		return err
	}
	say("")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\tsent\tnew\tstored\tratio\tseconds")
	for _, r := range d.rows {
		fmt.Fprintln(w, r.cells())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	say("\n%d points of a %s disk: %s to read, %s on the store's disk.", st.Points, units.Human(d.model.Size),
		units.Human(st.LogicalBytes), units.Human(st.StoredBytes))
	say("Both points came back byte for byte, both ways.")
	return nil
}

// cells is a row of the table; ratio is bytes sent per byte stored.
func (r row) cells() string {
	cells := []string{r.name, "", "", "", "", fmt.Sprintf("%.1f", r.took.Seconds())}
	if r.sent > 0 {
		cells[1], cells[2], cells[3] = units.Human(r.sent), units.Human(r.new), units.Human(r.stored)
		cells[4] = fmt.Sprintf("%.2f", float64(r.sent)/float64(max(r.stored, 1)))
	}
	return strings.Join(cells, "\t")
}

// tool runs a program that must succeed.
func tool(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
