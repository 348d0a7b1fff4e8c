package crashfs

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestFailedSyncDropsDirtyData(t *testing.T) {
	fs := New()
	trace := Record(fs)
	durable(t, fs, "f", "old")
	f, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.WriteAt([]byte("new"), 0)
	must(t, err)
	fs.Inject(&Fault{Match: Is(Sync), Effect: DropDirty})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the sync gave %v", err)
	}
	must(t, f.Sync())
	if got := text(t, fs, "f"); got != "new" {
		t.Errorf("the page cache shows %q", got)
	}
	for _, p := range Profiles() {
		if got := text(t, fs.Crash(seeded(t), p), "f"); got != "old" {
			t.Errorf("%s: the disk has %q after a sync that succeeded too late", p.Name, got)
		}
	}
	_, err = f.WriteAt([]byte("x"), 2*SectorSize)
	must(t, err)
	must(t, f.Sync())
	if got := text(t, fs.Kill().Crash(nil, LoseAll), "f"); got != "old"+strings.Repeat("\x00", 2*SectorSize-3)+"x" {
		t.Errorf("later synced data is not there, or dropped data is: %q", got)
	}
	if err := CheckFailedSyncs(trace.Ops(), nil); err == nil || strings.Count(err.Error(), "after the failed sync") != 3 {
		t.Errorf("the trace checker says %v, want two syncs and a write", err)
	}
}

func TestFailedDirectorySyncLosesNoNames(t *testing.T) {
	fs := New()
	must(t, create(t, fs, "a", "1").Sync())
	fs.Inject(&Fault{Match: Is(SyncDir), Effect: DropDirty})
	d, err := fs.OpenDir("/")
	must(t, err)
	if d.Sync() == nil {
		t.Fatal("the sync did not fail")
	}
	wantOutcomes(t, outcomes(t, fs, names(t, "a")), "<none>", "1")
	must(t, d.Sync())
	wantOutcomes(t, outcomes(t, fs, names(t, "a")), "1")
}

func TestFaultTiming(t *testing.T) {
	fs := New()
	f := create(t, fs, "f", "")
	for _, c := range []struct {
		fault Fault
		n     int
		want  string
	}{
		{Fault{Effect: Before}, 0, ""},
		{Fault{Effect: Short, Err: syscall.ENOSPC}, 2, "ab"},
		{Fault{Effect: After}, 0, "ababcd"},
	} {
		fault := c.fault
		fault.Match = Is(Write)
		fs.Inject(&fault)
		n, err := f.Write([]byte("abcd"))
		if n != c.n || err == nil || c.fault.Err != nil && !errors.Is(err, c.fault.Err) {
			t.Errorf("%v: wrote %d, %v", c.fault.Effect, n, err)
		}
		if got := text(t, fs, "f"); got != c.want {
			t.Errorf("%v: file holds %q, want %q", c.fault.Effect, got, c.want)
		}
		if fs.Fired(&fault) != 1 {
			t.Errorf("%v: fired %d times", c.fault.Effect, fs.Fired(&fault))
		}
	}
}

func TestSkipAndSticky(t *testing.T) {
	fs := New()
	fs.Inject(&Fault{Match: Is(Create), Skip: 1, Sticky: true})
	for i, want := range []bool{true, false, false} {
		if _, err := fs.Create("f", ""); (err == nil) != want {
			t.Errorf("create %d: %v", i, err)
		}
		if i == 0 {
			must(t, fs.Remove("f"))
		}
	}
	fs.Heal()
	_, err := fs.Create("f", "")
	must(t, err)
}

func TestReadFault(t *testing.T) {
	fs := New()
	durable(t, fs, "f", "abc")
	fs.Inject(&Fault{Match: Is(Read), Skip: 1})
	f, err := fs.Open("f")
	must(t, err)
	_, err = f.ReadAt(make([]byte, 3), 0)
	must(t, err)
	if _, err = f.ReadAt(make([]byte, 3), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("the second read gave %v", err)
	}
}

func TestSmallDisk(t *testing.T) {
	fs := New()
	fs.SetCapacity(3 * pageSize)
	f := create(t, fs, "a", "x")
	g := create(t, fs, "b", "y")
	n, err := g.Write(make([]byte, 3*pageSize))
	if !errors.Is(err, syscall.ENOSPC) || n != 2*pageSize-1 {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if u, _ := fs.GetDiskUsage("/"); u.AvailBytes != 0 || u.UsedBytes != 3*pageSize {
		t.Errorf("usage %+v", u)
	}
	_, err = f.Write([]byte("in the page it has"))
	must(t, err)
	must(t, fs.Remove("b"))
	if u, _ := fs.GetDiskUsage("/"); u.AvailBytes != 0 {
		t.Error("an open file's space was given back")
	}
	must(t, g.Close())
	for _, fs := range []*FS{fs, fs.Kill(), fs.Crash(nil, KeepAll)} {
		if u, _ := fs.GetDiskUsage("/"); u.AvailBytes != 2*pageSize {
			t.Errorf("usage %+v", u)
		}
	}
}
