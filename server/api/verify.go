package api

import "time"

// VerifyRequest starts a verification of a point or of all packs.
type VerifyRequest struct {
	Ref string `json:"ref,omitempty"` // empty: all packs
	// OlderThanSeconds leaves out packs verified since then; 0: none.
	OlderThanSeconds int64 `json:"older_than_seconds,omitempty"`
	// Since leaves out packs verified after this time.
	Since time.Time `json:"since,omitzero"`
}

// VerifyResult is what a verification read and found.
type VerifyResult struct {
	Packs         int64           `json:"packs"`
	Skipped       int64           `json:"skipped"` // verified recently
	Bytes         int64           `json:"bytes"`
	Blocks        int64           `json:"blocks"`
	DamagedBlocks int64           `json:"damaged_blocks"`
	DamagedPacks  int64           `json:"damaged_packs"`
	Repaired      int64           `json:"repaired_blocks"`
	Images        []AffectedImage `json:"images"` // that cannot be read whole
}

// ScrubStatus is how old the verification of the store is.
type ScrubStatus struct {
	Running          *Job    `json:"running,omitempty"`
	Last             *Job    `json:"last,omitempty"`
	Packs            int64   `json:"packs"`
	Unverified       int64   `json:"unverified_packs"`   // never verified
	OldestSeconds    float64 `json:"oldest_age_seconds"` // of the pack that was verified longest ago
	TargetAgeSeconds float64 `json:"target_age_seconds"`
}

// DamageReport is the damage that is known and not repaired.
type DamageReport struct {
	Packs  []DamagedPack   `json:"packs"`
	Images []AffectedImage `json:"images"` // that cannot be read whole
}

// DamagedPack has blocks that cannot be read.
type DamagedPack struct {
	Pack   uint64 `json:"pack"`
	Whole  bool   `json:"whole,omitempty"` // missing, or unreadable altogether
	Blocks int64  `json:"blocks"`          // damaged
}

// AffectedImage needs damaged blocks.
type AffectedImage struct {
	Point  string    `json:"point"`
	VM     string    `json:"vm"`
	Disk   string    `json:"disk"`
	Time   time.Time `json:"time"`
	Blocks int64     `json:"blocks"`
}
