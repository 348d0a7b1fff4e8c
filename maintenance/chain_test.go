package maintenance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/volume"
)

// modes are those of a VM's images, oldest first: F, I.
func (w *world) modes(vm string) (s string) {
	w.t.Helper()
	points, err := w.cat.Points(vm)
	w.must(err)
	for _, p := range points {
		s += strings.ToUpper(string(p.Images[0].Mode[:1]))
	}
	return s
}

func TestFullAfterIncrementals(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{FullAfter: 3, ChainLimit: 128}})
	w.days(volume.StartRequest{VM: "vm"}, 10)
	if got := w.modes("vm"); got != "FIIIFIIIFI" {
		t.Errorf("modes %s", got)
	}
	one := 1
	w.must(w.e.SetPolicy("vm", catalog.Policy{FullAfter: &one}))
	w.days(volume.StartRequest{VM: "vm"}, 3)
	if got := w.modes("vm"); got != "FIIIFIIIFIFIF" {
		t.Errorf("modes with the VM's own policy %s", got)
	}
	w.days(volume.StartRequest{VM: "vm", Mode: "incremental"}, 4)
	if got := w.modes("vm"); got != "FIIIFIIIFIFIFIIII" {
		t.Errorf("modes of explicit incrementals %s", got)
	}
	if n := w.e.Stats().Prune.ChainFulls; n != 4 {
		t.Errorf("%d fulls by policy", n)
	}
}

// Points that are gone count: keep rules do not put the next full off.
func TestFullAfterCountsWhatIsGone(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{FullAfter: 4}})
	p := w.days(volume.StartRequest{VM: "vm"}, 4)
	for _, gone := range []int{2, 0} {
		_, err := w.e.Delete(p[gone].ID, true)
		w.must(err)
	}
	w.days(volume.StartRequest{VM: "vm"}, 2)
	if got := w.modes("vm"); got != "IIFI" {
		t.Errorf("modes %s", got)
	}
}

// TestChainLimit: the oldest automatic point goes, made-by-hand, held and locked
// ones stay, a backup by hand is refused.
func TestChainLimit(t *testing.T) {
	var gone []string
	w := newWorld(t, Config{Settings: Settings{ChainLimit: 4, TrashKeep: time.Hour}})
	w.e.events.Trashed = func(p catalog.Point, why string) { gone = append(gone, p.ID+" "+why) }
	inc := volume.StartRequest{VM: "vm", Mode: "incremental"}
	p := w.days(volume.StartRequest{VM: "vm"}, 4)
	w.must(w.cat.Hold(p[1].ID, "evidence"))
	p = append(p, w.days(inc, 1)...)
	if len(gone) != 1 || !strings.HasPrefix(gone[0], p[0].ID) || !strings.Contains(gone[0], "chain limit 4 of disk vda") {
		t.Fatalf("gone: %v", gone)
	}
	_, _, err := w.begin(volume.StartRequest{VM: "vm", Manual: true, Mode: "incremental"}, 4*block)
	if !errors.Is(err, ErrChainLimit) || !strings.Contains(err.Error(), "made by hand") || !strings.Contains(err.Error(), "point rm") {
		t.Errorf("a backup by hand at the limit: %v", err)
	}
	w.must(w.cat.Lock(p[2].ID, w.now().AddDate(1, 0, 0)))
	p = append(p, w.days(inc, 1)...)
	if len(gone) != 2 || !strings.HasPrefix(gone[1], p[3].ID) {
		t.Fatalf("held and locked points stay: %v", gone)
	}
	// 1 held, 2 locked, 4, 5: of them 4 may go, then nothing.
	p = append(p, w.days(inc, 1)...) // 6
	w.must(w.cat.Hold(p[5].ID, "evidence"))
	_, _, err = w.begin(inc, 4*block)
	if !errors.Is(err, ErrChainLimit) || !strings.Contains(err.Error(), "none of its points") {
		t.Errorf("nothing may go: %v", err)
	}
	st, _, err := w.begin(volume.StartRequest{VM: "vm"}, 4*block)
	if err != nil || st.Disks[0].Mode != catalog.Full || !strings.Contains(st.Disks[0].Why, "chain") {
		t.Errorf("auto when nothing may go: %+v, %v", st.Disks, err)
	}
	w.must(w.vols.Abort(st.Session))
	w.must(w.cat.Release(p[5].ID))
	for _, id := range []string{p[1].ID} {
		w.must(w.cat.Release(id))
	}
	two := 2
	w.must(w.e.SetPolicy("vm", catalog.Policy{ChainLimit: &two}))
	st, _, err = w.begin(volume.StartRequest{VM: "vm"}, 4*block)
	if err != nil || st.Disks[0].Mode != catalog.Full {
		t.Errorf("the lowered limit cannot be met with a locked point: %+v, %v", st.Disks, err)
	}
	three := 3
	w.must(w.e.SetPolicy("vm", catalog.Policy{ChainLimit: &three}))
	st, _, err = w.begin(inc, 4*block)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := w.e.Chain("vm", "vda")
	w.must(err)
	if tree.Length != 2 || tree.Images[0].Point != p[2].ID {
		t.Errorf("the lowered limit took too little or too much: %+v", tree.Images)
	}
	trash, err := w.e.Trash()
	w.must(err)
	if len(trash) != 5 {
		t.Errorf("%d points in the trash", len(trash))
	}
}

