package api

import "time"

// GCRequest starts a garbage collection.
type GCRequest struct {
	// DeadRatio overrules gc.dead-ratio for this run; 0 does not.
	DeadRatio float64 `json:"dead_ratio,omitempty"`
}

// GCResult is what a collection found and did.
type GCResult struct {
	Purged         int      `json:"purged"`           // points that left the trash
	Forgotten      int      `json:"forgotten"`        // removed points that nothing needs any more
	Pinned         []string `json:"pinned,omitempty"` // removed points that readers or backups still need
	Points         int64    `json:"points"`           // marked
	Chunks         int64    `json:"chunks"`           // marked
	Packs          int64    `json:"packs"`            // looked at
	LiveBytes      int64    `json:"live_bytes"`       // of them
	DeadBytes      int64    `json:"dead_bytes"`       // of them
	Victims        int64    `json:"victims"`          // packs removed or compacted
	CondemnedBytes int64    `json:"condemned_bytes"`  // dead bytes taken out of use
	MovedBytes     int64    `json:"moved_bytes"`      // live bytes written again
	FreedBytes     int64    `json:"freed_bytes"`      // given back to the file system
	Seconds        float64  `json:"seconds"`
	Phases         []Phase  `json:"phases,omitempty"`
}

// Phase is a part of a collection.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// GCStatus is where garbage collection stands.
type GCStatus struct {
	Running          *Job      `json:"running,omitempty"`
	Last             *Job      `json:"last,omitempty"`
	LastSuccess      time.Time `json:"last_success,omitzero"`
	ReclaimableBytes int64     `json:"reclaimable_bytes"` // that no point needs, by the accounts
	// PendingPoints are gone, but their space is not in ReclaimableBytes yet:
	// nobody has looked since, or readers and backups need them.
	PendingPoints int64 `json:"pending_points"`
	TrashPoints   int64 `json:"trash_points"`
	TrashBytes    int64 `json:"trash_bytes"` // that emptying the trash would add
}
