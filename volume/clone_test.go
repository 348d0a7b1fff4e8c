package volume

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// collect frees what nobody needs, with every pack rewritten that has a dead
// block.
func (w *world) collect() dedup.Tally {
	w.t.Helper()
	for _, id := range must1(w.cat.Removed())(w.t) {
		if !w.m.Pinned(id) {
			w.must(w.cat.Forget(id))
		}
	}
	_, err := w.store.SealIdle(0)
	w.must(err)
	c, err := w.store.BeginCollection()
	w.must(err)
	defer c.Close()
	w.m.Barrier()
	w.must(w.m.Roots(c.Mark))
	_, err = w.cat.Mark(context.Background(), func(runs []catalog.Run) {
		for _, r := range runs {
			c.Mark(r.Addr, int(r.Count))
		}
	})
	w.must(err)
	w.m.Barrier()
	t := c.Tally()
	if t.UnknownMarks > 0 {
		w.t.Fatalf("%d blocks are marked that nobody has", t.UnknownMarks)
	}
	_, err = c.Sweep(context.Background(), dedup.SweepOptions{DeadRatio: 1e-9})
	w.must(err)
	return t
}

func must1[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// point makes a point of VM vm with disks vda and vdb, some of it random.
func (w *world) point(size int64, seed uint64) string {
	w.t.Helper()
	st, err := w.m.Start(StartRequest{VM: "vm", Disks: []DiskSpec{{"vda", size}, {"vdb", size / 2}}, Mode: "full",
		Blobs: []catalog.Blob{{Name: "domain.xml", Data: []byte("<domain/>")}}})
	w.must(err)
	for i, ds := range st.Disks {
		d, err := w.m.OpenExport(ds.Token)
		w.must(err)
		w.write(d, 0, int(min(ds.Size, 3<<20)), seed+uint64(i))
		w.write(d, ds.Size-512, 512, seed+7)
	}
	return w.commit(st.Session).Point
}

// content is what a disk reads as.
func (w *world) content(r reader) []byte {
	w.t.Helper()
	b := make([]byte, r.Size())
	_, err := r.ReadAt(b, 0)
	w.must(err)
	return b
}

func (w *world) imageContent(point, disk string) []byte {
	w.t.Helper()
	im, err := w.m.OpenImage(point, disk)
	w.must(err)
	defer im.Close()
	return w.content(im)
}

func (w *world) clone(r CloneRequest) (Status, *Disk) {
	w.t.Helper()
	st, err := w.m.CreateClone(r)
	w.must(err)
	return st, w.export(st.Disks[0].Token)
}

func TestClone(t *testing.T) {
	w := newWorld(t)
	const size = 5<<20 + 512
	old := w.point(size, 1)
	newest := w.point(size, 100)
	st, d := w.clone(CloneRequest{Ref: "vm@" + old, Labels: map[string]string{"why": "test"}})
	if !st.Clone || st.Base != old || st.VM != "vm" || st.State != Open || !st.Manual || len(st.Disks) != 2 || !st.Expires.IsZero() {
		t.Fatalf("%+v", st)
	}
	for _, ds := range st.Disks {
		if ds.Mode != catalog.Incremental || ds.Parent != old || !ds.Branch || strings.Contains(ds.Token, "/") || ds.JournalBytes < journalHeaderSize {
			t.Errorf("%+v", ds)
		}
	}
	if !d.Clone() || d.Session() != st.Session {
		t.Error("its disk is not one of a clone")
	}
	want := w.content(d)
	if !bytes.Equal(want, w.imageContent(old, "vda")) {
		t.Fatal("a clone begins as something else than its point")
	}
	w.write(d, 1000, 100_000, 9)
	fill(want[1000:101_000], 9)
	w.must(d.Zero(2<<20, 1<<20))
	clear(want[2<<20 : 3<<20])
	if !bytes.Equal(want, w.content(d)) {
		t.Fatal("a clone is not its point with what was written over it")
	}
	if len(w.m.Sessions()) != 2 || len(w.m.Clones()) != 1 || w.m.Stats().Clones[Open] != 1 || w.m.Stats().CloneJournalBytes < 1000 {
		t.Errorf("%d sessions, %d clones, %+v", len(w.m.Sessions()), len(w.m.Clones()), w.m.Stats())
	}

	// It survives: restarts, expiry, and the removal of what it was made of is refused.
	for _, boot := range []string{"boot-1", "boot-2"} {
		w.stop()
		w.boot = boot
		w.start()
		_, err := w.m.Expire(w.now().AddDate(5, 0, 0))
		w.must(err)
		if d = w.export(st.Disks[0].Token); !bytes.Equal(want, w.content(d)) {
			t.Fatal("after a restart it is not what it was")
		}
	}
	if err := w.m.Remove(old); !isInUse(err) || !strings.Contains(err.Error(), "clone "+st.Session) {
		t.Errorf("the removal of a clone's point: %v", err)
	}

	// It is no backup.
	if _, err := w.m.Commit(st.Session); !errors.Is(err, ErrBadRequest) {
		t.Errorf("commit of a clone: %v", err)
	}
	if err := w.m.Abort(st.Session); !errors.Is(err, ErrBadRequest) {
		t.Errorf("abort of a clone: %v", err)
	}
	b, _ := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size)})
	if _, err := w.m.SealClone(b.Session); !errors.Is(err, ErrBadRequest) {
		t.Errorf("seal of a backup: %v", err)
	}
	if err := w.m.DiscardClone(b.Session); !errors.Is(err, ErrBadRequest) {
		t.Errorf("discard of a backup: %v", err)
	}
	if _, err := w.m.ResumeClone(st.Session); !errors.Is(err, ErrClosed) {
		t.Errorf("resume of a clone that is not stale: %v", err)
	}
	if b.Disks[0].Parent != newest {
		t.Error("a clone changes what backups inherit from")
	}
	w.must(w.m.Abort(b.Session))

	// Sealed it is a point.
	r, err := w.m.SealClone(st.Session)
	w.must(err)
	again, err := w.m.SealClone(st.Session)
	w.must(err)
	if again.Point != r.Point {
		t.Error("sealed twice, it is two points")
	}
	if !bytes.Equal(want, w.imageContent(r.Point, "vda")) || !bytes.Equal(w.imageContent(old, "vdb"), w.imageContent(r.Point, "vdb")) {
		t.Error("the point is not what the clone was")
	}
	p, err := w.cat.Point(r.Point)
	w.must(err)
	blob, err := w.cat.Blob(r.Point, "domain.xml")
	w.must(err)
	if !p.Manual || p.Labels["why"] != "test" || p.Images[0].Parent != old || p.Images[0].Mode != catalog.Incremental || string(blob) != "<domain/>" {
		t.Errorf("%+v", p)
	}
	if _, err := d.WriteAt([]byte{1}, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("write to a sealed clone: %v", err)
	}
	if err := w.m.DiscardClone(st.Session); !errors.Is(err, ErrClosed) {
		t.Errorf("discard of a sealed clone: %v", err)
	}
	w.must(w.m.Remove(old))
	if w.m.Clones()[0].Point != r.Point {
		t.Error("the clone does not say what it became")
	}
}

