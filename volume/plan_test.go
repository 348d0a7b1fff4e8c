package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
)

func isInUse(err error) bool { return errors.Is(err, ErrInUse) }

func TestBranch(t *testing.T) {
	w := newWorld(t)
	const size = 1 << 20
	make := func(r StartRequest, seed uint64) Receipt {
		r.VM, r.Disks = "vm", oneDisk(size)
		st, d := w.begin(r)
		w.write(d, int64(seed)*65536, 65536, seed)
		w.kill() // session.json keeps what the backup is
		w.start()
		return w.commit(st.Session)
	}
	a := make(StartRequest{Checkpoint: "a", Manual: true}, 1).Point
	b := make(StartRequest{Checkpoint: "b"}, 2).Point
	if p, err := w.cat.Point(a); err != nil || !p.Manual {
		t.Errorf("a point made by hand: %v, %v", p.Manual, err)
	}
	if p, _ := w.cat.Point(b); p.Manual {
		t.Error("a point nobody made by hand says so")
	}
	if _, err := w.m.Start(StartRequest{VM: "vm", Disks: oneDisk(size), Parent: a}); !errors.Is(err, ErrMismatch) {
		t.Errorf("older parent without branch: %v, want ErrMismatch", err)
	}
	if _, err := w.m.Start(StartRequest{VM: "vm", Disks: oneDisk(size), Branch: true}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("branch without parent: %v, want ErrBadRequest", err)
	}
	if _, err := w.m.Start(StartRequest{VM: "vm", Disks: oneDisk(size), Parent: a, Branch: true, ParentCheckpoint: "b"}); !errors.Is(err, ErrMismatch) {
		t.Errorf("branch with another point's checkpoint: %v, want ErrMismatch", err)
	}
	c := make(StartRequest{Parent: a, ParentCheckpoint: "a", Branch: true}, 3)
	if im := c.Images[0]; im.Parent != a || im.Mode != catalog.Incremental {
		t.Fatalf("the branch is %s on %s, want incremental on %s", im.Mode, im.Parent, a)
	}
	want := newMemDisk(size)
	for _, seed := range []uint64{1, 3} {
		p := [65536]byte{}
		fill(p[:], seed)
		want.write(p[:], int64(seed)*65536)
	}
	im, err := w.m.OpenImage(c.Point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if err := want.equal(im); err != nil {
		t.Error(err)
	}
	st, err := w.m.Start(StartRequest{VM: "vm", Disks: []DiskSpec{{"vda", size}, {"vdb", size}}, Parent: c.Point, Branch: true})
	if err != nil || st.Disks[0].Branch || st.Disks[0].Mode != catalog.Incremental || st.Disks[1].Mode != catalog.Full {
		t.Errorf("a branch from the newest point, with a new disk: %+v, %v", st.Disks, err)
	}
	if st, err = w.m.Start(StartRequest{VM: "vm", Disks: oneDisk(size), Parent: b, Branch: true}); err != nil || !st.Disks[0].Branch {
		t.Errorf("a branch: %+v, %v", st.Disks, err)
	}
}

// TestSealedIsNoParentUnasked: the VM that is backed up may have gone on from
// another point than what was sealed last.
func TestSealedIsNoParentUnasked(t *testing.T) {
	w := newWorld(t)
	older := w.point(1<<20, 1)
	c, d := w.clone(CloneRequest{Ref: older})
	w.write(d, 0, 4096, 2)
	sealed := must1(w.m.SealClone(c.Session))(t).Point
	if p := must1(w.cat.Point(sealed))(t); !p.Sealed {
		t.Errorf("%+v", p)
	}
	disks := []DiskSpec{{"vda", 1 << 20}}
	if _, err := w.m.Start(StartRequest{VM: "vm", Disks: disks, Mode: "incremental"}); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), sealed) {
		t.Errorf("incremental: %v", err)
	}
	for _, c := range []struct {
		request StartRequest
		mode    catalog.Mode
		parent  string
	}{
		{StartRequest{}, catalog.Full, ""},
		{StartRequest{Parent: sealed}, catalog.Incremental, sealed},
		{StartRequest{Parent: older, Branch: true}, catalog.Incremental, older},
	} {
		c.request.VM, c.request.Disks = "vm", disks
		st := must1(w.m.Start(c.request))(t)
		if got := st.Disks[0]; got.Mode != c.mode || got.Parent != c.parent || (got.Why == "") != (c.parent != "") {
			t.Errorf("%+v: %+v", c.request, got)
		}
		w.must(w.m.Abort(st.Session))
	}
}

func TestPlanIsAsked(t *testing.T) {
	w := newWorld(t)
	st, _ := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20)})
	parent := w.commit(st.Session).Point
	var asked PlanQuestion
	var answer PlanDecision
	w.m.SetPlan(func(q PlanQuestion) (PlanDecision, error) { asked = q; return answer, nil })
	start := func(r StartRequest) (DiskStatus, error) {
		r.VM, r.Disks = "vm", oneDisk(1<<20)
		st, err := w.m.Start(r)
		if err != nil {
			return DiskStatus{}, err
		}
		return st.Disks[0], w.m.Abort(st.Session)
	}
	if d, err := start(StartRequest{Manual: true}); err != nil || d.Mode != catalog.Incremental {
		t.Errorf("nothing against it: %+v, %v", d, err)
	}
	if asked.VM != "vm" || asked.Disk != "vda" || asked.Parent.ID != parent || asked.Explicit || !asked.Manual {
		t.Errorf("asked %+v", asked)
	}
	answer.Full = "because"
	if d, err := start(StartRequest{}); err != nil || d.Mode != catalog.Full || d.Why != "because" || d.Parent != "" {
		t.Errorf("a full was wanted: %+v, %v", d, err)
	}
	answer = PlanDecision{Refuse: errors.New("no way")}
	if _, err := start(StartRequest{Mode: "incremental"}); err == nil || !strings.Contains(err.Error(), "no way") || !asked.Explicit {
		t.Errorf("refused: %v, explicit %v", err, asked.Explicit)
	}
	rooms := 0
	answer = PlanDecision{First: func() error { rooms++; return nil }}
	if _, err := start(StartRequest{}); !errors.Is(err, ErrLimit) || rooms != maxRoomMade {
		t.Errorf("room that never is: %v after %d times", err, rooms)
	}
	if len(w.m.InUse(parent)) != 0 {
		t.Error("a backup that did not begin uses its parent")
	}
	answer = PlanDecision{First: func() error { answer = PlanDecision{}; return w.m.Remove(parent) }}
	if d, err := start(StartRequest{}); err != nil || d.Mode != catalog.Full {
		t.Errorf("the parent went to make room: %+v, %v", d, err)
	}
}

// TestHintIsGone: a full backup compares with an image that may go meanwhile.
func TestHintIsGone(t *testing.T) {
	w := newWorld(t)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20)})
	w.write(d, 0, 1<<20, 1)
	hint := w.commit(st.Session).Point
	st, d = w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20), Mode: "full"})
	if err := w.m.Remove(hint); err != nil {
		t.Fatalf("remove what a full backup only compares with: %v", err)
	}
	if err := w.cat.Forget(hint); err != nil {
		t.Fatal(err)
	}
	if len(d.d.hint.chunks) == 0 {
		t.Fatal("the backup compares with nothing")
	}
	w.m.cache = newAddrCache(w.cat.Chunk)
	w.write(d, 0, 1<<20, 1)
	w.kill()
	w.start()
	d, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		t.Fatal(err)
	}
	w.write(d, 0, 1<<19, 2)
	w.commit(st.Session)
}
