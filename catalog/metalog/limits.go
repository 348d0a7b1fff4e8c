package metalog

const (
	// MaxPayload bounds a record, and so what a damaged length can make a
	// reader allocate. The longest honest record is the chunk list of a 1 PiB
	// disk without two consecutive chunks: 16 Mi × 8 bytes.
	MaxPayload = 160 << 20

	// DefaultRotateBytes is the size from which on a file takes no further
	// transaction: large enough for years of small incrementals in few files,
	// small enough to copy to other tiers whenever one is finished.
	DefaultRotateBytes = 64 << 20

	// writeBuffer is how many bytes of a transaction are gathered before they
	// are written: nearly every commit is one write, and a full backup of a
	// huge disk does not stand in memory twice.
	writeBuffer = 4 << 20

	// readBuffer is the unit of sequential reading.
	readBuffer = 1 << 20
)
