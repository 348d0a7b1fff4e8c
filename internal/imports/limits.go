package imports

const (
	// blockSize is what the server keeps as one: writes begin and end at its
	// multiples, and zeros are looked for in whole ones.
	blockSize = 64 << 10

	// unitSize is a read and a write, writesMax how many are on the way at once:
	// 32 MiB keep a server 10 ms away busy at 3 GB/s, and are a small part of the
	// memory it has for all its clients.
	unitSize  = 1 << 20
	writesMax = 32

	// connectionsMax is how many disks stay connected when nothing is on its way
	// to them: an archive may jump between 254 disks, and a server has, by
	// default, 256 connections for everybody.
	connectionsMax = 16

	// zeroRunMax bounds how many bytes of zeros from an archive are gathered before
	// they are told, so that progress is seen.
	zeroRunMax = 1 << 30

	// layersMax is how many files a qcow2 image may stand on; QEMU manages a few
	// hundred.
	layersMax = 256

	// headSize is enough of a file for every magic that is known.
	headSize = 512
)
