package maintenance

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

// while is how long an operation is held up that a barrier should wait for.
const while = 50 * time.Millisecond

// TestCommitBetweenSteps: a session that becomes a point between any two steps of
// a collection loses nothing: either its map or its point is found.
func TestCommitBetweenSteps(t *testing.T) {
	for _, s := range (&collecting{}).steps() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			const size = 12 << 20
			_, d, err := w.begin(volume.StartRequest{VM: "vm"}, size)
			w.must(err)
			want := noise(size, 1)
			_, err = d.WriteAt(want, 0)
			w.must(err)
			w.reopen()
			st := w.vols.Sessions()[0]
			point, stopped := "", false
			w.e.paused = func(name string) {
				if name == s.name {
					stopped = true
					rec, err := w.vols.Commit(st.Session)
					w.must(err)
					point = rec.Point
				}
			}
			w.collect(all)
			w.e.paused = nil
			if !stopped {
				t.Fatal("the collection has no such step")
			}
			w.reopen()
			w.must(w.sameImage(point, want))
		})
	}
}

// TestCollectionWaitsForWrites: a write found its blocks before the collection
// began, and says where only after it went for the roots if nobody waits.
func TestCollectionWaitsForWrites(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 12 << 20
	want := noise(size, 1)
	w.backup(volume.StartRequest{VM: "old"}, size, put{0, want})
	_, err := w.e.Delete("old", true)
	w.must(err)
	w.reopen()
	_, d, err := w.begin(volume.StartRequest{VM: "vm"}, size)
	w.must(err)
	stop := newStop(".journal")
	written := make(chan error, 1)
	started := false
	w.e.paused = func(step string) {
		switch step {
		case "begin":
			started = true
			w.io.onWrite(stop.hook)
			go func() {
				_, err := d.WriteAt(want, 0)
				written <- err
			}()
			<-stop.reached
			if hits := w.store.Stats().Put.Index; hits == 0 {
				t.Error("the write found nothing that it had to find")
			}
		case "barrier":
			if started {
				time.AfterFunc(while, stop.release)
			}
		case "roots":
			if !stop.freed.Load() {
				t.Error("roots are looked for while a write from before the collection is under way")
				stop.release()
			}
			w.must(<-written)
		}
	}
	w.collect(all)
	w.must(sameAs(d, want))
}

// TestCollectionWaitsForReads: a read has found addresses that are overwritten
// before the roots are looked for; what they lead to stays until it is done.
func TestCollectionWaitsForReads(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 12 << 20
	_, d, err := w.begin(volume.StartRequest{VM: "vm"}, size)
	w.must(err)
	old, fresh := noise(size, 1), noise(size, 2)
	_, err = d.WriteAt(old, 0)
	w.must(err)
	w.reopen()
	d, err = w.vols.OpenExport(w.vols.Sessions()[0].Disks[0].Token)
	w.must(err)
	stop := newStop("/packs/")
	got := make([]byte, size)
	read := make(chan error, 1)
	ended := false
	w.e.paused = func(step string) {
		switch step {
		case "roots":
			w.io.onRead(stop.hook)
			go func() {
				_, err := d.ReadAt(got, 0)
				read <- err
			}()
			<-stop.reached
			_, err := d.WriteAt(fresh, 0)
			w.must(err)
		case "settle":
			time.AfterFunc(while, stop.release)
		case "sweep":
			if !stop.freed.Load() {
				t.Error("data is thrown away while a read that may need it is under way")
				stop.release()
			}
			w.must(<-read)
			ended = true
		}
	}
	w.collect(all)
	if !ended {
		t.Fatal("the read did not end before the sweep")
	}
	if !slices.Equal(got, old) {
		t.Error("the read found something else than what stood there when it began")
	}
	w.must(sameAs(d, fresh))
}

// TestSweepIsRefusedWhenMarksAreMissing: the accounts know better.
func TestSweepIsRefusedWhenMarksAreMissing(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 12 << 20
	p := w.backup(volume.StartRequest{VM: "vm"}, size, put{0, noise(size, 1)})
	w.reopen()
	ctx, r, err := w.e.begin(t.Context(), GC, OnRequest, "bytes")
	w.must(err)
	c := &collecting{e: w.e, o: all, run: r}
	w.must(c.begin(ctx)) // and nothing is marked
	err = c.audit(ctx)
	if err == nil || !strings.Contains(err.Error(), "nothing was freed") {
		t.Errorf("audit of missing marks: %v", err)
	}
	c.marks.Close()
	r.end(err)
	w.must(w.sameImage(p.ID, noise(size, 1)))
	if n := w.e.Stats().GC.AuditErrors; n != 1 {
		t.Errorf("%d accounts were made anew, want 1", n)
	}
}
