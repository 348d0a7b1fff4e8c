package maintenance

import (
	"context"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// CollectOptions overrule the configuration for one collection; zero values do
// not.
type CollectOptions struct {
	Trigger    Trigger // OnRequest when empty
	DeadRatio  float64
	Rate       int64 // bytes moved per second
	FreeWanted int64 // compaction stops after so many bytes freed
}

// CollectResult is what a collection found and did.
type CollectResult struct {
	Purged    int      // points that left the trash
	Forgotten int      // removed points whose references were dropped
	Pinned    []string // removed points that readers or backups still need
	Marked    MarkCounts
	Tally     dedup.Tally
	Sweep     dedup.SweepProgress
	Phases    []Phase
	Took      time.Duration
}

// MarkCounts is what was marked from the catalog.
type MarkCounts struct{ Points, Images, Chunks int64 }

// Phase is a part of a collection and how long it took.
type Phase struct {
	Name string
	Took time.Duration
}

// Collect frees the space of what no point, backup or reader needs. It returns
// ErrBusy while another is running. Cancelled, it leaves everything whole: what
// was freed is freed.
func (e *Engine) Collect(ctx context.Context, o CollectOptions) (CollectResult, error) {
	return CollectResult{}, errUnfinished
}

// Reclaimable is how many bytes of packs no point and no open backup needs, by
// the accounts. It is cheap.
func (e *Engine) Reclaimable() (int64, error) { return 0, errUnfinished }
