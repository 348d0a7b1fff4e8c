package qcow2

// Limits of what a Reader takes. Those which are QEMU's own refuse nothing QEMU
// would open.
const (
	clusterBitsMin = 9
	clusterBitsMax = 21 // QEMU's

	l1BytesMax            = 32 << 20 // QEMU's
	refcountTableBytesMax = 8 << 20  // QEMU's
	refcountOrderMax      = 6        // the format's: 64 bits
	backingNameMax        = 1023     // the format's
	backingFormatMax      = 15       // QEMU's; its longest format name has 14 bytes

	// sizeMax is the largest disk, read or written. With 64 KiB clusters its L1
	// table has 16 MiB, half of what QEMU takes; and the walk over a full set of
	// L2 tables, 128 GiB, still ends.
	sizeMax int64 = 1 << 50

	// hostClustersMax bounds Check's bitmaps, two bits per cluster of the file, to
	// 256 MiB. A file of 64 TiB with clusters of 64 KiB has this many, one of 512
	// GiB with clusters of 512 bytes too, four times the largest disk such
	// clusters can hold.
	hostClustersMax = 1 << 30

	// startsMax is how many compressed clusters Check compares at a time: 32 MiB.
	// It reads the tables once more for each so many.
	startsMax = 4 << 20
	// startBuckets divide the file into the ranges it chooses from; a range with
	// more than startsMax has no room for so many.
	startBuckets = 1 << 16

	// pagesBytes is the memory of the cache of L1 and L2 tables: those of 8 GiB of
	// disk with 64 KiB clusters, so that reads near each other find theirs.
	pagesBytes       = 1 << 20
	pageMin, pageMax = 4 << 10, 64 << 10

	// unpackedClusters are kept for those who read compressed clusters in pieces:
	// at most 8 MiB.
	unpackedClusters = 4
	// unpackers bounds how many goroutines decompress zstd at once, each with its
	// own buffers of some 300 KiB.
	unpackers = 4
	// zstdWindowMax is the decoder's own default in QEMU. It costs nothing: a frame
	// is decompressed into the cluster, which is also its window.
	zstdWindowMax = 128 << 20
)
