package integration

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// TestFullAndIncremental is the main job: recipe (a), then (b) three times, each
// point compared with what the disk held when its backup began.
func TestFullAndIncremental(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "qcow2")
	want := []string{g.snapshot("0")}
	points := []string{s.full("web1", "b0", g).Point}
	for round := 1; round <= 3; round++ {
		g.edit(round, 40)
		dirty, _ := g.dirty("b0")
		want = append(want, g.snapshot(points[len(points)-1]))
		b := s.start("web1", []*guest{g}, "--mode", "incremental", "--parent", points[len(points)-1])
		s.connect(b)
		s.must(s.qsd.Transaction(s.ctx, g.copyDirty("b0")), s.qsd.Wait(s.ctx, job("vda")))
		s.disconnect(b)
		r := s.commit(b)
		i := image(s, r, "vda")
		if i.Mode != "incremental" || i.Parent != points[len(points)-1] || i.WrittenBytes+i.ZeroedBytes != dirty {
			t.Errorf("round %d: %d bytes were dirty; receipt %+v", round, dirty, i)
		}
		if i.NewBytes > i.WrittenBytes || i.StoredBytes > i.NewBytes+i.NewBytes/8 {
			t.Errorf("round %d: more new than written or more stored than new: %+v", round, i)
		}
		points = append(points, r.Point)
	}
	for i, point := range points {
		s.same("web1", "vda", point, want[i])
	}
	s.must(testdisk.Check(want[len(want)-1]))
}

// TestSecondFullStoresNothing backs the same disk up again, as another VM.
func TestSecondFullStoresNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "raw")
	first := image(s, s.full("a", "b0", g), "vda")
	second := image(s, s.full("b", "b1", g), "vda")
	if first.NewBytes == 0 || second.NewBytes != 0 || second.StoredBytes != 0 || first.Root != second.Root {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	s.same("b", "vda", "latest", g.model.Path)
}

// TestGuestWritesDuringBackup checks that a point is the disk at the instant of
// the transaction, whatever the guest does while the job runs.
func TestGuestWritesDuringBackup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "qcow2")
	want := g.snapshot("before")
	b := s.start("busy", []*guest{g})
	s.connect(b)
	slow := qsd.Backup{Job: job("vda"), Device: "vda", Target: target("vda"), Sync: "full", Speed: 64 << 20}
	s.must(s.qsd.Transaction(s.ctx, qsd.AddBitmap("vda", "b0", true), slow.Action()))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		g.write(rng.Int64N(g.size()-8192), bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(8192)))
	}
	s.must(s.qsd.SetSpeed(s.ctx, job("vda"), 0), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	s.same("busy", "vda", s.commit(b).Point, want)

	b = s.start("busy", []*guest{g}, "--mode", "incremental")
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, g.copyDirty("b0")), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	s.same("busy", "vda", s.commit(b).Point, g.model.Path)
}

// TestRotation is recipe (g): the old epoch of the bitmap is dropped only after
// our receipt.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "qcow2")
	s.full("vm", "e1", g)
	g.edit(1, 30)
	want := g.snapshot("want")
	b := s.start("vm", []*guest{g}, "--mode", "incremental", "--parent-checkpoint", "e1", "--checkpoint", "e2")
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, g.rotate("e1", "e2")...), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	g.edit(2, 50)
	r := s.commit(b)
	s.must(s.qsd.Transaction(s.ctx, qsd.RemoveBitmap("vda", "e1")))
	s.same("vm", "vda", r.Point, want)
	if i := image(s, r, "vda"); i.Checkpoint != "e2" {
		t.Errorf("checkpoint of the receipt: %+v", i)
	}
	if n, ok := g.dirty("e2"); !ok || n == 0 {
		t.Errorf("e2 has %d dirty bytes (%v) after the guest wrote", n, ok)
	}
}

