package maintenance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/volume"
)

// letters are what becomes of points, in order: their name when they stay.
func letters(list []PrunePoint) (s string) {
	for _, p := range list {
		if p.Keep {
			s += p.Point
		} else {
			s += "."
		}
	}
	return s
}

// points reads "a b:parent c! d=weekly": ids in order of time, a day apart; with
// a parent; full (else full when there is no parent); with a label.
func parsePoints(text string) (points []catalog.Point) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for i, f := range strings.Fields(text) {
		name, label, _ := strings.Cut(f, "=")
		name, parent, _ := strings.Cut(name, ":")
		p := catalog.Point{ID: name, VM: "vm", Time: at.AddDate(0, 0, i)}
		im := catalog.Image{Disk: "vda", Mode: catalog.Full, Parent: parent}
		if parent != "" {
			im.Mode = catalog.Incremental
		}
		if label != "" {
			p.Labels = map[string]string{"kind": label}
		}
		p.Images = []catalog.Image{im}
		points = append(points, p)
	}
	return points
}

func TestPruneGroups(t *testing.T) {
	exempt := func(p *catalog.Point) string {
		if p.ID == "h" {
			return "held: test"
		}
		return ""
	}
	last := func(n int) retention.Keep { return retention.Keep{Last: n} }
	for _, c := range []struct {
		name, points string
		keep         retention.Keep
		labels       map[string]retention.Keep
		want         string
	}{
		{"no rule keeps all", "a b c", last(0), nil, "abc"},
		{"last", "a b c", last(1), nil, "..c"},
		{"an exempt point takes no place", "a h c d", last(2), nil, ".hcd"},
		{"groups have places of their own", "a b=w c d=w e", last(1), map[string]retention.Keep{"kind=w": last(1)}, "...de"},
		{"a label without a rule is the VM's", "a b=x c", last(1), map[string]retention.Keep{"kind=w": last(1)}, "..c"},
		{"a label's rule of nothing keeps its group", "a b=w c=w d", last(1), map[string]retention.Keep{"kind=w": {}}, ".bcd"},
		{"only label rules", "a b=w c=w d", last(0), map[string]retention.Keep{"kind=w": last(1)}, "a.cd"},
	} {
		set := Settings{Keep: c.keep, LabelKeep: c.labels}
		got := decide(parsePoints(c.points), &set, time.UTC, exempt)
		if letters(got) != c.want {
			t.Errorf("%s: %s, want %s", c.name, letters(got), c.want)
		}
		for _, p := range got {
			if p.Reason == "" {
				t.Errorf("%s: no reason for %s", c.name, p.Point)
			}
		}
	}
}

func TestStrictChains(t *testing.T) {
	for _, c := range []struct {
		name, points, trash, goes, want string
	}{
		{"the base of a chain stays", "a b:a c:b", "", "a", "abc"},
		{"a chain without a newer full stays", "a b:a c:b", "", "abc", "abc"},
		{"a chain goes after a newer full", "a b:a c d:c", "", "ab", "..cd"},
		{"its end may go alone", "a b:a c d:c", "", "b", "a.cd"},
		{"its base may not", "a b:a c d:c", "", "a", "abcd"},
		{"the newest full stays, and that frees the older chain", "a b:a c", "", "abc", "..c"},
		{"one of two branches", "a b:a c:a d", "", "ab", "a.cd"},
		{"through the trash", "a c:b d", "b:a", "a", "acd"},
		{"the trash does not hold", "a d", "b:a", "a", ".d"},
	} {
		points := parsePoints(c.points)
		var list []PrunePoint
		for _, p := range points {
			list = append(list, PrunePoint{Point: p.ID, Keep: !strings.Contains(c.goes, p.ID)})
		}
		applyStrict(list, points, parsePoints(c.trash))
		if letters(list) != c.want {
			t.Errorf("%s: %s, want %s", c.name, letters(list), c.want)
		}
	}
}

// days makes points of a VM, a day apart.
func (w *world) days(r volume.StartRequest, n int) (points []catalog.Point) {
	w.t.Helper()
	for i := range n {
		w.pass(24 * time.Hour)
		points = append(points, w.backup(r, 4*block, put{0, noise(block, uint64(i))}))
	}
	return points
}

