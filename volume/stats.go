package volume

import (
	"sync/atomic"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

type counters struct {
	started, committed, aborted, expired atomic.Uint64
	cloned, resumed                      atomic.Uint64
	folds, journalSyncs, rewrites        atomic.Uint64
	commits                              hist.H
}

// Stats counts what happened since the server started; States is the present.
type Stats struct {
	Started, Committed, Aborted, Expired uint64
	// Folds counts blocks merged from partial writes; JournalSyncs fdatasyncs of session journals.
	Folds, JournalSyncs uint64
	// ReadAheadBytes is what sequential readers of images are read ahead now.
	ReadAheadBytes int64
	Commits        hist.Snapshot // duration of successful commits
	States         map[State]int // backups remembered
	// Cloned and Resumed count clones made and resumed; that they were sealed or
	// discarded is in Committed and Aborted. Rewrites counts journals written anew.
	Cloned, Resumed, Rewrites uint64
	Clones                    map[State]int // clones remembered
	CloneJournalBytes         int64         // that their journals take
	// Bytes of the sessions that are open now or being committed.
	OpenWrittenBytes, OpenNewBytes, OpenStoredBytes int64
}

// Stats is cheap enough for every scrape.
func (m *Manager) Stats() Stats {
	st := Stats{
		Started: m.stats.started.Load(), Committed: m.stats.committed.Load(),
		Aborted: m.stats.aborted.Load(), Expired: m.stats.expired.Load(),
		Folds: m.stats.folds.Load(), JournalSyncs: m.stats.journalSyncs.Load(),
		Commits: m.stats.commits.Snapshot(), States: map[State]int{},
		Cloned: m.stats.cloned.Load(), Resumed: m.stats.resumed.Load(), Rewrites: m.stats.rewrites.Load(),
		Clones: map[State]int{},
	}
	for _, s := range m.Clones() {
		st.Clones[s.State]++
		for _, d := range s.Disks {
			st.CloneJournalBytes += d.JournalBytes
		}
	}
	for _, s := range m.Sessions() {
		st.States[s.State]++
		if s.State != Open && s.State != Committing {
			continue
		}
		for _, d := range s.Disks {
			st.OpenWrittenBytes += d.WrittenBytes
			st.OpenNewBytes += d.NewBytes
			st.OpenStoredBytes += d.StoredBytes
		}
		for _, f := range s.Files {
			st.OpenWrittenBytes += f.WrittenBytes
			st.OpenNewBytes += f.NewBytes
			st.OpenStoredBytes += f.StoredBytes
		}
	}
	return st
}