func TestCloneRequests(t *testing.T) {
	w := newWorld(t)
	id := w.point(1<<20, 1)
	trashed := w.point(1<<20, 1)
	w.must(w.m.Trash(trashed, w.clock.AddDate(1, 0, 0)))
	for what, c := range map[string]struct {
		r    CloneRequest
		want error
	}{
		"no reference":     {CloneRequest{}, ErrBadRequest},
		"nonsense":         {CloneRequest{Ref: "a b"}, ErrBadRequest},
		"no VM":            {CloneRequest{Ref: "nobody"}, catalog.ErrNotFound},
		"no disk":          {CloneRequest{Ref: "vm/vdz"}, catalog.ErrNotFound},
		"no such disk":     {CloneRequest{Ref: "vm", Disks: []string{"vda", "vdz"}}, catalog.ErrNotFound},
		"a disk twice":     {CloneRequest{Ref: "vm", Disks: []string{"vda", "vda"}}, ErrBadRequest},
		"another disk":     {CloneRequest{Ref: "vm/vda", Disks: []string{"vdb"}}, ErrBadRequest},
		"in the trash":     {CloneRequest{Ref: trashed}, catalog.ErrNotFound},
		"also with its VM": {CloneRequest{Ref: "vm@" + trashed}, catalog.ErrNotFound},
		"label":            {CloneRequest{Ref: "vm", Labels: map[string]string{"a b": ""}}, ErrBadRequest},
	} {
		if _, err := w.m.CreateClone(c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(w.m.Clones()) != 0 || len(must1(w.fs.List("data/sessions"))(t)) != 2 {
		t.Error("something is left of what was refused")
	}
	for _, r := range []CloneRequest{{Ref: "vm/vdb"}, {Ref: id, Disks: []string{"vdb"}}, {Ref: "vm/vdb@latest", Disks: []string{"vdb"}}} {
		st, d := w.clone(r)
		if len(st.Disks) != 1 || d.Name() != "vdb" || st.Disks[0].Branch {
			t.Errorf("%+v: %+v", r, st)
		}
		w.must(w.m.DiscardClone(st.Session))
		w.must(w.m.DiscardClone(st.Session))
		if err := w.m.Remove(trashed); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			t.Error(err)
		}
	}
	for range maxClones {
		w.clone(CloneRequest{Ref: "vm/vda"})
	}
	if _, err := w.m.CreateClone(CloneRequest{Ref: "vm"}); !errors.Is(err, ErrLimit) {
		t.Errorf("clone %d: %v", maxClones+1, err)
	}
}

// TestCloneFrees: nothing of a discarded clone takes space.
func TestCloneFrees(t *testing.T) {
	w := newWorld(t)
	w.point(64<<20, 1)
	w.collect()
	before := w.collect()
	st, d := w.clone(CloneRequest{Ref: "vm"})
	w.write(d, 0, 64<<20, 1234)
	w.must(d.Flush())
	w.must(d.Zero(0, 64<<20))
	if held := w.collect(); held.LiveSlots < before.LiveSlots+900 { // but for a pack that is open
		t.Errorf("%d blocks, %d before the clone", held.LiveSlots, before.LiveSlots)
	}
	w.must(d.Flush())
	if held := w.collect(); held.LiveSlots != before.LiveSlots {
		t.Errorf("%d blocks, %d before the clone", held.LiveSlots, before.LiveSlots)
	}
	w.write(d, 0, 64<<20, 12345)
	w.must(w.m.DiscardClone(st.Session))
	if after := w.collect(); after.LiveSlots != before.LiveSlots {
		t.Errorf("%d blocks, %d before the clone", after.LiveSlots, before.LiveSlots)
	}
	if list := must1(w.fs.List(w.m.sessionDir(st.Session)))(t); !slices.Equal(list, []string{"session.json"}) {
		t.Errorf("left: %v", list)
	}
}

// TestStaleClone: after a power cut with writes that were not flushed, a clone is
// refused until it is resumed, and then as it was when it was flushed last.
func TestStaleClone(t *testing.T) {
	w := newWorld(t)
	w.point(4<<20, 1)
	st, d := w.clone(CloneRequest{Ref: "vm"})
	w.write(d, 0, 1<<20, 2)
	w.must(d.Flush())
	want := w.content(d)
	w.write(d, 512<<10, 1<<20, 3)
	w.write(d, 77, 777, 4)
	w.powerCut(crashfs.LoseAll, 1)
	if _, err := w.m.OpenExport(st.Disks[0].Token); !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "clone resume "+st.Session) {
		t.Fatalf("a clone that lost writes: %v", err)
	}
	now := must1(w.m.Status(st.Session))(t)
	if now.State != Stale || !strings.Contains(now.Reason, "not flushed") || w.m.Stats().Clones[Stale] != 1 {
		t.Fatalf("%+v", now)
	}
	if _, err := w.m.SealClone(st.Session); !errors.Is(err, ErrStale) {
		t.Errorf("seal of a stale clone: %v", err)
	}
	w.collect()
	for range 2 { // it stays so
		w.kill()
		w.start()
		if _, err := w.m.OpenExport(st.Disks[0].Token); !errors.Is(err, ErrStale) {
			t.Fatal(err)
		}
	}
	again, err := w.m.ResumeClone(st.Session)
	w.must(err)
	if again.State != Open || again.Reason != "" || again.Disks[0].Token == st.Disks[0].Token {
		t.Fatalf("%+v", again)
	}
	d = w.export(again.Disks[0].Token)
	if !bytes.Equal(want, w.content(d)) {
		t.Fatal("it is not as it was when it was flushed")
	}
	w.write(d, 0, 4096, 5)
	fill(want[:4096], 5)
	for range 2 {
		if _, err := w.m.OpenExport(st.Disks[0].Token); !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "clone show "+st.Session) {
			t.Fatalf("the token of before: %v", err)
		}
		w.kill()
		w.start()
	}
	r, err := w.m.SealClone(st.Session)
	w.must(err)
	if !bytes.Equal(want, w.imageContent(r.Point, "vda")) {
		t.Fatal("the point is not what the clone was")
	}
}

