package catalog

const (
	// accountRecords and accountChanges, of slots in a row, bound the part of
	// the queue that is applied in one batch: even if every change is of
	// another pack, and all these packs are thoroughly fragmented, their pages
	// take less than 64 MiB.
	accountRecords = 16 << 10
	accountChanges = 16 << 10

	// settleTries is how often a question looks for a moment when nothing is
	// queued before it makes one by keeping commits out.
	settleTries = 8

	// What a question gathers before it works through it; more takes more
	// rounds. One question is worked on at a time, so that together they are
	// all the memory questions take: 16 bytes for each of windowNumbers and
	// windowSlots, twice while they are sorted, and 24 for each of
	// windowPlaces, which makes 160 MiB.
	windowNumbers = 512 << 10 // events in the life of chunks
	windowSlots   = 3 << 20   // runs of slots
	windowPlaces  = 128 << 10 // changes of places on a disk
	windowRecords = 32 << 20  // bytes of chunk records, for these places

	// maxAnswers and maxAnswerImages bound the answers kept: about 1 MiB.
	maxAnswers      = 256
	maxAnswerImages = 8 << 10

	// maxKeyPoints bounds the questions about several points that are kept.
	maxKeyPoints = 64

	// maxSlotCount is out of reach of any number of chunk records, and far
	// enough from overflow.
	maxSlotCount = 1 << 60
)
