package catalog

import (
	"time"

	"github.com/strongroom-backup/strongroom/catalog/retention"
)

// Policy is what an operator wants of a VM's points. What is nil is as the
// server has it.
type Policy struct {
	Keep         *retention.Keep           `json:"keep,omitempty"`
	LabelKeep    map[string]retention.Keep `json:"label_keep,omitempty"` // by "key=value"
	FullAfter    *int                      `json:"full_after,omitempty"`
	ChainLimit   *int                      `json:"chain_limit,omitempty"`
	ManualWarn   *int                      `json:"manual_warn,omitempty"`
	StrictChains *bool                     `json:"strict_chains,omitempty"`
	TrashKeep    *time.Duration            `json:"trash_keep,omitempty"` // nanoseconds
}

// SetPolicy replaces the policy of a VM, which need not have a point; an empty
// one takes it away.
func (c *Catalog) SetPolicy(vm string, p Policy) error { return errUnfinished }

// Policy returns the policy of a VM, an empty one if it has none.
func (c *Catalog) Policy(vm string) (Policy, error) { return Policy{}, errUnfinished }

// Policies returns all policies by VM.
func (c *Catalog) Policies() (map[string]Policy, error) { return nil, errUnfinished }
