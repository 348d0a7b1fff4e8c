package maintenance

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/volume"
)

// TestRun lets days fly by: everything is done when it is due, and Run ends.
func TestRun(t *testing.T) {
	hourly, err := cron.ParseStandard("17 * * * *")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Config{
		Settings: Settings{Keep: retention.Keep{Last: 1}, TrashKeep: 24 * time.Hour, ManualWarn: 1},
		Scrub:    ScrubConfig{TargetAge: 48 * time.Hour}, PruneAt: hourly,
	})
	const size = 8 << 20
	p := w.backup(volume.StartRequest{VM: "vm"}, size, put{0, noise(size, 1)})
	for range 2 {
		w.backup(volume.StartRequest{VM: "vm", Manual: true}, size, put{0, noise(size, 2)})
	}
	last := w.backup(volume.StartRequest{VM: "vm", Files: true}, size, put{0, noise(size, 3)})
	done := make(chan string, 1000)
	w.events = Events{
		Ended: func(j Job) { done <- string(j.Kind) + " " + string(j.Trigger) },
		Failed: func(what string, err error) {
			t.Errorf("%s: %v", what, err)
			done <- "failed"
		},
		Warning: func(text string) {
			if !strings.Contains(text, "2 points made by hand") {
				t.Errorf("warning: %s", text)
			}
			done <- "warning"
		},
	}
	w.after = func(d time.Duration) <-chan time.Time {
		w.pass(d)
		return time.After(time.Millisecond)
	}
	w.reopen()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.e.Run(ctx) }()
	missing := []string{"warning", "prune schedule", "scrub schedule", "gc threshold", "gc schedule", "compress threshold"}
	limit := time.After(20 * time.Second)
	for len(missing) > 0 {
		select {
		case what := <-done:
			missing = slices.DeleteFunc(missing, func(s string) bool { return s == what })
		case <-limit:
			t.Fatalf("never happened: %q; %+v", missing, w.e.Stats())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s := w.e.Stats()
	if s.Prune.Pruned != 1 || s.Prune.Purged != 1 || s.GC.FreedBytes < size/2 || s.Verify.Packs == 0 {
		t.Errorf("%+v", s)
	}
	if _, err := w.cat.Point(p.ID); err == nil {
		t.Error("the pruned point is still there")
	}
	w.must(w.sameImage(last.ID, noise(size, 3)))
}