// TestFailedSyncMakesStale: a handle of before is good for nothing when a clone
// was resumed beside it.
func TestFailedSyncMakesStale(t *testing.T) {
	for _, what := range []string{"journal", "pack"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.point(4<<20, 1)
			var reasons []string
			w.m.events.Stale = func(_, vm, reason string) { reasons = append(reasons, vm+": "+reason) }
			st, d := w.clone(CloneRequest{Ref: "vm"})
			w.write(d, 0, 1<<20, 2)
			w.must(d.Flush())
			want := w.content(d)
			w.write(d, 512<<10, 1<<20, 3)
			w.write(d, 77, 777, 4)
			if what == "journal" { // which says by then that all packs are synced
				want = w.content(d)
			}
			w.fs.Inject(&crashfs.Fault{Effect: crashfs.DropDirty, Match: func(op crashfs.Op) bool {
				return op.Kind == crashfs.Sync && strings.HasSuffix(op.Path, journalSuffix) == (what == "journal")
			}})
			if err := d.Flush(); err == nil {
				t.Fatal("a flush whose sync failed says it is done")
			}
			w.fs.Heal()
			if err := d.Flush(); !errors.Is(err, ErrStale) {
				t.Fatalf("the next one: %v", err)
			}
			if len(reasons) != 1 || must1(w.m.Status(st.Session))(t).State != Stale {
				t.Fatalf("%q", reasons)
			}
			w.collect()
			again, err := w.m.ResumeClone(st.Session)
			w.must(err)
			if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
				t.Errorf("the handle of before: %v", err)
			}
			d = w.export(again.Disks[0].Token)
			if !bytes.Equal(want, w.content(d)) {
				t.Fatal("it is not as it was when it was flushed")
			}
			w.collect()
			w.must(d.Flush())
			w.powerCut(crashfs.LoseAll, 1)
			d = w.export(again.Disks[0].Token)
			if !bytes.Equal(want, w.content(d)) {
				t.Fatal("it is not as it was when it was flushed")
			}
		})
	}
}

