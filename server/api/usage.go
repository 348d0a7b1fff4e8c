package api

// Usage is what a set of points takes, exactly. Unique is what no other point
// needs; deleting the set frees UniqueStoredBytes.
type Usage struct {
	LogicalBytes      int64 `json:"logical_bytes"`       // the sizes of the images
	TransferredBytes  int64 `json:"transferred_bytes"`   // sent by the clients
	NewBytes          int64 `json:"new_bytes"`           // of these, what nobody had at the time
	UniqueBytes       int64 `json:"unique_bytes"`        // blocks that only this set has
	UniqueStoredBytes int64 `json:"unique_stored_bytes"` // what these take in packs: freed if deleted
	SharedBytes       int64 `json:"shared_bytes"`        // blocks that others have too
	SharedStoredBytes int64 `json:"shared_stored_bytes"` // what these take in packs
	StoredBytes       int64 `json:"stored_bytes"`        // both
}

// UsageReport answers a question about a reference: a point, a disk, a VM, or
// the store when it is empty.
type UsageReport struct {
	Ref    string `json:"ref,omitempty"`
	Kind   string `json:"kind"` // image, point, disk, vm or store
	Points int    `json:"points"`
	// TrashedPoints are in the trash and not among Points; Usage has them, for
	// they keep their space.
	TrashedPoints int   `json:"trashed_points"`
	Usage         Usage `json:"usage"`
}
