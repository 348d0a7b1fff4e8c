package maintenance

import "time"

// Stats is what was done since the engine was made, and the present.
type Stats struct {
	GC     GCStats
	Verify VerifyStats
	Prune  PruneStats
	Trash  TrashStats
}

// GCStats counts collections.
type GCStats struct {
	Runs, Failures, Cancelled              uint64
	Running                                bool
	LastStart, LastSuccess                 time.Time
	LastTook                               time.Duration
	Phases                                 map[string]time.Duration // of the last collection that ended well
	CondemnedBytes, MovedBytes, FreedBytes int64                    // by all collections
	ReclaimableBytes                       int64                    // as of the last look
	PinnedPoints                           int                      // removed, but still needed by readers or backups
	AuditErrors                            uint64                   // accounts that were not what the marks said
}

// VerifyStats counts verification.
type VerifyStats struct {
	Runs, Failures                 uint64
	Packs, Bytes                   uint64
	DamagedBlocks, Repaired        uint64 // found, and healed
	Age                            ScrubAge
	DamagedNow                     int // packs with damage now
	AffectedPoints, AffectedImages int // now
	LastRun                        time.Time
}

// PruneStats counts prunes and what else removed points.
type PruneStats struct {
	Runs, Failures          uint64
	LastRun                 time.Time
	Pruned, Evicted, Purged uint64 // points removed by rules, by chain limits, from the trash
	Deleted, Undeleted      uint64 // on request
	ChainFulls              uint64 // fulls that a policy or damage asked for in mode auto
}

// TrashStats is the trash as of the last look.
type TrashStats struct {
	Points int
	Bytes  int64 // that emptying it would free
}

// Stats is cheap enough for every scrape.
func (e *Engine) Stats() Stats { return Stats{} }
