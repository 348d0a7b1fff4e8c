package metrics

import "github.com/strongroom-backup/strongroom/volume"

var (
	backups        = gauge("backups", "Backup sessions remembered, by state.", "state")
	backupsStarted = counter("backups_started_total", "Backup sessions opened.")
	backupsEnded   = counter("backups_ended_total", "Backup sessions that ended, by how; a clone that was sealed counts as committed, one that was discarded as aborted.", "state")
	commitDuration = histogram("backup_commit_duration_seconds", "Duration of commits that succeeded, from the request to the durable point.")
	openBytes      = gauge("backup_open_bytes", "Bytes of the open sessions: written by clients, new to the store, stored for them.", "kind")
	folds          = counter("partial_block_merges_total", "Blocks put together from partial writes.")
	readAhead      = gauge("read_ahead_bytes", "Memory of what sequential readers of images are read ahead.")
	journalSyncs   = counter("journal_syncs_total", "fdatasyncs of session journals.")
)

// states are all a session can have; those without a session are exported as 0,
// so that a query always finds them.
var states = []volume.State{volume.Open, volume.Committing, volume.Committed, volume.Aborted, volume.Expired, volume.Dead}

func collectVolume(to sink, s volume.Stats) {
	for _, state := range states {
		put(to, backups, s.States[state], string(state))
	}
	put(to, backupsStarted, s.Started)
	put(to, backupsEnded, s.Committed, string(volume.Committed))
	put(to, backupsEnded, s.Aborted, string(volume.Aborted))
	put(to, backupsEnded, s.Expired, string(volume.Expired))
	putHist(to, commitDuration, s.Commits)
	put(to, openBytes, s.OpenWrittenBytes, "written")
	put(to, openBytes, s.OpenNewBytes, "new")
	put(to, openBytes, s.OpenStoredBytes, "stored")
	put(to, folds, s.Folds)
	put(to, readAhead, s.ReadAheadBytes)
	put(to, journalSyncs, s.JournalSyncs)
}