func TestTree(t *testing.T) {
	points := parsePoints("a b:a d:c e:a f g:x")
	trash := parsePoints("c:b x")
	got := ""
	for _, im := range tree(points, trash, "vda") {
		got += fmt.Sprintf("%s<%s%d ", im.Point, im.Parent, im.Depth)
	}
	if want := "a<0 b<a1 d<b2 e<a1 f<0 g<0 "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(tree(points, trash, "vdb")) != 0 {
		t.Error("images of a disk that is not there")
	}
}

func TestChainShow(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{ManualWarn: 1, ChainLimit: 3}})
	p := w.days(volume.StartRequest{VM: "vm", Manual: true}, 3)
	w.days(volume.StartRequest{VM: "other"}, 1)
	im, err := w.vols.OpenImage(p[0].ID, "vda")
	w.must(err)
	defer im.Close()
	tr, err := w.e.Chain("vm", "vda")
	w.must(err)
	if len(tr.Images) != 3 || tr.Length != 3 || len(tr.Warnings) != 2 {
		t.Errorf("%+v", tr)
	}
	for i, x := range tr.Images {
		if x.Point != p[i].ID || x.Depth != i || !x.Manual || x.InUse != (i == 0) || x.Usage.Logical != 4*block || x.Damaged {
			t.Errorf("image %d: %+v", i, x)
		}
		u, err := w.cat.Usage(p[i].ID)
		if err != nil || x.Usage.UniqueStored != u.UniqueStored {
			t.Errorf("image %d: freed if deleted %d, the point's %d, %v", i, x.Usage.UniqueStored, u.UniqueStored, err)
		}
	}
	if tr.Total.UniqueStored == 0 || tr.Total.Logical != 12*block {
		t.Errorf("total %+v", tr.Total)
	}
	if _, err := w.e.Chain("vm", "vdz"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown disk: %v", err)
	}
}

