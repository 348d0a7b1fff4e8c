package dedup

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"
)

// ErrCollecting is returned by BeginCollection while a collection is running.
var ErrCollecting = errors.New("a garbage collection is running already")

var errUnfinished = errors.New("dedup: unfinished")

// Collection is one garbage collection.
type Collection struct{ s *Store }

// BeginCollection starts a collection: the packs sealed at this moment are its
// candidates, and every dedup hit on one of them counts as a mark from now on.
func (s *Store) BeginCollection() (*Collection, error) { return nil, errUnfinished }

// Mark says that n consecutive slots from a on are wanted. Any goroutine may
// call it, until Tally. The zero address and packs that are no candidates are
// passed over.
func (c *Collection) Mark(a Addr, n int) {}

// Tally sums up the marks.
func (c *Collection) Tally() Tally { return Tally{} }

// Live returns a candidate's marks, bit slot&63 of word slot>>6; nil when the
// pack is no candidate.
func (c *Collection) Live(pack uint64) []uint64 { return nil }

// Tally is what a collection found.
type Tally struct {
	Packs                       int64 // candidates
	Slots, LiveSlots, DeadSlots int64
	Bytes, LiveBytes, DeadBytes int64 // of frames, shared out over their blocks
	UnknownMarks                int64 // marks of slots that candidates do not have
}

// SweepOptions say how much a sweep may do.
type SweepOptions struct {
	DeadRatio  float64             // packs with at least this share of dead bytes are compacted; whole-dead ones always go
	Grace      time.Duration       // how long a replaced file stays at least
	Limiter    *rate.Limiter       // of bytes moved; nil: none
	Progress   func(SweepProgress) // called after every pack
	FreeWanted int64               // compaction stops after so many bytes; 0: all
}

// SweepProgress is how far a sweep has come.
type SweepProgress struct {
	Victims, Done                                      int
	CondemnedBytes, MovedBytes, FreedBytes, TotalBytes int64
}

// Sweep frees what is not marked.
func (c *Collection) Sweep(ctx context.Context, o SweepOptions) (SweepProgress, error) {
	return SweepProgress{}, errUnfinished
}

// Close ends the collection.
func (c *Collection) Close() {}
