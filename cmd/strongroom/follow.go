package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/strongroom-backup/strongroom/server/api"
)

const (
	// followShown is how often progress is asked for to be shown.
	followShown = time.Second
	// followQuiet is how long one question for the end of a job waits.
	followQuiet = 30 * time.Second
)

// follow waits for the end of a job and shows its progress on a terminal. A job
// that failed or was cancelled is an error; the job is returned with it. An
// interrupt ends the waiting, not the job.
func follow(ctx context.Context, e *env, client *api.Client, j api.Job) (api.Job, error) {
	wait, view := followQuiet, (*jobBar)(nil)
	if isTerminal(e.stderr) {
		wait, view = followShown, newJobBar(e.stderr)
		defer view.clear()
	}
	for j.Running() {
		view.show(j)
		next, err := client.Job(ctx, j.ID, wait)
		if errors.Is(err, context.Canceled) {
			view.clear()
			fmt.Fprintf(e.stderr, "the job goes on; stop it with: strongroom job cancel %s\n", j.ID)
		}
		if err != nil {
			return j, err
		}
		j = next
	}
	return j, jobError(j)
}

// jobError is how a job's end is told.
func jobError(j api.Job) error {
	switch j.State {
	case api.JobFailed:
		return fmt.Errorf("job %s (%s) failed: %s", j.ID, j.Kind, j.Error)
	case api.JobCancelled:
		return fmt.Errorf("job %s (%s) was cancelled; what it had done stays done", j.ID, j.Kind)
	}
	return nil
}

// jobBar shows a job's progress. A nil one shows nothing.
type jobBar struct {
	w     io.Writer
	bar   *progressbar.ProgressBar
	phase string
	total int64
}

func newJobBar(w io.Writer) *jobBar { return &jobBar{w: w} }

func (b *jobBar) show(j api.Job) {
	if b == nil {
		return
	}
	if b.bar == nil || j.Phase != b.phase || j.Total != b.total {
		b.clear()
		b.bar, b.phase, b.total = b.make(j), j.Phase, j.Total
	}
	b.bar.Set64(min(j.Done, max(j.Total, 1)))
}

func (b *jobBar) make(j api.Job) *progressbar.ProgressBar {
	text := j.Kind
	if j.Phase != "" {
		text += ": " + j.Phase
	}
	return progressbar.NewOptions64(max(j.Total, 1), progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(text),
		progressbar.OptionShowBytes(j.Unit == "bytes"), progressbar.OptionUseIECUnits(true), progressbar.OptionSetPredictTime(true),
		progressbar.OptionShowCount(), progressbar.OptionThrottle(progressEvery), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
}

func (b *jobBar) clear() {
	if b != nil && b.bar != nil {
		b.bar.Clear()
	}
}
