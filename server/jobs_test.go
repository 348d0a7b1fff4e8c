package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/server/api"
)

func TestPruneJob(t *testing.T) {
	w := start(t)
	for range 4 {
		w.backup("vm1", "vda", random(1, mib))
	}
	q := api.PruneRequest{VM: "vm1", Keep: &api.Keep{Last: 1}}
	plan, err := w.client.PlanPrune(t.Context(), q)
	if err != nil || plan.Kept != 1 || plan.Removed != 3 || !plan.DryRun || len(plan.Points) != 4 || plan.Points[0].Reason == "" {
		t.Errorf("plan %+v, %v", plan, err)
	}
	if list, err := w.client.Points(t.Context(), "vm1"); err != nil || len(list) != 4 {
		t.Errorf("a plan has removed points: %d, %v", len(list), err)
	}
	j := w.finish(w.client.Prune(t.Context(), q))
	if j.State != api.JobDone || j.Prune == nil || j.Prune.Removed != 3 || j.Kind != "prune" || j.Trigger != "request" || j.Ended.IsZero() {
		t.Errorf("%+v", j)
	}
	if list, err := w.client.Trash(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("trash %d, %v", len(list), err)
	}
	if list, err := w.client.Jobs(t.Context()); err != nil || len(list) == 0 || list[0].ID != j.ID {
		t.Errorf("jobs %+v, %v", list, err)
	}
	eventually(t, "a log line about the job", func() bool { return strings.Contains(w.log.String(), "job="+j.ID) })
}

// A job that runs is told to who asks for another, shows its progress, and can
// be cancelled.
func TestCancelJob(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.Scrub.Rate = 64 * units.KiB })
	w.backup("vm1", "vda", random(1, 4*mib))
	j, err := w.client.Verify(t.Context(), api.VerifyRequest{})
	if err != nil || !j.Running() {
		t.Fatal(j, err)
	}
	_, err = w.client.Verify(t.Context(), api.VerifyRequest{Ref: "vm1"})
	wantRefusal(t, err, http.StatusConflict, j.ID)
	if got, err := w.client.Job(t.Context(), j.ID, 0); err != nil || !got.Running() || got.Unit != "bytes" {
		t.Errorf("%+v, %v", got, err)
	}
	st, err := w.client.ScrubStatus(t.Context())
	if err != nil || st.Running == nil || st.Running.ID != j.ID {
		t.Errorf("%+v, %v", st, err)
	}
	_, err = w.client.CancelJob(t.Context(), j.ID)
	got := w.finish(j, err)
	if got.State != api.JobCancelled || got.Error != "" {
		t.Errorf("%+v", got)
	}
	if again, err := w.client.CancelJob(t.Context(), j.ID); err != nil || again.State != api.JobCancelled {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

// The server ends though a job runs.
func TestShutWhileJobRuns(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.Scrub.Rate = 64 * units.KiB })
	w.backup("vm1", "vda", random(1, 4*mib))
	j, err := w.client.Verify(t.Context(), api.VerifyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := w.client.Job(t.Context(), j.ID, time.Minute)
		answered <- err
	}()
	eventually(t, "somebody waits for the job", func() bool { return w.jobs.waiting.Load() > 0 })
	begun := time.Now()
	w.shut()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// jobsOf are jobs without an engine.
func jobsOf() *jobs { return newJobs(func() *maintenance.Engine { return &maintenance.Engine{} }) }

func TestJobHistory(t *testing.T) {
	j := jobsOf()
	at := time.Unix(1_800_000_000, 0)
	end := func(id string, kind maintenance.Kind, trigger maintenance.Trigger, err error) {
		at = at.Add(time.Second)
		j.ended(maintenance.Job{ID: id, Kind: kind, Trigger: trigger, Started: at, Ended: at, Err: err})
	}
	for i := range jobsKept + 10 {
		end(fmt.Sprint("idle", i), maintenance.Scrub, maintenance.OnSchedule, nil)
		end(fmt.Sprint("asked", i), maintenance.GC, maintenance.OnRequest, nil)
	}
	end("failed", maintenance.Scrub, maintenance.OnSchedule, errors.New("x"))
	list := j.list()
	if len(list) != jobsKept || list[0].ID != "failed" || list[1].ID != fmt.Sprint("asked", jobsKept+9) {
		t.Errorf("%d jobs, the first %q, %q", len(list), list[0].ID, list[1].ID)
	}
	idle := 0
	for _, job := range list {
		if strings.HasPrefix(job.ID, "idle") {
			idle++
		}
	}
	if idle != 1 {
		t.Errorf("%d jobs that did nothing are remembered", idle)
	}
}

func TestJobStart(t *testing.T) {
	j := jobsOf()
	ctx := t.Context()
	refused := errors.New("busy")
	if _, err := j.start(ctx, maintenance.GC, func(context.Context) error { return refused }); err != refused {
		t.Error(err)
	}
	quick, err := j.start(ctx, maintenance.GC, func(context.Context) error {
		j.began(maintenance.Job{ID: "scheduled", Kind: maintenance.GC, Trigger: maintenance.OnSchedule}) // somebody else's
		j.began(maintenance.Job{ID: "mine", Kind: maintenance.GC, Trigger: maintenance.OnRequest})
		return errors.New("failed at once")
	})
	if err != nil || quick.ID != "mine" {
		t.Errorf("%+v, %v", quick, err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, err := j.start(ended, maintenance.GC, func(context.Context) error { t.Error("begun"); return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	j.work.Wait()
}

// The newest exports are listed, however many there are.
func TestNewestFirst(t *testing.T) {
	var n newestFirst
	at := time.Unix(1_800_000_000, 0)
	for i := range listedExportsMax + 500 {
		n.offer(at.Add(time.Duration(i*7919%(listedExportsMax+500))*time.Second), nbd.Info{Name: fmt.Sprint(i)})
	}
	list := n.list()
	if len(list) != listedExportsMax {
		t.Fatal(len(list))
	}
	want := listedExportsMax + 499
	for i := range list {
		var id int
		fmt.Sscan(list[i].Name, &id)
		if got := id * 7919 % (listedExportsMax + 500); got != want-i {
			t.Fatalf("place %d has %d, want %d", i, got, want-i)
		}
	}
}

// A listing that fails in the middle is broken off, one that fails before the
// first element is answered with the error.
func TestArrayWriter(t *testing.T) {
	w := httptest.NewRecorder()
	a := newArrayWriter(w)
	a.end(nil)
	if got := w.Body.String(); got != "[]\n" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%q", got)
	}
	w = httptest.NewRecorder()
	a = newArrayWriter(w)
	a.add(1)
	a.add("x")
	a.end(nil)
	if got := w.Body.String(); got != "[1,\"x\"]\n" {
		t.Errorf("%q", got)
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("a broken listing ends like a whole one")
		}
	}()
	a = newArrayWriter(httptest.NewRecorder())
	a.add(1)
	a.end(errors.New("damaged"))
}
