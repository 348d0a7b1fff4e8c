package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

// jobs remembers the engine's jobs: those that run, and the last jobsKept that
// ended.
type jobs struct {
	engine func() *maintenance.Engine

	// asking lets one request of a kind begin its job at a time, so that the
	// job that begins for a request is the one it asked for.
	asking map[maintenance.Kind]*sync.Mutex

	mu      sync.Mutex
	past    []maintenance.Job                         // oldest first
	wanted  map[maintenance.Kind]chan maintenance.Job // of the requests that wait for theirs to begin
	change  chan struct{}                             // closed and made anew when a job ends
	work    sync.WaitGroup                            // jobs begun by requests
	waiting atomic.Int32                              // requests that wait for a job
	leave   chan struct{}                             // closed when nobody is to wait any more
}

func newJobs(engine func() *maintenance.Engine) *jobs {
	j := &jobs{engine: engine, asking: map[maintenance.Kind]*sync.Mutex{}, wanted: map[maintenance.Kind]chan maintenance.Job{}, change: make(chan struct{}), leave: make(chan struct{})}
	for _, kind := range []maintenance.Kind{maintenance.GC, maintenance.Verify, maintenance.Prune, maintenance.Compress} {
		j.asking[kind] = &sync.Mutex{}
	}
	return j
}

// began is called when a job begins.
func (j *jobs) began(job maintenance.Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if to := j.wanted[job.Kind]; to != nil && job.Trigger == maintenance.OnRequest {
		to <- job
		delete(j.wanted, job.Kind)
	}
}

// ended is called when a job has ended.
func (j *jobs) ended(job maintenance.Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if idle(job) {
		j.past = slices.DeleteFunc(j.past, func(old maintenance.Job) bool { return old.Kind == job.Kind && idle(old) })
	}
	j.past = append(j.past, job)
	if n := len(j.past) - jobsKept; n > 0 {
		j.past = slices.Delete(j.past, 0, n)
	}
	close(j.change)
	j.change = make(chan struct{})
}

// idle reports whether a job began by itself and found nothing to do. Of those
// only the last of a kind is remembered.
func idle(j maintenance.Job) bool {
	switch {
	case j.Trigger == maintenance.OnRequest || j.Err != nil:
		return false
	case j.GC != nil && (j.GC.Sweep.Victims > 0 || j.GC.Purged > 0):
		return false
	case j.Verify != nil && (j.Verify.DamagedBlocks > 0 || j.Verify.DamagedPacks > 0 || j.Verify.Repaired > 0):
		return false
	case j.Prune != nil && j.Prune.Removed > 0:
		return false
	case j.Compress != nil && (j.Compress.Packs > 0 || j.Compress.Skipped > 0):
		return false
	}
	return true
}

// start has run done in the background and returns its job once that has begun,
// or the error that kept it from beginning. ctx is the server's.
func (j *jobs) start(ctx context.Context, kind maintenance.Kind, run func(context.Context) error) (maintenance.Job, error) {
	if err := ctx.Err(); err != nil {
		return maintenance.Job{}, err
	}
	j.asking[kind].Lock()
	defer j.asking[kind].Unlock()
	begun, failed := make(chan maintenance.Job, 1), make(chan error, 1)
	j.mu.Lock()
	j.wanted[kind] = begun
	j.mu.Unlock()
	j.work.Go(func() { failed <- run(ctx) })
	select {
	case job := <-begun:
		return job, nil
	case err := <-failed:
		return j.notBegun(kind, begun, err)
	}
}

// notBegun is for a run that has ended before its beginning was seen: it may
// have been that quick.
func (j *jobs) notBegun(kind maintenance.Kind, begun chan maintenance.Job, err error) (maintenance.Job, error) {
	j.mu.Lock()
	delete(j.wanted, kind)
	j.mu.Unlock()
	select {
	case job := <-begun:
		return job, nil
	default:
		return maintenance.Job{}, err
	}
}

// list returns all that is known, newest first.
func (j *jobs) list() (out []maintenance.Job) {
	out = j.engine().Jobs()
	known := map[string]bool{}
	for _, job := range out {
		known[job.ID] = true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, job := range j.past {
		if !known[job.ID] {
			out = append(out, job)
		}
	}
	slices.SortStableFunc(out, func(a, b maintenance.Job) int { return b.Started.Compare(a.Started) })
	return out
}

// find returns a job by its id.
func (j *jobs) find(id string) (maintenance.Job, error) {
	for _, job := range j.list() {
		if job.ID == id {
			return job, nil
		}
	}
	return maintenance.Job{}, &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("no job %.80q is known", id), Hint: "see: strongroom jobs"}
}

// await returns a job when it has ended or the time has passed.
func (j *jobs) await(ctx context.Context, id string, limit time.Duration) (maintenance.Job, error) {
	j.waiting.Add(1)
	defer j.waiting.Add(-1)
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		j.mu.Lock()
		change := j.change
		j.mu.Unlock()
		job, err := j.find(id)
		if err != nil || !job.Ended.IsZero() {
			return job, err
		}
		select {
		case <-change:
		case <-end.C:
			return job, nil
		case <-j.leave:
			return job, nil
		case <-ctx.Done():
			return job, nil
		}
	}
}

// ofKind returns the running job of some kinds, and the last that has ended.
func (j *jobs) ofKind(kinds ...maintenance.Kind) (running, last *maintenance.Job) {
	for _, job := range j.list() {
		switch {
		case !slices.Contains(kinds, job.Kind):
		case job.Ended.IsZero() && running == nil:
			running = &job
		case !job.Ended.IsZero() && last == nil:
			last = &job
		}
	}
	return running, last
}
