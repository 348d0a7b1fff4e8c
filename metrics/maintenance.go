package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/maintenance"
)

var (
	jobs = counter("jobs_total", "Jobs that ended, by kind (gc, verify with the rolling scrub, prune, compress) and result (done, failed, cancelled).", "kind", "result")

	gcRunning     = gauge("gc_running", "1 while garbage is being collected.")
	gcStarted     = gauge("gc_last_start_timestamp_seconds", "When the last collection that has ended began.")
	gcSucceeded   = gauge("gc_last_success_timestamp_seconds", "When the last collection that went well ended.")
	gcDuration    = gauge("gc_last_duration_seconds", "Duration of the last collection that went well.")
	gcPhase       = gauge("gc_phase_duration_seconds", "Duration of the last collection's phases.", "phase")
	gcCondemned   = counter("gc_condemned_bytes_total", "Dead bytes that collections took out of use.")
	gcMoved       = counter("gc_moved_bytes_total", "Live bytes that collections wrote again.")
	gcFreed       = counter("gc_freed_bytes_total", "Bytes that collections gave back to the file system.")
	gcReclaimable = gauge("gc_reclaimable_bytes", "Bytes of packs that no recovery point and no open backup needs, by the accounts.")
	gcPinned      = gauge("gc_pinned_points", "Points that are gone and whose space waits for readers or open backups.")

	trashPoints = gauge("trash_points", "Deleted recovery points that can be undeleted.")
	trashBytes  = gauge("trash_bytes", "Bytes that emptying the trash would free.")

	scrubOldest     = gauge("scrub_oldest_age_seconds", "Time since the verification of a pack that is longest ago; 0: none was verified yet.")
	scrubTarget     = gauge("scrub_target_age_seconds", "Age that the rolling verification keeps all packs below (scrub.target-age); 0: it is off.")
	scrubUnverified = gauge("scrub_unverified_packs", "Packs that were never verified.")
	scrubLast       = gauge("verify_last_run_timestamp_seconds", "When the last verification ended.")
	verifiedBlocks  = counter("verify_damaged_blocks_total", "Damaged blocks that verifications found.")
	healedBlocks    = counter("verify_repaired_blocks_total", "Damaged blocks replaced by another copy.")
	damagedPacksNow = gauge("damaged_packs", "Packs with damage that is not repaired.")
	affectedPoints  = gauge("affected_points", "Recovery points that cannot be read whole.")
	affectedImages  = gauge("affected_images", "Images that cannot be read whole.")

	compressLast    = gauge("compress_last_run_timestamp_seconds", "When what was stored without compressing it was last compressed.")
	compressSkipped = counter("compress_skipped_packs_total", "Packs that compressions left alone because something in them is damaged.")

	pruneLast       = gauge("prune_last_run_timestamp_seconds", "When points were last pruned.")
	pointsRemoved   = counter("points_deleted_total", "Recovery points deleted, by what: request, rule (keep rules), chain (a chain's limit).", "by")
	pointsPurged    = counter("points_purged_total", "Recovery points that left the trash for good.")
	pointsUndeleted = counter("points_undeleted_total", "Recovery points brought back from the trash.")
	chainFulls      = counter("chain_fulls_total", "Full backups in mode auto that a policy or damage asked for.")

	accountQueue   = gauge("account_queue", "Changes that the accounts of used space have not counted yet.")
	accountWait    = histogram("account_catch_up_seconds", "Time that questions about used space waited for the accounts.")
	accountBad     = gauge("account_failed", "1 when the accounts of used space stand still; no data is concerned.")
	accountWrong   = counter("account_errors_total", "Collections that the accounts of used space stopped because they disagreed with the marks.")
	accountRecount = counter("account_recounts_total", "Times the accounts of used space were made anew.")
)

func collectMaintenance(to sink, s maintenance.Stats) {
	putOutcomes(to, "gc", s.GC.Outcomes)
	putOutcomes(to, "verify", s.Verify.Outcomes)
	putOutcomes(to, "prune", s.Prune.Outcomes)
	putOutcomes(to, "compress", s.Compress.Outcomes)
	collectGC(to, s.GC)
	put(to, trashPoints, s.Trash.Points)
	put(to, trashBytes, s.Trash.Bytes)
	collectVerify(to, s.Verify)
	collectPrune(to, s.Prune)
	putTime(to, compressLast, s.Compress.LastRun)
	put(to, compressSkipped, s.Compress.Skipped)
}

// putOutcomes counts a job as done when it neither failed nor was cancelled.
func putOutcomes(to sink, kind string, o maintenance.Outcomes) {
	put(to, jobs, o.Runs-o.Failures-o.Cancelled, kind, "done")
	put(to, jobs, o.Failures, kind, "failed")
	put(to, jobs, o.Cancelled, kind, "cancelled")
}

func collectGC(to sink, s maintenance.GCStats) {
	put(to, gcRunning, truth(s.Running))
	putTime(to, gcStarted, s.LastStart)
	putTime(to, gcSucceeded, s.LastSuccess)
	put(to, gcDuration, s.LastTook.Seconds())
	for _, name := range slices.Sorted(maps.Keys(s.Phases)) {
		put(to, gcPhase, s.Phases[name].Seconds(), name)
	}
	put(to, gcCondemned, s.CondemnedBytes)
	put(to, gcMoved, s.MovedBytes)
	put(to, gcFreed, s.FreedBytes)
	put(to, gcReclaimable, s.ReclaimableBytes)
	put(to, gcPinned, s.PinnedPoints)
	put(to, accountWrong, s.AuditErrors)
}

func collectVerify(to sink, s maintenance.VerifyStats) {
	put(to, scrubOldest, s.Age.Oldest.Seconds())
	put(to, scrubTarget, s.Age.Target.Seconds())
	put(to, scrubUnverified, s.Age.Unverified)
	putTime(to, scrubLast, s.LastRun)
	put(to, verifiedBlocks, s.DamagedBlocks)
	put(to, healedBlocks, s.Repaired)
	put(to, damagedPacksNow, s.DamagedNow)
	put(to, affectedPoints, s.AffectedPoints)
	put(to, affectedImages, s.AffectedImages)
}

func collectPrune(to sink, s maintenance.PruneStats) {
	putTime(to, pruneLast, s.LastRun)
	put(to, pointsRemoved, s.Deleted, "request")
	put(to, pointsRemoved, s.Pruned, "rule")
	put(to, pointsRemoved, s.Evicted, "chain")
	put(to, pointsPurged, s.Purged)
	put(to, pointsUndeleted, s.Undeleted)
	put(to, chainFulls, s.ChainFulls)
}

func collectAccounts(to sink, s catalog.AccountStats) {
	put(to, accountQueue, s.Queued)
	putHist(to, accountWait, s.CatchUp)
	put(to, accountBad, truth(s.Err != nil))
	put(to, accountRecount, s.Recounts)
}

// putTime sends a time; one that never was is 0, so that its age is very long.
func putTime(to sink, m metric, t time.Time) {
	if t.IsZero() {
		put(to, m, 0)
		return
	}
	put(to, m, float64(t.UnixMilli())/1000)
}
