package restore

const (
	// BlockSize is the unit of a content hash, and of what is read: a block of the
	// store, a cluster of the qcow2 files written.
	BlockSize = 64 << 10
	// ChunkSize is the unit in which differences are told: a chunk of the store.
	ChunkSize = ChunkBlocks * BlockSize
	// ChunkBlocks is how many blocks a chunk has.
	ChunkBlocks = 1024

	// manifestMax bounds a manifest that is read, in bytes: the hashes of 200 TiB
	// of data, and memory of some times as much.
	manifestMax = 256 << 20
	// sizeMax is the largest disk a manifest may name: 1 PiB, as of qcow2 files.
	sizeMax = 1 << 50
	// listMax bounds the disks, files and blobs of a manifest and the layers of a
	// chain, each.
	listMax = 4096
)
