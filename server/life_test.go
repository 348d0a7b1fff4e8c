package server

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

// A point through its life over the API.
func TestTrashHoldLock(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.Trash.Keep = units.Duration(time.Hour) })
	ctx := t.Context()
	a, b := w.backup("vm1", "vda", random(1, mib)), w.backup("vm1", "vda", random(2, mib))

	r, err := w.client.RemovePoint(ctx, a.Point, false)
	if err != nil || r.VM != "vm1" || time.Until(r.Purge) < 59*time.Minute {
		t.Fatalf("%+v, %v", r, err)
	}
	p, err := w.client.Point(ctx, a.Point)
	if err != nil || p.Trashed.IsZero() || !p.Purge.Equal(r.Purge) {
		t.Errorf("the point in the trash: %+v, %v", p, err)
	}
	if list, err := w.client.Trash(ctx); err != nil || len(list) != 1 || list[0].Point != a.Point {
		t.Errorf("trash %+v, %v", list, err)
	}
	if _, err := w.dial("vm1/vda@" + a.Point); err == nil {
		t.Error("a point in the trash is served")
	}
	if p, err := w.client.UndeletePoint(ctx, a.Point); err != nil || !p.Trashed.IsZero() || !bytes.Equal(w.read("vm1/vda@"+a.Point), random(1, mib)) {
		t.Errorf("undelete: %+v, %v", p, err)
	}

	if p, err := w.client.HoldPoint(ctx, "vm1@latest", "why not"); err != nil || p.Point != b.Point || p.Hold != "why not" {
		t.Errorf("hold: %+v, %v", p, err)
	}
	_, err = w.client.RemovePoint(ctx, b.Point, true)
	wantRefusal(t, err, 409, "why not")
	if p, err := w.client.ReleasePoint(ctx, b.Point); err != nil || p.Hold != "" {
		t.Errorf("release: %+v, %v", p, err)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	if p, err := w.client.LockPoint(ctx, b.Point, until); err != nil || !p.LockedUntil.Equal(until) {
		t.Errorf("lock: %+v, %v", p, err)
	}
	_, err = w.client.LockPoint(ctx, b.Point, until.Add(-time.Minute))
	wantRefusal(t, err, 409, "locked")
	_, err = w.client.RemovePoint(ctx, b.Point, true)
	wantRefusal(t, err, 409, "locked")

	w.shut()
	if l := w.log.String(); !strings.Contains(l, "point deleted") || !strings.Contains(l, "point held") || !strings.Contains(l, "why not") {
		t.Errorf("the log:\n%s", l)
	}
}

// Nonsense is refused with what is wrong, and changes nothing.
func TestBadRequestsOfLife(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.API.TokenFile = tokenFile(t) })
	p := w.backup("vm1", "vda", random(1, mib))
	vm, point := "/api/v1/vms/vm1", "/api/v1/points/"+p.Point
	for _, x := range []struct {
		method, path, body string
		status             int
		word               string
	}{
		{"DELETE", "/api/v1/points/vm1@latest", "", 400, "not the id"},
		{"DELETE", point + "?now=maybe", "", 400, "now"},
		{"POST", "/api/v1/points/vm1@latest/undelete", "", 400, "not the id"},
		{"POST", "/api/v1/points/0123456789abcdef/undelete", "", 404, ""},
		{"POST", point + "/hold", `{}`, 400, "reason"},
		{"POST", point + "/hold", `{"reason":"` + strings.Repeat("x", 501) + `"}`, 400, "reason"},
		{"POST", point + "/hold", `{"until":"x"}`, 400, "until"},
		{"POST", "/api/v1/points/vm2/hold", `{"reason":"x"}`, 404, "vm2"},
		{"POST", point + "/lock", `{}`, 400, "until"},
		{"POST", point + "/lock", `{"until":"tomorrow"}`, 400, ""},
		{"PUT", vm + "/policy", `{"chain_limit":-1}`, 400, "chain_limit"},
		{"PUT", vm + "/policy", `{"full_after":1000001}`, 400, "full_after"},
		{"PUT", vm + "/policy", `{"trash_seconds":-1}`, 400, "trash_seconds"},
		{"PUT", vm + "/policy", `{"keep":{"daily":-1}}`, 400, "daily"},
		{"PUT", vm + "/policy", `{"keep":{"fortnightly":1}}`, 400, "fortnightly"},
		{"PUT", vm + "/policy", `{"label_keep":{"tier":{}}}`, 400, "label"},
		{"PUT", vm + "/policy", `{"label_keep":{"tier=gold":{"last":1e9}}}`, 400, ""},
		{"PUT", "/api/v1/vms/-x/policy", `{}`, 400, "-x"},
		{"GET", "/api/v1/vms/..%2fx/policy", "", 400, "name"},
		{"GET", vm + "/disks/vdb/chain", "", 404, "vdb"},
		{"GET", "/api/v1/vms/vm2/disks/vda/chain", "", 404, "vm2"},
		{"POST", vm + "/disks/vda/merge", `{"from":"x","into":"y"}`, 404, ""},
		{"POST", vm + "/disks/vda/merge", `{"from":"` + p.Point + `","into":"` + p.Point + `"}`, 400, ""},
		{"POST", "/api/v1/prune", `{"keep":{}}`, 400, "rule"},
		{"POST", "/api/v1/prune", `{"keep":{"last":-1}}`, 400, "last"},
		{"POST", "/api/v1/prune/plan", `{"vm":"vm2"}`, 404, "vm2"},
		{"POST", "/api/v1/gc", `{"dead_ratio":2}`, 400, "dead_ratio"},
		{"POST", "/api/v1/gc", `{"dead_ratio":-1}`, 400, "dead_ratio"},
		{"POST", "/api/v1/verify", `{"older_than_seconds":-1}`, 400, "older_than"},
		{"POST", "/api/v1/verify", `{"ref":"vm2"}`, 404, "vm2"},
		{"POST", "/api/v1/verify", `{"ref":"@@"}`, 400, ""},
		{"GET", "/api/v1/usage?ref=vm2", "", 404, "vm2"},
		{"GET", "/api/v1/usage?ref=vm1/vdb", "", 404, "vdb"},
		{"GET", "/api/v1/usage?ref=@@", "", 400, ""},
		{"GET", "/api/v1/jobs/nosuch", "", 404, "nosuch"},
		{"GET", "/api/v1/jobs/nosuch?wait=61", "", 400, "wait"},
		{"GET", "/api/v1/jobs/nosuch?wait=x", "", 400, "wait"},
		{"DELETE", "/api/v1/jobs/nosuch", "", 404, "nosuch"},
	} {
		t.Run(x.method+x.path+x.body, func(t *testing.T) {
			var status int
			var answer string
			if x.body == "" {
				status, answer, _ = w.ask(x.method, x.path, goodToken, "", nil)
			} else {
				status, answer, _ = w.ask(x.method, x.path, goodToken, "", strings.NewReader(x.body))
			}
			if status != x.status || !strings.Contains(answer, x.word) {
				t.Errorf("status %d, want %d with %q\n%s", status, x.status, x.word, answer)
			}
		})
	}
	if got, err := w.client.Point(t.Context(), p.Point); err != nil || got.Hold != "" || !got.LockedUntil.IsZero() || !got.Trashed.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if pol, err := w.client.Policy(t.Context(), "vm1"); err != nil || pol.Own.Keep != nil || pol.Own.ChainLimit != nil || pol.Own.LabelKeep != nil {
		t.Errorf("%+v, %v", pol, err)
	}
}

