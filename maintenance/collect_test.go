package maintenance

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/strongroom-backup/strongroom/volume"
)

// TestCollectGivesSpaceBack: what was deleted goes, what stays is whole, also
// where both shared packs.
func TestCollectGivesSpaceBack(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 16 << 20
	a, b := noise(size, 1), noise(size, 2)
	copy(b[:size/4], a) // shared
	pa := w.backup(volume.StartRequest{VM: "a"}, size, put{0, a})
	pb := w.backup(volume.StartRequest{VM: "b"}, size, put{0, b})
	w.reopen() // seals nothing, but forgets what is in memory
	if res := w.collect(all); res.Sweep.FreedBytes != 0 || res.Marked.Points != 2 {
		t.Errorf("nothing was deleted: %+v", res)
	}
	before := w.store.Stats().PackBytes // idle packs are sealed by now, which takes a little
	u, err := w.cat.Usage(pa.ID)
	w.must(err)
	d, err := w.e.Delete("a", true)
	w.must(err)
	if !d.Purge.IsZero() || d.Point.ID != pa.ID {
		t.Errorf("deleted %+v", d)
	}
	res := w.collect(all)
	after := w.store.Stats().PackBytes
	t.Logf("%d bytes before, %d after; promised %d; %+v", before, after, u.UniqueStored, res)
	if res.Forgotten != 1 {
		t.Errorf("%d points forgotten, want 1", res.Forgotten)
	}
	if freed := before - after; freed < u.UniqueStored || res.Sweep.FreedBytes < freed {
		t.Errorf("%d bytes freed, %d said, %d promised", freed, res.Sweep.FreedBytes, u.UniqueStored)
	}
	w.must(w.sameImage(pb.ID, b))
	w.kill()
	w.must(w.sameImage(pb.ID, b))
	if left, err := w.e.Reclaimable(); err != nil || left > 1<<20 {
		t.Errorf("%d bytes are still reclaimable, %v", left, err)
	}
	st := w.e.Stats()
	if st.GC.Runs != 0 { // another engine since
		t.Errorf("%+v", st.GC)
	}
}

// TestOpenSessionsKeepTheirData: maps in memory and in journals are roots, and so
// is a parent; a reader keeps a removed point.
func TestOpenSessionsKeepTheirData(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 8 << 20
	base, over := noise(size, 1), noise(size/2, 2)
	parent := w.backup(volume.StartRequest{VM: "vm"}, size, put{0, base})
	old := w.backup(volume.StartRequest{VM: "old"}, size, put{0, noise(size, 3)})
	im, err := w.vols.OpenImage(old.ID, "vda")
	w.must(err)
	st, d, err := w.begin(volume.StartRequest{VM: "vm"}, size)
	w.must(err)
	_, err = d.WriteAt(over, 0)
	w.must(err)
	if _, err := w.e.Delete(parent.ID, true); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("the parent of an open session was deleted: %v", err)
	}
	_, err = w.e.Delete(old.ID, true)
	w.must(err)
	res := w.collect(all)
	if !slices.Equal(res.Pinned, []string{old.ID}) || res.Forgotten != 0 || res.Sweep.FreedBytes != 0 {
		t.Errorf("a reader has it open: %+v", res)
	}
	w.must(sameAs(im, noise(size, 3)))
	w.must(im.Close())
	if res := w.collect(all); res.Forgotten != 1 || res.Sweep.FreedBytes < size {
		t.Errorf("nobody has it open any more: %+v", res)
	}
	want := slices.Clone(base)
	copy(want, over)
	w.must(sameAs(d, want))
	w.kill()
	d, err = w.vols.OpenExport(st.Disks[0].Token)
	w.must(err)
	w.must(sameAs(d, want))
	rec, err := w.vols.Commit(st.Session)
	w.must(err)
	w.must(w.sameImage(rec.Point, want))
	w.collect(all)
	w.must(w.sameImage(rec.Point, want))
}

// TestOverwrittenDataMayGo: a journal names everything that was ever written;
// after a restart only what still counts must be there.
func TestOverwrittenDataMayGo(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 8 << 20
	st, d, err := w.begin(volume.StartRequest{VM: "vm"}, size)
	w.must(err)
	for seed := range uint64(5) {
		_, err = d.WriteAt(noise(size, seed), 0)
		w.must(err)
	}
	_, err = d.WriteAt([]byte("part"), 100)
	w.must(err)
	want := noise(size, 4)
	copy(want[100:], "part")
	w.reopen()
	if res := w.collect(all); res.Sweep.FreedBytes < 3*size {
		t.Errorf("what was overwritten is still there: %+v", res)
	}
	w.kill()
	d, err = w.vols.OpenExport(st.Disks[0].Token)
	if err != nil {
		t.Fatalf("the session died of data it does not need: %v", err)
	}
	w.must(sameAs(d, want))
	rec, err := w.vols.Commit(st.Session)
	w.must(err)
	w.must(w.sameImage(rec.Point, want))
}

func TestCollectIsOneAtATimeAndCanBeCancelled(t *testing.T) {
	var w *world
	var during error
	var phases []string
	w = newWorld(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	w.e.events.Began = func(j Job) {
		_, during = w.e.Collect(t.Context(), all)
	}
	w.e.events.Ended = func(j Job) { phases = append(phases, j.Phase) }
	w.collect(all)
	if !errors.Is(during, ErrBusy) {
		t.Errorf("a second collection: %v, want ErrBusy", during)
	}
	w.e.events.Began = func(j Job) { cancel() }
	if _, err := w.e.Collect(ctx, all); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.e.events.Began = func(j Job) {
		if !w.e.Cancel(j.ID) || w.e.Cancel("none") {
			t.Error("a running job was not there to be cancelled, or another was")
		}
	}
	if _, err := w.e.Collect(t.Context(), all); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled by its id: %v", err)
	}
	w.e.events.Began = nil
	w.collect(all)
	if st := w.e.Stats().GC; st.Runs != 4 || st.Cancelled != 2 || st.Failures != 0 || st.LastSuccess.IsZero() || st.Phases["mark"] == 0 {
		t.Errorf("%+v", st)
	}
	if jobs := w.e.Jobs(); len(jobs) != 1 || jobs[0].GC == nil || jobs[0].Err != nil || jobs[0].Ended.IsZero() {
		t.Errorf("%+v", jobs)
	}
	if !slices.Equal(phases, []string{"sweep", "", "", "sweep"}) {
		t.Errorf("jobs ended in %q", phases)
	}
	for _, bad := range []CollectOptions{{DeadRatio: 2}, {Rate: -1}, {FreeWanted: -1}} {
		if _, err := w.e.Collect(t.Context(), bad); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