// TestDamagedClone: a clone whose journal is damaged is kept until somebody
// discards it, whatever happens to its session.json too.
func TestDamagedClone(t *testing.T) {
	w := newWorld(t)
	w.point(4<<20, 1)
	st, d := w.clone(CloneRequest{Ref: "vm"})
	w.write(d, 0, 1<<20, 2)
	w.write(d, 0, 1<<20, 3)
	w.must(d.Flush())
	w.stop()
	path := w.m.journalPath(st.Session, "vda")
	var sound []byte
	w.spoil(path, func(b []byte) []byte { sound = bytes.Clone(b); b[journalHeaderSize+60] ^= 1; return b })
	w.start()
	if _, err := w.m.OpenExport(st.Disks[0].Token); !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
	expired, err := w.m.Expire(w.now().AddDate(5, 0, 0))
	w.must(err)
	if len(expired) > 0 || must1(w.fs.Stat(path))(t).Size() == 0 {
		t.Fatal("a damaged clone expires")
	}
	w.stop()
	w.spoil(path, func([]byte) []byte { return sound }) // a cable, say
	w.start()
	if st := must1(w.m.Status(st.Session))(t); st.State != Stale {
		t.Errorf("%+v", st)
	}
	_, err = w.m.ResumeClone(st.Session)
	w.must(err)
	w.stop()
	w.spoil(w.m.sessionPath(st.Session), func(b []byte) []byte { b[20] ^= 1; return b })
	w.start()
	if st := must1(w.m.Status(st.Session))(t); st.State != Dead || !st.Clone {
		t.Fatalf("%+v", st)
	}
	if expired, err := w.m.Expire(w.now().AddDate(5, 0, 0)); err != nil || len(expired) > 0 {
		t.Fatal(expired, err)
	}
	w.must(w.m.DiscardClone(st.Session))
	w.stop()
	w.start()
	if st := must1(w.m.Status(st.Session))(t); st.State != Aborted {
		t.Fatalf("%+v", st)
	}
}