func TestMerge(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.days(volume.StartRequest{VM: "vm"}, 5)
	id := func(i int) string { return p[i].ID }
	ask := func(from, into int, dry bool) (Merged, error) {
		return w.e.Merge(MergeRequest{VM: "vm", Disk: "vda", From: id(from), Into: id(into), DryRun: dry})
	}
	m, err := ask(3, 1, true)
	if err != nil || m.Direction != Commit || !slices.Equal(m.Gone, []string{id(2), id(3)}) {
		t.Errorf("dry run of a commit: %+v, %v", m, err)
	}
	m, err = ask(1, 3, true)
	if err != nil || m.Direction != Pull || !slices.Equal(m.Gone, []string{id(1), id(2)}) {
		t.Errorf("dry run of a pull: %+v, %v", m, err)
	}
	im, err := w.vols.OpenImage(id(2), "vda")
	w.must(err)
	for _, c := range [][2]int{{3, 1}, {1, 3}, {4, 2}} {
		if _, err := ask(c[0], c[1], false); !errors.Is(err, volume.ErrInUse) {
			t.Errorf("merge %v of what is read: %v", c, err)
		}
	}
	w.must(im.Close())
	top, err := w.vols.OpenImage(id(3), "vda")
	w.must(err)
	m, err = ask(1, 3, false) // the top may be read: its content stays
	if err != nil || !slices.Equal(m.Gone, []string{id(1), id(2)}) || !slices.Equal(m.Removed, m.Gone) {
		t.Errorf("pull: %+v, %v", m, err)
	}
	w.must(sameAs(top, slices.Concat(noise(block, 3), make([]byte, 3*block))))
	w.must(top.Close())
	m, err = ask(4, 0, false)
	if err != nil || m.Direction != Commit || !slices.Equal(m.Gone, []string{id(3), id(4)}) {
		t.Errorf("commit: %+v, %v", m, err)
	}
	w.must(w.sameImage(id(0), slices.Concat(noise(block, 4), make([]byte, 3*block))))
	if _, err := ask(4, 0, true); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("merge of what is gone: %v", err)
	}
	w.collect(all)
	w.must(w.sameImage(id(0), slices.Concat(noise(block, 4), make([]byte, 3*block))))
}

func TestDelete(t *testing.T) {
	w := newWorld(t, Config{Settings: Settings{TrashKeep: time.Hour}})
	p := w.days(volume.StartRequest{VM: "vm"}, 4)
	d, err := w.e.Delete("vm@"+p[3].ID, false)
	if err != nil || d.Point.ID != p[3].ID || d.Purge.Before(p[3].Time.Add(time.Hour)) {
		t.Errorf("%+v, %v", d, err)
	}
	again, err := w.e.Delete(p[3].ID, false)
	if err != nil || !again.Purge.Equal(again.Point.Purge) || again.Purge.IsZero() {
		t.Errorf("deleted again: %+v, %v", again, err)
	}
	if _, err := w.e.Delete("vm/vda", false); !errors.Is(err, ErrBadRequest) {
		t.Errorf("a disk: %v", err)
	}
	if d, err = w.e.Delete(p[3].ID, true); err != nil || !d.Purge.IsZero() {
		t.Errorf("for good: %+v, %v", d, err)
	}
	held, err := w.e.Hold("vm@latest", "evidence")
	if err != nil || held.Hold != "evidence" || held.ID != p[2].ID {
		t.Errorf("%+v, %v", held, err)
	}
	if _, err := w.e.Delete("vm@latest", true); !errors.Is(err, catalog.ErrHeld) {
		t.Errorf("held: %v", err)
	}
	if q, err := w.e.Release(p[2].ID); err != nil || q.Hold != "" {
		t.Errorf("%+v, %v", q, err)
	}
	until := w.now().Add(time.Hour)
	if _, err := w.e.Lock(p[2].ID, until); err != nil {
		t.Error(err)
	}
	if _, err := w.e.Lock(p[2].ID, until.Add(-time.Minute)); !errors.Is(err, catalog.ErrLocked) {
		t.Errorf("a lock was shortened: %v", err)
	}
	if _, err := w.e.Delete(p[2].ID, false); !errors.Is(err, catalog.ErrLocked) {
		t.Errorf("locked: %v", err)
	}
	yes := true
	w.must(w.e.SetPolicy("vm", catalog.Policy{StrictChains: &yes}))
	if _, err := w.e.Delete(p[0].ID, false); !errors.Is(err, ErrStrictChains) {
		t.Errorf("the base of a chain, with strict-chains: %v", err)
	}
	if err := w.e.SetPolicy("vm", catalog.Policy{FullAfter: new(int), ChainLimit: func() *int { n := -1; return &n }()}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("bad policy: %v", err)
	}
}
