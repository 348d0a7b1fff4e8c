package maintenance

import "time"

// Stats is what was done since the engine was made, and the present.
type Stats struct {
	GC       GCStats
	Verify   VerifyStats
	Prune    PruneStats
	Trash    TrashStats
	Compress CompressStats
}

// Outcomes counts jobs by how they ended.
type Outcomes struct{ Runs, Failures, Cancelled uint64 }

// GCStats counts collections.
type GCStats struct {
	Outcomes
	Running                                bool
	LastStart, LastSuccess                 time.Time // zero: none
	LastTook                               time.Duration
	Phases                                 map[string]time.Duration // of the last collection that ended well; not to be changed
	CondemnedBytes, MovedBytes, FreedBytes int64                    // by all collections
	ReclaimableBytes                       int64                    // as of the last look
	PinnedPoints                           int                      // removed, but still needed by readers or backups
	AuditErrors                            uint64                   // accounts that differed from the marks, and were made anew
}

// VerifyStats counts verification, the rolling one included.
type VerifyStats struct {
	Outcomes
	LastRun                        time.Time // zero: none
	Packs, Bytes                   uint64
	DamagedBlocks, Repaired        uint64   // found, and healed
	Age                            ScrubAge // empty when the packs cannot be listed
	DamagedNow                     int      // packs with damage now
	AffectedPoints, AffectedImages int      // now
}

// PruneStats counts prunes and what else removed points.
type PruneStats struct {
	Outcomes
	LastRun                 time.Time // zero: none
	Pruned, Evicted, Purged uint64    // points removed by rules, by chain limits, from the trash
	Deleted, Undeleted      uint64    // on request
	ChainFulls              uint64    // fulls that a policy or damage asked for in mode auto
}

// CompressStats counts runs of compressing later; what is waiting is in dedup's
// Stats.
type CompressStats struct {
	Outcomes
	Running       bool
	LastRun       time.Time // when the last one ended; zero: none
	LastTook      time.Duration
	Packs         uint64 // written anew
	Skipped       uint64 // left alone, by all runs: something in them is damaged
	Before, After int64  // bytes of their files
}

// TrashStats is the trash as of the last look.
type TrashStats struct {
	Points int
	Bytes  int64 // that emptying it would free
}

// Stats is cheap enough for every scrape.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	s := e.stats
	e.mu.Unlock()
	s.GC.Running = e.isRunning(GC)
	s.Compress.Running = e.isRunning(Compress)
	s.Verify.Age, _ = e.Age()
	now := e.damageNow()
	s.Verify.DamagedNow = len(now.list())
	points := map[string]bool{}
	for _, a := range e.Affected() {
		points[a.Point] = true
		s.Verify.AffectedImages++
	}
	s.Verify.AffectedPoints = len(points)
	return s
}
