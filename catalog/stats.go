package catalog

import (
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// Stats is the state of a catalog.
type Stats struct {
	VMs          int
	Points       int
	Images       int
	LogicalBytes int64 // sizes of all images of all points
	LatestBytes  int64 // sizes of the newest image of every disk

	Trashed int // points in the trash, which the figures above leave out
	Removed int // points removed and not forgotten

	Chunks uint64 // chunk records made so far

	LogFiles, LogBytes int64         // of the metadata log
	Commit             hist.Snapshot // time Commit took, successful ones

	CacheHits, CacheMisses uint64 // of the chunk cache
	CacheBytes             int64

	// LastCommits is the commit time of the newest point per VM and disk,
	// sorted; it is what "last successful backup" means, and survives a
	// restart. A disk stays here as long as a point has it.
	LastCommits []LastCommit

	ReadOnly bool            // see ErrReadOnly
	Pebble   *pebble.Metrics // nil after Close
}

// LastCommit is the newest backup of a disk.
type LastCommit struct {
	VM, Disk string
	Time     time.Time
}

// totals are kept in memory, by adding up the VMs' summaries at Open and
// following every change of one.
type totals struct {
	vms, points, images int
	logical, latest     int64
	trashed, pending    int
}

// count adds up what the database holds.
func (t *totals) count(r pebble.Reader) error {
	one := func(n *int) func(_, _ []byte) error {
		return func(_, _ []byte) error { *n++; return nil }
	}
	return errors.Join(eachVM(r, func(v *VM) error {
		t.add(v, 1)
		return nil
	}), scan(r, []byte{keyTrashed}, one(&t.trashed)), scan(r, []byte{keyPending}, one(&t.pending)))
}

func (t *totals) replace(before, after *VM) {
	t.add(before, -1)
	t.add(after, 1)
}

func (t *totals) add(v *VM, sign int) {
	t.vms += sign * min(v.Points, 1)
	t.points += sign * v.Points
	t.images += sign * v.Images
	t.logical += int64(sign) * v.LogicalBytes
	t.latest += int64(sign) * v.LatestBytes()
}

// Stats takes a snapshot. It costs a read of every VM's summary; if one cannot
// be read, LastCommits ends before it and ReadOnly is set.
func (c *Catalog) Stats() Stats {
	if c.enter() != nil {
		return Stats{}
	}
	defer c.leave()
	app := c.commit.app
	app.mu.Lock()
	t, chunks := app.totals, app.recorded
	app.mu.Unlock()
	s := Stats{VMs: t.vms, Points: t.points, Trashed: t.trashed, Removed: t.pending, Images: t.images, LogicalBytes: t.logical, LatestBytes: t.latest,
		Chunks: uint64(chunks), Commit: c.latency.Snapshot(), CacheHits: c.chunks.hits.Load(),
		CacheMisses: c.chunks.misses.Load(), CacheBytes: c.chunks.size(), Pebble: c.db.Metrics()}
	s.LogFiles, s.LogBytes = c.commit.log.Size()
	err := eachVM(c.db, func(v *VM) error {
		for _, d := range v.Disks {
			s.LastCommits = append(s.LastCommits, LastCommit{VM: v.Name, Disk: d.Disk, Time: d.Time})
		}
		return nil
	})
	if err != nil {
		c.fail(err)
	}
	s.ReadOnly = c.Err() != nil
	return s
}
