package inplace

const (
	// pieceBytes is the unit of comparing and writing: the page of every machine,
	// and the cluster or sector that targets write without reading first.
	pieceBytes = 4 << 10
	// partBytes is what is read and compared at once; larger requests gain nothing.
	partBytes = 1 << 20
	// inFlight keeps both sides' cores and the target's disk busy. A part under way
	// has two buffers: 32 MiB together.
	inFlight = 16
	// windowBytes is how much of a target is asked for its zeros at once.
	windowBytes = 256 << 20
	// rangesMax bounds a set of ranges: 16 MiB of memory, and of a journal. A set
	// that would have more is kept more coarsely.
	rangesMax = 1 << 20
	// sizeMax is the largest disk: 1 PiB, as of manifests.
	sizeMax = 1 << 50
	// journalTextMax bounds the text in a journal; it is some hundred bytes.
	journalTextMax = 64 << 10
	// mixedMax is how many interrupted restores a journal remembers by name. Of the
	// others it keeps the ranges.
	mixedMax = 16
	// dirtyFileMax bounds a file of ranges: many times what a bitmap of 1 PiB by
	// 64 KiB becomes when it alternates for a hundredth of it.
	dirtyFileMax = 8 << 30
	// dirtyEntryMax bounds one entry of such a file.
	dirtyEntryMax = 64 << 10
	// journalTries is how often a journal may vanish between its opening and its
	// locking: another run ended, each time.
	journalTries = 16
)
