package maintenance

import "time"

// Kind is what a job does.
type Kind string

const (
	GC     Kind = "gc"
	Verify Kind = "verify"
	Scrub  Kind = "scrub" // the part of a rolling verification that was due
	Prune  Kind = "prune"
	// Compress is of data that was stored without compressing it.
	Compress Kind = "compress"
)

// Trigger is why a job began.
type Trigger string

const (
	OnRequest   Trigger = "request"
	OnSchedule  Trigger = "schedule"
	OnThreshold Trigger = "threshold"
)

// Job is work that takes a while: running, or the last of its kind.
type Job struct {
	ID      string
	Kind    Kind
	Trigger Trigger
	Phase   string
	Started time.Time
	Ended   time.Time // zero while it runs
	// Done of Total Units; Total is 0 while it is not known.
	Done, Total int64
	Unit        string        // bytes, packs or points
	ETA         time.Duration // how long it will still take; 0: cannot be told
	Err         error         // of a job that ended; context.Canceled when it was cancelled
	// The result of the kind; of a failed job what was done until then. While
	// a job runs, what is known so far.
	GC       *CollectResult
	Verify   *VerifyResult
	Prune    *PruneResult
	Compress *CompressResult
}
