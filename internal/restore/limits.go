package restore

const (
	// BlockSize is the unit of a content hash, and of what is read: a block of the
	// store, a cluster of the qcow2 files written.
	BlockSize = 64 << 10
	// ChunkSize is the unit in which differences are told: a chunk of the store.
	ChunkSize = ChunkBlocks * BlockSize
	// ChunkBlocks is how many blocks a chunk has.
	ChunkBlocks = 1024

	// requestBytes is four frames of the store; larger requests gain nothing.
	requestBytes = 1 << 20
	// inFlight keeps both sides' cores and the disk busy, and 16 MiB of memory.
	inFlight = 16
	// directAlign is what direct I/O wants places and memory to be a multiple of,
	// at most.
	directAlign = 4096

	// usedBytes are looked at to tell whether a block device is used: partition
	// tables, boot sectors and the superblocks of file systems and volume managers
	// lie in them.
	usedBytes = 1 << 20

	// manifestMax bounds a manifest that is read, in bytes: the hashes of 200 TiB
	// of data, and memory of some times as much.
	manifestMax = 256 << 20
	// sizeMax is the largest disk a manifest may name: 1 PiB, as of qcow2 files.
	sizeMax = 1 << 50
	// listMax bounds the disks, files and blobs of a manifest and the layers of a
	// chain, each.
	listMax = 4096
	// contextWindow is how much of a disk is asked about at once where the answers
	// of two contexts are joined: at most 64 Ki extents.
	contextWindow = 4 << 30
	// blobMax is the largest blob a server keeps, many times over.
	blobMax = 16 << 20
	// openChunksMax bounds the chunks of which a part has come: 128 MiB of hashes.
	// Restores have a few, because they read in order.
	openChunksMax = 4096
	// differencesMax bounds the differences a verification tells of one disk.
	differencesMax = 1000
)
