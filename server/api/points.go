package api

import "time"

// Removed is the answer to the removal of a point.
type Removed struct {
	Point string `json:"point"`
	VM    string `json:"vm"`
	// Purge is when the point leaves the trash for good; not set: it is gone.
	Purge time.Time `json:"purge,omitzero"`
}

// HoldRequest keeps a point until it is released.
type HoldRequest struct {
	Reason string `json:"reason"`
}

// LockRequest keeps a point until a date that can only be moved on.
type LockRequest struct {
	Until time.Time `json:"until"`
}
