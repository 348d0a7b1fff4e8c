package qsd

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Job is what query-jobs says of one.
type Job struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Error    string `json:"error"`
	Progress int64  `json:"current-progress"` // bytes
	Total    int64  `json:"total-progress"`   // bytes
}

// JobError is the end of a job that failed or was cancelled.
type JobError struct{ Job, Reason string }

func (e *JobError) Error() string { return "job " + e.Job + ": " + e.Reason }

// Job returns one job's state.
func (d *Daemon) Job(ctx context.Context, id string) (Job, error) {
	var jobs []Job
	if err := d.QMP.Execute(ctx, "query-jobs", nil, &jobs); err != nil {
		return Job{}, err
	}
	for _, j := range jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return Job{}, fmt.Errorf("no job %q", id)
}

// Wait returns once every job has concluded and has been dismissed. The jobs'
// own failures come back as *JobError, joined.
func (d *Daemon) Wait(ctx context.Context, ids ...string) error {
	var failures error
	for _, id := range ids {
		j, err := d.concluded(ctx, id)
		if err != nil {
			return err
		}
		if j.Error != "" {
			failures = errors.Join(failures, &JobError{id, j.Error})
		}
		if err := d.QMP.Execute(ctx, "job-dismiss", map[string]any{"id": id}, nil); err != nil {
			return err
		}
	}
	return failures
}

func (d *Daemon) concluded(ctx context.Context, id string) (j Job, err error) {
	err = poll(ctx, func() (bool, error) {
		j, err = d.Job(ctx, id)
		return j.Status == "concluded", err
	})
	return j, err
}

// Progressed waits until a job has copied at least n bytes, or has concluded.
func (d *Daemon) Progressed(ctx context.Context, id string, n int64) error {
	return poll(ctx, func() (bool, error) {
		j, err := d.Job(ctx, id)
		return j.Progress >= n || j.Status == "concluded", err
	})
}

// Cancel asks a job to stop; it still concludes and is to be waited for.
func (d *Daemon) Cancel(ctx context.Context, id string) error {
	return d.QMP.Execute(ctx, "job-cancel", map[string]any{"id": id}, nil)
}

// SetSpeed limits a job to so many bytes per second; 0 = no limit.
func (d *Daemon) SetSpeed(ctx context.Context, id string, speed int64) error {
	return d.QMP.Execute(ctx, "block-job-set-speed", map[string]any{"device": id, "speed": speed}, nil)
}

func poll(ctx context.Context, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
