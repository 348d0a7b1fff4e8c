package main

import (
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server"
)

func newRebuild(e *env) *cli.Command {
	return &cli.Command{
		Name:  "rebuild",
		Usage: "make both databases of a data directory anew from its packs; the server must be stopped",
		Description: "Everything that counts is in tier0: points, holds, locks, policies, what is in the trash and what was\n" +
			"deleted. The old databases are moved aside (index.old, catalog.old) and removed when the new ones are\n" +
			"complete; when it fails or is interrupted, they are put back. When a pack was verified last is\n" +
			"forgotten, so all of them are due again. A server whose databases are lost does the same by itself\n" +
			"when it starts.\n\n" +
			"  strongroom rebuild --data /var/lib/strongroom",
		Flags: []cli.Flag{
			dataFlag(""), jsonFlag(),
			&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "`LEVEL` debug, info, warn or error"},
		},
		Action: func(c *cli.Context) error { return runRebuild(e, c) },
	}
}

func runRebuild(e *env, c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	config := server.NewConfig()
	if dir := c.String("data"); dir != "" {
		config.Data = dir
	}
	config.Log.Level = c.String("log-level")
	if err := config.Validate(); err != nil {
		return &usageError{message: err.Error()}
	}
	syscall.Umask(0o077)
	o := server.RebuildOptions{Config: config, Log: server.NewLogger(config.Log, e.stderr)}
	if isTerminal(e.stderr) {
		bar := newRebuildBar(e.stderr)
		defer bar.clear()
		o.Progress = bar.show
	}
	r, err := server.Rebuild(c.Context, o)
	if err != nil {
		return serveError(err)
	}
	if c.Bool("json") {
		return printJSON(e.stdout, r)
	}
	return showRebuilt(e.stdout, r)
}

func showRebuilt(w io.Writer, r server.Rebuilt) error {
	return fields(w,
		"rebuilt", r.Data,
		"store", r.StoreID,
		"VMs", fmt.Sprint(r.VMs),
		"points", fmt.Sprintf("%d, and %d in the trash", r.Points, r.Trashed),
		"images", fmt.Sprint(r.Images),
		"chunk records", fmt.Sprint(r.ChunkRecords),
		"packs", fmt.Sprintf("%d, %d of them missing or unreadable", r.Packs, r.DamagedPacks),
		"metadata log", units.Human(r.LogBytes),
		"took", time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond).String(),
	)
}

// rebuildBar shows one phase of a rebuild after the other.
type rebuildBar struct {
	w     io.Writer
	calls chan server.RebuildProgress
	done  chan struct{}
}

func newRebuildBar(w io.Writer) *rebuildBar {
	b := &rebuildBar{w: w, calls: make(chan server.RebuildProgress, 16), done: make(chan struct{})}
	go b.run()
	return b
}

// show may be called from several goroutines.
func (b *rebuildBar) show(p server.RebuildProgress) { b.calls <- p }

func (b *rebuildBar) run() {
	defer close(b.done)
	var bar *progressbar.ProgressBar
	phase := ""
	for p := range b.calls {
		if bar == nil || p.Phase != phase {
			phase = p.Phase
			bar = progressbar.NewOptions64(max(p.Total, 1), progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription("rebuild: "+phase),
				progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(progressEvery),
				progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
		}
		bar.Set64(p.Done)
	}
	if bar != nil {
		bar.Clear()
	}
}

func (b *rebuildBar) clear() {
	close(b.calls)
	<-b.done
}
