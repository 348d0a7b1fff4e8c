package api

import "time"

// PruneRequest applies keep rules.
type PruneRequest struct {
	VM string `json:"vm,omitempty"` // empty: every VM
	// Keep overrules the policies.
	Keep *Keep `json:"keep,omitempty"`
}

// PruneReport is every point that was looked at, by VM, oldest first.
type PruneReport struct {
	Points  []PrunePoint `json:"points"`
	Kept    int          `json:"kept"`
	Removed int          `json:"removed"` // into the trash, or to be so in a dry run
	DryRun  bool         `json:"dry_run,omitempty"`
}

// PrunePoint is a point and why it stays or goes.
type PrunePoint struct {
	Point  string            `json:"point"`
	VM     string            `json:"vm"`
	Time   time.Time         `json:"time"`
	Labels map[string]string `json:"labels,omitempty"`
	Group  string            `json:"group,omitempty"` // the label whose rules hold for it
	Keep   bool              `json:"keep"`
	Reason string            `json:"reason"`
	// Error is why a point that was to go is still there.
	Error string `json:"error,omitempty"`
}
