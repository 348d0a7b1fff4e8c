package tier

// Limits, each with its reason.
const (
	// MaxPack is the highest pack number: a block's address has 48 bits for it
	// less a reserve of 8 for tiers to come.
	MaxPack = 1<<40 - 1
	// MaxNote bounds a pack's note: it is read whole.
	MaxNote = 4 << 10
	// maxMarker bounds the marker file: a version and an id.
	maxMarker = 1 << 10
)