// TestFailedCommitKeepsTheBitmap loses a commit after a job that succeeded. The
// bitmap is put back by recipe (g), and the next incremental is right.
func TestFailedCommitKeepsTheBitmap(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "qcow2")
	first := s.full("vm", "e1", g)
	g.edit(1, 30)
	b := s.start("vm", []*guest{g}, "--mode", "incremental")
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, g.rotate("e1", "e2")...), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	g.edit(2, 50)
	_, err := s.srv.Abort(s.ctx, b.Session)
	s.must(err)
	_, err = s.srv.Commit(s.ctx, b.Session)
	s.refused(err, b.Session)
	s.must(s.qsd.Transaction(s.ctx, g.rotateBack("e1", "e2")...))

	b = s.start("vm", []*guest{g}, "--mode", "incremental", "--parent", first.Point)
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, g.rotate("e1", "e2")...), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	s.same("vm", "vda", s.commit(b).Point, g.model.Path)
	if n := s.points("vm"); n != 2 {
		t.Errorf("%d points, want the full and the second incremental", n)
	}
}

// TestTwoDisksInOnePoint backs two disks up at one instant, then incrementally
// with grouped completion.
func TestTwoDisksInOnePoint(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	guests := []*guest{newGuest(s, "vda", "qcow2"), newGuest(s, "vdb", "raw")}
	guests[1].edit(7, 9)
	first := s.full("db", "b0", guests...)
	wantFirst := []string{guests[0].snapshot("1"), guests[1].snapshot("1")}
	guests[0].edit(1, 60)
	guests[1].edit(2, 60)
	b := s.start("db", guests)
	s.connect(b)
	s.must(s.qsd.Grouped(s.ctx, guests[0].copyDirty("b0"), guests[1].copyDirty("b0")), s.qsd.Wait(s.ctx, jobs(guests)...))
	s.disconnect(b)
	second := s.commit(b)
	for i, g := range guests {
		s.same("db", g.node, first.Point, wantFirst[i])
		s.same("db", g.node, second.Point, g.model.Path)
		if mode := image(s, second, g.node).Mode; mode != "incremental" {
			t.Errorf("%s: auto chose %s", g.node, mode)
		}
	}
}

// TestCancelledJobIsNeverPublished cancels a job that has copied everything:
// on the wire it ends as a success does.
func TestCancelledJobIsNeverPublished(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "raw")
	b := s.start("vm", []*guest{g}, "--mode", "full")
	s.connect(b)
	slow := qsd.Backup{Job: job("vda"), Device: "vda", Target: target("vda"), Sync: "full", Speed: 8 << 20}
	s.must(s.qsd.Transaction(s.ctx, qsd.AddBitmap("vda", "b0", false), slow.Action()),
		s.qsd.Progressed(s.ctx, job("vda"), 4<<20),
		s.qsd.Cancel(s.ctx, job("vda")))
	var cancelled *qsd.JobError
	if err := s.qsd.Wait(s.ctx, job("vda")); err != nil && !errors.As(err, &cancelled) {
		t.Fatal(err)
	}
	s.disconnect(b)
	s.must(s.qsd.Transaction(s.ctx, qsd.RemoveBitmap("vda", "b0")))
	if n := s.points("vm"); n != 0 {
		t.Fatalf("%d points of a backup nobody committed", n)
	}
	if st, err := s.srv.Abort(s.ctx, b.Session); err != nil || st.State != "aborted" {
		t.Fatalf("abort: %+v, %v", st, err)
	}
	if err := s.qsd.AddTarget(s.ctx, qsd.Target{Node: "again", Unix: s.srv.NBDSocket(), Export: b.Disks[0].Export}); err == nil {
		t.Error("the export of an aborted backup was opened")
	}
	s.full("vm", "b0", g)
	s.same("vm", "vda", "latest", g.model.Path)
}

// TestGrownDisk makes a disk larger between two points.
func TestGrownDisk(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "qcow2")
	first := s.full("vm", "b0", g)
	small := g.snapshot("small")
	g.grow(baseSize + 64<<20 + 512)
	g.write(baseSize+1<<20, []byte("in the new tail"))
	g.write(4096, []byte("and in the old part"))
	b := s.start("vm", []*guest{g}, "--mode", "incremental")
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, g.copyDirty("b0")), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	s.same("vm", "vda", s.commit(b).Point, g.model.Path)
	s.same("vm", "vda", first.Point, small)
}
