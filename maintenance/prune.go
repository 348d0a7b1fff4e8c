package maintenance

import (
	"context"
	"time"

	"github.com/strongroom-backup/strongroom/catalog/retention"
)

// PruneRequest applies keep rules.
type PruneRequest struct {
	Trigger Trigger         // OnRequest when empty
	VM      string          // empty: every VM
	DryRun  bool            // decide, remove nothing
	Keep    *retention.Keep // overrules the policies, label rules included
}

// PruneResult is every point that was looked at, by VM, oldest first.
type PruneResult struct {
	Points  []PrunePoint
	Kept    int
	Removed int // into the trash or for good; in a dry run, that would be
}

// PrunePoint is a point and why it stays or goes.
type PrunePoint struct {
	Point, VM string
	Time      time.Time
	Labels    map[string]string
	Group     string // the label rule it falls under, "key=value"; empty: the VM's
	Keep      bool
	Reason    string
	Err       error // why a point that was to go is still there
}

// Prune decides what stays by the policies and removes the rest. A point that
// cannot be removed has its Err and does not stop the others. ErrBusy while
// another is running.
func (e *Engine) Prune(ctx context.Context, r PruneRequest) (PruneResult, error) {
	return PruneResult{}, errUnfinished
}