func TestPrune(t *testing.T) {
	var trashed []string
	w := newWorld(t, Config{Settings: Settings{Keep: retention.Keep{Last: 2}, TrashKeep: 48 * time.Hour}})
	w.e.events.Trashed = func(p catalog.Point, why string) {
		trashed = append(trashed, p.ID)
		if !strings.HasPrefix(why, "pruned: ") {
			t.Errorf("trashed because %q", why)
		}
	}
	a := w.days(volume.StartRequest{VM: "a"}, 6)
	b := w.days(volume.StartRequest{VM: "b"}, 3)
	w.must(w.cat.Hold(a[0].ID, "evidence"))
	w.must(w.cat.Lock(a[1].ID, w.now().Add(time.Hour)))
	m := w.backup(volume.StartRequest{VM: "a", Manual: true}, 4*block)
	three := 3
	w.must(w.e.SetPolicy("b", catalog.Policy{Keep: &retention.Keep{Last: three}}))
	_, _, err := w.begin(volume.StartRequest{VM: "a", Parent: a[3].ID, Branch: true}, 4*block)
	w.must(err)

	dry, err := w.e.Prune(t.Context(), PruneRequest{DryRun: true})
	w.must(err)
	if len(trashed) != 0 || len(dry.Points) != 10 || dry.Kept != 9 || dry.Removed != 1 || len(w.e.Jobs()) != 0 {
		t.Errorf("dry run: %+v", dry)
	}
	reasons := map[string]string{
		a[0].ID: "held: evidence", a[1].ID: "locked until ", a[2].ID: "", a[3].ID: "parent of the open backup ",
		m.ID: "made by hand", b[0].ID: "keep-last",
	}
	for _, p := range dry.Points {
		if want, ok := reasons[p.Point]; ok && (p.Keep != (p.Point != a[2].ID) || !strings.Contains(p.Reason, want)) {
			t.Errorf("%s: %+v, want %q", p.Point, p, want)
		}
	}
	res, err := w.e.Prune(t.Context(), PruneRequest{})
	w.must(err)
	if fmt.Sprint(trashed) != fmt.Sprint([]string{a[2].ID}) || res.Removed != 1 {
		t.Errorf("trashed %v: %+v", trashed, res)
	}
	p, err := w.e.Undelete(a[2].ID)
	if err != nil || !p.Trashed.IsZero() {
		t.Errorf("undelete: %+v, %v", p, err)
	}
	one, err := w.e.Prune(t.Context(), PruneRequest{VM: "b", Keep: &retention.Keep{Last: 1}})
	if err != nil || one.Removed != 2 || len(one.Points) != 3 {
		t.Errorf("rules of the request: %+v, %v", one, err)
	}
	if _, err := w.e.Prune(t.Context(), PruneRequest{VM: "nobody"}); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("unknown VM: %v", err)
	}
	if _, err := w.e.Prune(t.Context(), PruneRequest{Keep: &retention.Keep{Last: -1}}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("bad rule: %v", err)
	}
	if s := w.e.Stats().Prune; s.Runs != 2 || s.Pruned != 3 || s.Undeleted != 1 {
		t.Errorf("%+v", s)
	}
	w.must(w.e.CollectDue(t.Context()))
	if s := w.e.Stats(); s.Trash.Points != 2 || s.Prune.Purged != 0 {
		t.Errorf("trash: %+v", s.Trash)
	}
	w.pass(72 * time.Hour)
	w.must(w.e.CollectDue(t.Context()))
	if s := w.e.Stats(); s.Trash.Points != 0 || s.Prune.Purged != 2 {
		t.Errorf("trash: %+v, %+v", s.Trash, s.Prune)
	}
	if _, err := w.e.Undelete(b[0].ID); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("undelete of what is gone: %v", err)
	}
}

func TestDecideToCollect(t *testing.T) {
	c := Config{}
	if err := c.fill(); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	const gib = 1 << 30
	for name, x := range map[string]struct {
		s    situation
		want Trigger // empty: none
		low  bool
	}{
		"nothing to do":                 {s: situation{reclaimable: 10 << 20, packs: 100 * gib}},
		"much became free":              {s: situation{reclaimable: 2 * gib, packs: 100 * gib}, want: OnThreshold},
		"a share of a small store":      {s: situation{reclaimable: 60 << 20, packs: gib}, want: OnThreshold},
		"what was left does not count":  {s: situation{reclaimable: 2 * gib, left: 2 * gib, packs: 100 * gib}},
		"growth counts":                 {s: situation{reclaimable: 4 * gib, left: 2 * gib, packs: 100 * gib}, want: OnThreshold},
		"a small point was deleted":     {s: situation{done: now.Add(-3 * time.Minute), forgotten: 1, reclaimable: 12 << 20, left: 10 << 20, packs: 100 * gib}, want: OnThreshold},
		"the last one was just now":     {s: situation{done: now.Add(-time.Minute), forgotten: 1, reclaimable: 12 << 20, left: 10 << 20, packs: 100 * gib}},
		"the last one took long":        {s: situation{done: now.Add(-3 * time.Minute), took: time.Minute, forgotten: 1, reclaimable: 12 << 20, left: 10 << 20, packs: 100 * gib}},
		"nothing was deleted":           {s: situation{done: now.Add(-time.Hour), reclaimable: 12 << 20, left: 10 << 20, packs: 100 * gib}},
		"an empty store":                {},
		"long ago":                      {s: situation{done: now.Add(-25 * time.Hour), packs: gib}, want: OnSchedule},
		"the engine is old":             {s: situation{began: now.Add(-25 * time.Hour), packs: gib}, want: OnSchedule},
		"the disk fills up":             {s: situation{reclaimable: 20 << 20, packs: 100 * gib, spaceFree: 5, spaceTotal: 100 * gib}, want: OnThreshold, low: true},
		"the disk is full of live data": {s: situation{done: now, reclaimable: 20 << 20, left: 20 << 20, packs: 100 * gib, spaceFree: 5, spaceTotal: 100 * gib}},
		"the last one failed just now":  {s: situation{tried: now.Add(-time.Minute), done: now.Add(-time.Hour), reclaimable: 9 * gib, packs: 9 * gib}},
		"the last one failed long ago":  {s: situation{tried: now.Add(-time.Hour), done: now.Add(-2 * time.Hour), reclaimable: 9 * gib, packs: 9 * gib}, want: OnThreshold},
	} {
		x.s.now = now
		if x.s.began.IsZero() {
			x.s.began = now.Add(-time.Hour)
		}
		o, due := c.GC.decide(&x.s)
		if due != (x.want != "") || o.Trigger != x.want || (o.FreeWanted > 0) != x.low || (o.DeadRatio > 0) != x.low {
			t.Errorf("%s: %+v, %v", name, o, due)
		}
	}
}
