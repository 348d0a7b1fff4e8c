package volume

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/catalog"
)

// PlanQuestion asks whether a disk's new image may inherit from Parent's.
type PlanQuestion struct {
	VM, Disk string
	Parent   catalog.Point
	// Explicit: the caller asked for an incremental image, not for whatever fits.
	Explicit bool
	// Manual: the new point is made by hand.
	Manual bool
}

// PlanDecision answers. The zero decision agrees.
type PlanDecision struct {
	// Full is why a backup in mode auto should be a full; empty: it need not.
	Full string
	// Refuse is why the backup must not be.
	Refuse error
	// First makes room for the image; then the question is asked again. Start
	// calls it without holding a lock.
	First func() error
}

// SetPlan has every Start ask before it lets an image inherit; nil: everything is
// allowed. ask may be called from several goroutines and must remove no point.
func (m *Manager) SetPlan(ask func(PlanQuestion) (PlanDecision, error)) {
	m.ask.Store(&ask)
}

// decide asks about one disk's parent.
func (m *Manager) decide(q PlanQuestion) (PlanDecision, error) {
	ask := m.ask.Load()
	if ask == nil || *ask == nil {
		return PlanDecision{}, nil
	}
	d, err := (*ask)(q)
	if err != nil {
		err = fmt.Errorf("decide how to back up disk %s of VM %s: %w", q.Disk, q.VM, err)
	}
	return d, err
}