// A policy survives a restart and goes with {}.
func TestPolicies(t *testing.T) {
	w := start(t)
	ctx, limit, strict, trash := t.Context(), 32, true, int64(60)
	q := api.Policy{Keep: &api.Keep{Last: 3, Yearly: 1}, ChainLimit: &limit, StrictChains: &strict, TrashSeconds: &trash,
		LabelKeep: map[string]api.Keep{"tier=gold": {Daily: 30}}}
	set, err := w.client.SetPolicy(ctx, "vm1", q)
	if err != nil || *set.Effective.ChainLimit != 32 || *set.Effective.FullAfter != 63 || set.Effective.Keep.Yearly != 1 || set.Own.FullAfter != nil {
		t.Fatalf("%+v, %v", set, err)
	}
	w.shut()
	w = startOn(t, w.config.Data)
	got, err := w.client.Policy(ctx, "vm1")
	if err != nil || *got.Own.TrashSeconds != 60 || !*got.Own.StrictChains || got.Own.LabelKeep["tier=gold"].Daily != 30 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := w.client.SetPolicy(ctx, "vm1", api.Policy{}); err != nil || got.Own.Keep != nil || *got.Effective.TrashSeconds != 86400 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestUsageAndChain(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	a := w.backup("vm1", "vda", random(1, mib))
	both := append(random(1, mib/2), random(2, mib/2)...)
	b := w.backup("vm1", "vda", both)
	c, err := w.client.Chain(ctx, "vm1", "vda")
	if err != nil || len(c.Images) != 2 || c.Length != 2 || c.Limit != 128 {
		t.Fatalf("%+v, %v", c, err)
	}
	first, second := c.Images[0], c.Images[1]
	if first.Point != a.Point || second.Parent != a.Point || second.Point != b.Point || first.Usage.UniqueBytes != mib/2 || second.Usage.SharedBytes != mib/2 {
		t.Errorf("%+v", c)
	}
	for ref, want := range map[string]struct {
		kind           string
		points         int
		unique, shared int64
	}{
		"":                    {"store", 2, 3 * mib / 2, 0},
		"vm1":                 {"vm", 2, 3 * mib / 2, 0},
		"vm1/vda":             {"disk", 2, 3 * mib / 2, 0},
		"vm1@latest":          {"point", 1, mib / 2, mib / 2},
		"vm1/vda@" + b.Point:  {"image", 1, mib / 2, mib / 2},
		a.Point:               {"point", 1, mib / 2, mib / 2},
		"vm1:vda@latest~1":    {"image", 1, mib / 2, mib / 2},
		"vm1@" + a.Point[:12]: {"point", 1, mib / 2, mib / 2},
	} {
		u, err := w.client.Usage(ctx, ref)
		if err != nil || u.Kind != want.kind || u.Points != want.points || u.Usage.UniqueBytes != want.unique || u.Usage.SharedBytes != want.shared {
			t.Errorf("usage of %q: %+v, %v; want %+v", ref, u, err, want)
		}
	}
}
