package metrics

import (
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

var (
	clones        = gauge("clones", "Clones there are, by state.", "state")
	cloneBytes    = gauge("clone_bytes", "Bytes of the clones there are: written by clients, new to the store, stored for them.", "kind")
	cloneJournal  = gauge("clone_journal_bytes", "Bytes of the journals of clones, which say where their writes lie.")
	clonesMade    = counter("clones_created_total", "Clones created.")
	clonesResumed = counter("clones_resumed_total", "Clones opened again that were stale.")
	cloneRewrites = counter("clone_journal_rewrites_total", "Journals of clones written anew because most of them was dead.")
	cloneOldest   = gauge("clone_oldest_timestamp_seconds", "When the oldest clone was created; not there when there is none.")
)

// cloneStates are those that lead somewhere, in the API's words.
var cloneStates = map[volume.State]string{
	volume.Open: "open", volume.Committing: "sealing", volume.Stale: "stale", volume.Dead: "dead",
}

func collectClones(to sink, s volume.Stats, list []volume.Status) {
	put(to, clonesMade, s.Cloned)
	put(to, clonesResumed, s.Resumed)
	put(to, cloneRewrites, s.Rewrites)
	count := map[volume.State]int{}
	var written, fresh, stored, journal int64
	var oldest time.Time
	for _, st := range list {
		if cloneStates[st.State] == "" {
			continue // it has ended, and is only remembered
		}
		count[st.State]++
		if oldest.IsZero() || st.Started.Before(oldest) {
			oldest = st.Started
		}
		for _, d := range st.Disks {
			written += d.WrittenBytes
			fresh += d.NewBytes
			stored += d.StoredBytes
			journal += d.JournalBytes
		}
	}
	for state, name := range cloneStates {
		put(to, clones, count[state], name)
	}
	put(to, cloneBytes, written, "written")
	put(to, cloneBytes, fresh, "new")
	put(to, cloneBytes, stored, "stored")
	put(to, cloneJournal, journal)
	if !oldest.IsZero() {
		putTime(to, cloneOldest, oldest)
	}
}
