package maintenance

import "time"

// Every bound and default of this package, with its reason.
const (
	// defaultDeadRatio moves at most three bytes for every byte freed.
	defaultDeadRatio = 0.25
	// lowDeadRatio is for a disk that fills up: space counts, work does not.
	lowDeadRatio = 0.02
	// defaultReclaimAt and defaultReclaimShare make a collection worth its mark.
	defaultReclaimAt    = 1 << 30
	defaultReclaimShare = 0.05
	// smallReclaimMin is what deletes must promise to be collected before they reach the shares
	// above, smallWait how long after the last collection at the earliest, so that the space of a
	// small point is back within five minutes too.
	smallReclaimMin = 1 << 20
	smallWait       = 2 * time.Minute
	// smallPause bounds what that costs: a twentieth of the time goes to collections.
	smallPause = 20
	// defaultLowFree leaves time to get space back before a disk is full.
	defaultLowFree = 0.1
	// lowReclaimMin is what a collection on a disk that fills up must promise, so that a disk that
	// stays full of live data does not have one after another.
	lowReclaimMin = 16 << 20
	// defaultGCEvery, with the mark and the sweep, keeps a delete's space back within five minutes.
	defaultGCEvery = 30 * time.Second
	// defaultAtLeast collects what no threshold noticed.
	defaultAtLeast = 24 * time.Hour
	// retryAfter is how long a loop waits after a failure before it tries the same again.
	retryAfter = 5 * time.Minute
	// defaultCompressIdle begins soon after the last backup and not in its pauses.
	defaultCompressIdle = 10 * time.Second
	// defaultCompressAt bounds what waits while backups go on for hours. It is more than one backup
	// usually brings: beside compression on two cores a backup takes twice its time.
	defaultCompressAt = 32 << 30
	// defaultCompressEvery is a look at two counters.
	defaultCompressEvery = 2 * time.Second
	// maxPause is the longest a sweep holds back for ingest after one pack.
	maxPause = 2 * time.Second

	// defaultScrubEvery spreads a scrub over the day.
	defaultScrubEvery = time.Minute
	// scrubHeadroom is the part of the target age in which a round is planned to end, so that one
	// that was interrupted still ends in time.
	scrubHeadroom = 0.8
	// scrubOverdue is the part of the target age from which on a pack is verified at once.
	scrubOverdue = 0.95
	// scrubFresh is the part of the target age before which no pack is verified again.
	scrubFresh = 0.5
	// ageEvery is how long a count of the packs' ages is good enough.
	ageEvery = time.Minute

	// logEvery is how often a scrub reads the metadata log: small beside the packs, and the one thing
	// that cannot be had again from them.
	logEvery = 24 * time.Hour

	// damageEvery is how often it is looked whether damage was met.
	damageEvery = 10 * time.Second
	// repairEvery is how often a repair is tried while no backup has brought anything new.
	repairEvery = time.Hour

	// minBurst and maxBurst bound what a limiter lets through at once: a block, so that nobody waits
	// for parts of it; a pack, so that a high rate does not come in lumps larger than that.
	minBurst = 64 << 10
	maxBurst = 64 << 20
	// maxWait is the longest Run sleeps without a look at the clock, which may be set.
	maxWait = time.Minute
	// maxChainWalk bounds walks along parents; a longer line is damage.
	maxChainWalk = 1 << 16
	// maxEvicted is how many points one backup may take from a chain, when a limit was lowered.
	maxEvicted = 1024
)
