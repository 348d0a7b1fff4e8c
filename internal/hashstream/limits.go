package hashstream

const (
	// BlockSize is the unit of hashing, and a block of the store.
	BlockSize = 64 << 10
	// RecordMax is the most hashes of one record: 32 KiB, of a chunk of the store.
	RecordMax = 1024
	// failureMax is a long sentence, and what an NBD error may have.
	failureMax = 4096
	// sizeMax is the largest disk: 1 PiB, as of manifests.
	sizeMax = 1 << 50
)
