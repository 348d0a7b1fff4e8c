package maintenance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/internal/ids"
)

// jobs are what is running, one of a kind, and of each kind the last that ended.
type jobs struct {
	mu      sync.Mutex
	running map[Kind]*run
	last    map[Kind]Job
}

// run is a job under way.
type run struct {
	e      *Engine
	cancel context.CancelFunc

	mu    sync.Mutex
	job   Job
	since time.Time // when the present count began
}

// begin makes a job of a kind, unless one is running (ErrBusy).
func (e *Engine) begin(ctx context.Context, k Kind, t Trigger, unit string) (context.Context, *run, error) {
	now := e.now()
	r := &run{e: e, since: now, job: Job{ID: ids.New(now), Kind: k, Trigger: or(t, OnRequest), Started: now, Unit: unit}}
	e.jobs.mu.Lock()
	if old := e.jobs.running[k]; old != nil {
		e.jobs.mu.Unlock()
		return nil, nil, fmt.Errorf("%s %w, as job %s since %s", k, ErrBusy, old.job.ID, old.job.Started.Format(time.RFC3339))
	}
	ctx, r.cancel = context.WithCancel(ctx)
	e.jobs.running[k] = r
	e.jobs.mu.Unlock()
	if f := e.events.Began; f != nil {
		f(r.snapshot())
	}
	return ctx, r, nil
}

// end makes the job the last of its kind.
func (r *run) end(err error) {
	r.cancel()
	r.mu.Lock()
	r.job.Ended, r.job.Err, r.job.ETA = r.e.now(), err, 0
	job := r.job
	r.mu.Unlock()
	e := r.e
	e.jobs.mu.Lock()
	delete(e.jobs.running, job.Kind)
	e.jobs.last[job.Kind] = job
	e.jobs.mu.Unlock()
	if f := e.events.Ended; f != nil {
		f(job)
	}
}

// phase names what the job does now, and begins to count anew.
func (r *run) phase(name string) {
	r.change(func(j *Job) {
		j.Phase, j.Done, j.Total, j.ETA = name, 0, 0, 0
		r.since = r.e.now()
	})
}

// progress says how far the phase has come.
func (r *run) progress(done, total int64) {
	r.change(func(j *Job) {
		j.Done, j.Total, j.ETA = done, total, 0
		if done > 0 && total > done {
			j.ETA = time.Duration(float64(r.e.now().Sub(r.since)) * float64(total-done) / float64(done))
		}
	})
}

// change replaces what others may be looking at.
func (r *run) change(f func(*Job)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.job)
}

func (r *run) snapshot() Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.job
}

// Jobs lists what is running, and of each kind the last that has ended, oldest
// first.
func (e *Engine) Jobs() (list []Job) {
	e.jobs.mu.Lock()
	for _, j := range e.jobs.last {
		list = append(list, j)
	}
	for _, r := range e.jobs.running {
		list = append(list, r.snapshot())
	}
	e.jobs.mu.Unlock()
	slices.SortFunc(list, func(a, b Job) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID)) })
	return list
}

// Cancel ends a running job soon and reports whether there is one of that id.
func (e *Engine) Cancel(id string) bool {
	e.jobs.mu.Lock()
	defer e.jobs.mu.Unlock()
	for _, r := range e.jobs.running {
		if r.job.ID == id {
			r.cancel()
			return true
		}
	}
	return false
}

// isRunning reports whether a job of the kind is under way.
func (e *Engine) isRunning(k Kind) bool {
	e.jobs.mu.Lock()
	defer e.jobs.mu.Unlock()
	return e.jobs.running[k] != nil
}

// add counts a job's end.
func (o *Outcomes) add(err error) {
	o.Runs++
	switch {
	case errors.Is(err, context.Canceled):
		o.Cancelled++
	case err != nil:
		o.Failures++
	}
}
