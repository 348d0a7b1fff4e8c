package api

import "time"

// States of a job.
const (
	JobRunning   = "running"
	JobDone      = "done"
	JobFailed    = "failed"
	JobCancelled = "cancelled"
)

// Job is work that outlasts a request.
type Job struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`    // gc, verify, scrub, prune or compress
	Trigger string    `json:"trigger"` // request, schedule or threshold
	State   string    `json:"state"`   // running, done, failed or cancelled
	Phase   string    `json:"phase,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// Done of Total Units; Total 0: not known yet.
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Unit  string `json:"unit,omitempty"` // bytes, packs or points
	// ETASeconds is how long it will still take, once that can be told.
	ETASeconds float64 `json:"eta_seconds,omitempty"`
	Error      string  `json:"error,omitempty"`
	// The result of the kind, when the job has ended; of a failed or cancelled
	// one, what was done until then.
	GC     *GCResult     `json:"gc,omitempty"`
	Verify *VerifyResult `json:"verify,omitempty"`
	Prune  *PruneReport  `json:"prune,omitempty"`

	Compress *CompressResult `json:"compress,omitempty"`
}

// Running reports whether the job has not ended.
func (j *Job) Running() bool { return j.State == JobRunning }
