package server

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// grown makes a data directory with a little of everything and no server.
func grown(t *testing.T) (dir string, points [4]string) {
	dir = filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	for i := range points {
		points[i] = w.backup("vm1", "vda", random(byte(i), mib)).Point
	}
	_, err := w.client.HoldPoint(t.Context(), points[0], "audit")
	_, err1 := w.client.RemovePoint(t.Context(), points[1], false)
	_, err2 := w.client.RemovePoint(t.Context(), points[2], true)
	if err := errors.Join(err, err1, err2); err != nil {
		t.Fatal(err)
	}
	w.shut()
	return dir, points
}

// wantGrown checks what grown made.
func wantGrown(t *testing.T, dir string, points [4]string) {
	t.Helper()
	w := startOn(t, dir)
	defer w.shut()
	list, err := w.client.Points(t.Context(), "vm1")
	if err != nil || len(list) != 2 || list[0].Hold != "audit" || list[1].Point != points[3] {
		t.Errorf("points %+v, %v", list, err)
	}
	trash, err := w.client.Trash(t.Context())
	if err != nil || len(trash) != 1 || trash[0].Point != points[1] {
		t.Errorf("trash %+v, %v", trash, err)
	}
	if !bytes.Equal(w.read("vm1/vda@"+points[0]), random(0, mib)) || !bytes.Equal(w.read("vm1/vda"), random(3, mib)) {
		t.Error("other content")
	}
	_, err = w.client.UndeletePoint(t.Context(), points[2])
	wantRefusal(t, err, 404, points[2])
}

func rebuildOptions(dir string) RebuildOptions { return RebuildOptions{Config: testConfig(dir)} }

func TestRebuild(t *testing.T) {
	dir, points := grown(t)
	var mu sync.Mutex
	phases := map[string]RebuildProgress{}
	o := rebuildOptions(dir)
	o.Progress = func(p RebuildProgress) { mu.Lock(); phases[p.Phase] = p; mu.Unlock() }
	r, err := Rebuild(t.Context(), o)
	if err != nil || r.VMs != 1 || r.Points != 2 || r.Trashed != 1 || r.Packs == 0 || r.DamagedPacks != 0 || r.StoreID == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, phase := range []string{"packs", "log"} {
		if p := phases[phase]; p.Total == 0 || p.Done != p.Total {
			t.Errorf("phase %s ended at %+v", phase, p)
		}
	}
	for _, name := range databases {
		if _, err := os.Stat(filepath.Join(dir, name+asideSuffix)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", name+asideSuffix)
		}
	}
	wantGrown(t, dir, points)
	for _, name := range databases { // lost altogether
		os.RemoveAll(filepath.Join(dir, name))
	}
	os.Remove(filepath.Join(dir, identityName)) // its copy is with the packs
	if _, err := Rebuild(t.Context(), rebuildOptions(dir)); err != nil {
		t.Fatal(err)
	}
	wantGrown(t, dir, points)
}

func TestRebuildRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	w.backup("vm1", "vda", random(1, mib))
	if _, err := Rebuild(t.Context(), rebuildOptions(dir)); !errors.Is(err, ErrInUse) {
		t.Errorf("beside a server: %v", err)
	}
	w.shut()
	if _, err := Rebuild(t.Context(), rebuildOptions(filepath.Join(dir, "nosuch"))); err == nil || !strings.Contains(err.Error(), "no data directory") {
		t.Errorf("no store: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "nosuch")); err == nil {
		t.Error("a directory was made")
	}
	packs := filepath.Join(dir, tierName, "packs")
	os.Rename(packs, packs+".away")
	if _, err := Rebuild(t.Context(), rebuildOptions(dir)); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("no packs: %v", err)
	}
	os.Rename(packs+".away", packs)
	startOn(t, dir).read("vm1/vda")
}

// A rebuild that fails or is interrupted leaves the old databases in place.
func TestRebuildPutsBack(t *testing.T) {
	dir, points := grown(t)
	ctx, stop := context.WithCancel(t.Context())
	o := rebuildOptions(dir)
	o.Progress = func(p RebuildProgress) {
		if p.Phase == "log" {
			stop()
		}
	}
	if _, err := Rebuild(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, name := range databases {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, name+asideSuffix)); err == nil {
			t.Errorf("%s is still there", name+asideSuffix)
		}
	}
	wantGrown(t, dir, points)
}

// A rebuild that the power went off in is begun again; so is a server.
func TestRebuildAgain(t *testing.T) {
	dir, points := grown(t)
	os.Rename(filepath.Join(dir, "catalog"), filepath.Join(dir, "catalog"+asideSuffix))
	os.Rename(filepath.Join(dir, "index"), filepath.Join(dir, "index"+asideSuffix))
	os.Mkdir(filepath.Join(dir, "index"), 0o700) // half made
	wantGrown(t, dir, points)
	if _, err := Rebuild(t.Context(), rebuildOptions(dir)); err != nil {
		t.Fatal(err)
	}
	wantGrown(t, dir, points)
}

func TestLostDatabasesAreTold(t *testing.T) {
	dir, _ := grown(t)
	for _, name := range databases {
		os.RemoveAll(filepath.Join(dir, name))
	}
	w := startOn(t, dir)
	_, text, _ := w.ask("GET", "/metrics", "", "", nil)
	for _, line := range []string{`strongroom_database_rebuilt{db="catalog"} 1`, `strongroom_database_rebuilt{db="index"} 1`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
}

// The figures per VM and disk are there some time after the start.
func TestFigures(t *testing.T) {
	w := start(t)
	p := w.backup("vm1", "vda", random(1, mib))
	w.backup("vm1", "vda", append(random(1, mib/2), random(2, mib/2)...))
	if _, err := w.client.HoldPoint(t.Context(), p.Point, "x"); err != nil {
		t.Fatal(err)
	}
	f, err := countFigures(t.Context(), w.engines.cat, time.Now())
	if err != nil || f.Held != 1 || f.LongestChain != 2 || len(f.VMs) != 1 || len(f.Disks) != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	if d := f.Disks[0]; d.Chain != 2 || d.Usage.Logical != 2*mib || d.Usage.UniqueStored < 3*mib/2 || d.Usage.SharedStored != 0 || f.Store.UniqueStored != d.Usage.UniqueStored {
		t.Errorf("%+v", f)
	}
	w.Server.figures.Store(&f)
	_, text, _ := w.ask("GET", "/metrics", "", "", nil)
	for _, line := range []string{`strongroom_disk_chain_images{disk="vda",vm="vm1"} 2`, `strongroom_points_protected{by="hold"} 1`, "strongroom_chain_longest_images 2",
		`strongroom_jobs_total{kind="gc",result="done"} `, "strongroom_gc_reclaimable_bytes", "strongroom_trash_points 0", "strongroom_scrub_oldest_age_seconds"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
}

var _ vfs.FS = &watchedFS{}
