package crashfs

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// outcomes takes many random power cuts of fs and counts what describe says of
// each.
func outcomes(t *testing.T, fs *FS, describe func(*FS) string) map[string]int {
	t.Helper()
	rng, seen := seeded(t), map[string]int{}
	for range 700 {
		seen[describe(fs.Crash(rng, Random))]++
	}
	return seen
}

// wantOutcomes checks that exactly these outcomes happen.
func wantOutcomes(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(got))
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		t.Errorf("power cuts leave\n\t%q, want\n\t%q", keys, want)
	}
}

func names(t *testing.T, files ...string) func(*FS) string {
	return func(fs *FS) string {
		var out []string
		for _, f := range files {
			out = append(out, text(t, fs, f))
		}
		return strings.Join(out, " ")
	}
}

func TestSyncedDataWithoutDirectorySyncMayHaveNoName(t *testing.T) {
	fs := New()
	must(t, create(t, fs, "a", "1").Sync())
	wantOutcomes(t, outcomes(t, fs, names(t, "a")), "<none>", "1")
}

func TestUnsyncedRemovalMayComeBack(t *testing.T) {
	fs := New()
	durable(t, fs, "a", "1")
	must(t, fs.Remove("a"))
	wantOutcomes(t, outcomes(t, fs, names(t, "a")), "<none>", "1")
	syncDir(t, fs, "/")
	wantOutcomes(t, outcomes(t, fs, names(t, "a")), "<none>")
}

func TestRenameInsideOneDirectoryIsAtomic(t *testing.T) {
	fs := New()
	durable(t, fs, "a", "new")
	durable(t, fs, "b", "old")
	must(t, fs.Rename("a", "b"))
	wantOutcomes(t, outcomes(t, fs, names(t, "a", "b")), "new old", "<none> new")
}

func TestRenameAcrossDirectories(t *testing.T) {
	fs := New()
	must(t, fs.MkdirAll("x", 0))
	must(t, fs.MkdirAll("y", 0))
	durable(t, fs, "x/a", "1")
	syncDir(t, fs, "y")
	syncDir(t, fs, "/")
	must(t, fs.Rename("x/a", "y/a"))
	both := names(t, "x/a", "y/a")
	wantOutcomes(t, outcomes(t, fs, both), "1 <none>", "1 1", "<none> 1")

	onlyOld := fs.Kill()
	syncDir(t, onlyOld, "x")
	wantOutcomes(t, outcomes(t, onlyOld, both), "<none> <none>", "<none> 1")

	syncDir(t, fs, "y")
	wantOutcomes(t, outcomes(t, fs, both), "1 1", "<none> 1")
	syncDir(t, fs, "x")
	wantOutcomes(t, outcomes(t, fs, both), "<none> 1")
}

func TestRenameOfUnsyncedFileMayShowAnythingOfIt(t *testing.T) {
	fs := New()
	durable(t, fs, "f", "old")
	create(t, fs, "tmp", "new")
	must(t, fs.Rename("tmp", "f"))
	seen := outcomes(t, fs, names(t, "f"))
	for _, want := range []string{"old", "", "new", "\x00\x00\x00"} {
		if seen[want] == 0 {
			t.Errorf("content %q never seen", want)
		}
	}
}

func TestRemovalAfterAdditionInOneDirectory(t *testing.T) {
	fs := New()
	durable(t, fs, "old", "1")
	f := create(t, fs, "new", "2")
	must(t, f.Sync())
	must(t, fs.Remove("old"))
	both := names(t, "old", "new")
	wantOutcomes(t, outcomes(t, fs, both), "1 <none>", "1 2", "<none> 2")

	wantOutcomes(t, paranoidOutcomes(t, fs, both), "1 <none>", "1 2", "<none> 2", "<none> <none>")
}

// paranoidOutcomes is outcomes without the order of a journal.
func paranoidOutcomes(t *testing.T, fs *FS, describe func(*FS) string) map[string]int {
	p := Random
	p.Paranoid = Under("/")
	rng, seen := seeded(t), map[string]int{}
	for range 1000 {
		seen[describe(fs.Crash(rng, p))]++
	}
	return seen
}

func TestAdditionsKeepTheirOrder(t *testing.T) {
	fs := New()
	must(t, create(t, fs, "a", "1").Sync())
	must(t, create(t, fs, "b", "2").Sync())
	both := names(t, "a", "b")
	wantOutcomes(t, outcomes(t, fs, both), "<none> <none>", "1 <none>", "1 2")
	wantOutcomes(t, paranoidOutcomes(t, fs, both), "<none> <none>", "1 <none>", "1 2", "<none> 2")
}

func TestProfiles(t *testing.T) {
	fs := New()
	durable(t, fs, "f", "old")
	f, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.WriteAt([]byte("new, longer"), 0)
	must(t, err)
	create(t, fs, "g", "g")
	for p, want := range map[*Profile]string{
		&LoseAll: "old <none>", &KeepAll: "new, longer g", &NamesOnly: "old ", &DataOnly: "new, longer <none>",
		&ZeroTails: "old" + strings.Repeat("\x00", 8) + " \x00",
	} {
		if got := names(t, "f", "g")(fs.Crash(rand.New(rand.NewPCG(1, 1)), *p)); got != want {
			t.Errorf("%s: %q, want %q", p.Name, got, want)
		}
	}
}

func TestKillKeepsWritesAndForgetsLocks(t *testing.T) {
	fs := New()
	create(t, fs, "a", "1")
	_, err := fs.Lock("LOCK")
	must(t, err)
	if _, err := fs.Lock("LOCK"); err == nil {
		t.Fatal("a lock was given twice")
	}
	next := fs.Kill()
	if got := text(t, next, "a"); got != "1" {
		t.Errorf("after the kill a holds %q", got)
	}
	_, err = next.Lock("LOCK")
	must(t, err)
	if got := text(t, next.Crash(nil, LoseAll), "a"); got != "<none>" {
		t.Errorf("a power cut after the kill leaves %q: the kill made the write durable", got)
	}
}

func TestKillDuringWrite(t *testing.T) {
	fs, rng, seen := New(), seeded(t), map[int]int{}
	durable(t, fs, "f", "old")
	f, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	must(t, err)
	fs.Observe(func(at *Instant) {
		for range 100 {
			clone := at.KillDuring(rng)
			got := text(t, clone, "f")
			if want := "old" + strings.Repeat("x", len(got)-3); got != want {
				t.Fatalf("the file holds %.20q…", got)
			}
			seen[len(got)-3]++
			if u, _ := clone.GetDiskUsage("/"); u.UsedBytes != uint64(len(got)+pageSize-1)/pageSize*pageSize {
				t.Fatalf("%d bytes take %d", len(got), u.UsedBytes)
			}
		}
	})
	_, err = f.WriteAt([]byte(strings.Repeat("x", 3*pageSize)), 3)
	must(t, err)
	if keys := slices.Sorted(maps.Keys(seen)); !slices.Equal(keys, []int{0, pageSize - 3, 2*pageSize - 3, 3*pageSize - 3, 3 * pageSize}) {
		t.Errorf("lengths %v were written", keys)
	}
}

func TestClonesAreIndependent(t *testing.T) {
	rng := seeded(t)
	for name, clone := range map[string]func(*FS) *FS{
		"kill":   (*FS).Kill,
		"keep":   func(fs *FS) *FS { return fs.Crash(rng, KeepAll) },
		"random": func(fs *FS) *FS { return fs.Crash(rng, Random) },
	} {
		for range 20 {
			t.Run(name, func(t *testing.T) { independent(t, clone) })
		}
	}
}

func independent(t *testing.T, clone func(*FS) *FS) {
	fs := New()
	f := create(t, fs, "a", strings.Repeat("x", 3*pageSize))
	must(t, f.Sync())
	syncDir(t, fs, "/")
	_, err := f.(*file).WriteAt([]byte(strings.Repeat("w", pageSize)), pageSize)
	must(t, err)
	before := clone(fs)
	_, err = f.(*file).WriteAt([]byte("y"), pageSize)
	must(t, err)
	if strings.Contains(text(t, before, "a"), "y") {
		t.Error("a later write is seen in an earlier clone")
	}
	g, err := before.OpenReadWrite("a", vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = g.WriteAt([]byte("z"), 0)
	must(t, err)
	if strings.Contains(text(t, fs, "a"), "z") {
		t.Error("a write to a clone is seen in its origin")
	}
}

// TestPowerCutsAreLegal checks random histories of one file against a second
// model: per sector every version since the last sync, and the sizes between.
func TestPowerCutsAreLegal(t *testing.T) {
	rng := seeded(t)
	for round := range 80 * soak(t) {
		h := newHistory(t)
		for range 1 + rng.IntN(40) {
			h.step(rng)
		}
		for range 10 {
			for _, p := range Profiles() {
				if err := h.legal(h.fs.Crash(rng, p)); err != nil {
					t.Fatalf("round %d, %s: %v", round, p.Name, err)
				}
			}
		}
	}
}

type history struct {
	t        *testing.T
	fs       *FS
	f        vfs.File
	versions [][]byte // whole-file versions since the last sync, oldest first
}

func newHistory(t *testing.T) *history {
	h := &history{t: t, fs: New(), versions: [][]byte{nil}}
	durable(t, h.fs, "f", "")
	var err error
	h.f, err = h.fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	must(t, err)
	return h
}

func (h *history) step(rng *rand.Rand) {
	cur := h.versions[len(h.versions)-1]
	switch rng.IntN(8) {
	case 0:
		must(h.t, h.f.Sync())
		h.versions = [][]byte{cur}
		return
	case 1: // what a killed process wrote is as un-synced as before
		h.fs = h.fs.Kill()
		var err error
		h.f, err = h.fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
		must(h.t, err)
		return
	}
	data := make([]byte, 1+rng.IntN(2500))
	for i := range data {
		data[i] = byte(1 + rng.IntN(255))
	}
	off := int64(len(cur))
	if rng.IntN(2) == 0 {
		off = rng.Int64N(9000)
	}
	_, err := h.f.WriteAt(data, off)
	must(h.t, err)
	next := make([]byte, max(len(cur), int(off)+len(data)))
	copy(next, cur)
	copy(next[off:], data)
	h.versions = append(h.versions, next)
}

func (h *history) legal(fs *FS) error {
	got := []byte(text(h.t, fs, "f"))
	first, last := h.versions[0], h.versions[len(h.versions)-1]
	if len(got) < len(first) || len(got) > len(last) {
		return fmt.Errorf("size %d is not within %d and %d", len(got), len(first), len(last))
	}
	for at := 0; at < len(got); at += SectorSize {
		sector := got[at:min(at+SectorSize, len(got))]
		if !slices.ContainsFunc(h.versions, func(v []byte) bool { return sameSector(v, at, sector) }) {
			return fmt.Errorf("the sector at %d holds what was never there", at)
		}
	}
	return nil
}

// sameSector compares with zeros beyond the end of v.
func sameSector(v []byte, at int, sector []byte) bool {
	want := make([]byte, len(sector))
	if at < len(v) {
		copy(want, v[at:])
	}
	return bytes.Equal(want, sector)
}

func TestEverySectorVersionHappens(t *testing.T) {
	fs := New()
	durable(t, fs, "f", strings.Repeat("0", SectorSize))
	f, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	must(t, err)
	for _, v := range []string{"1", "2"} {
		_, err := f.WriteAt([]byte(strings.Repeat(v, 2*SectorSize)), 0)
		must(t, err)
	}
	seen := outcomes(t, fs, func(fs *FS) string {
		b := text(t, fs, "f")
		if len(b) < 2*SectorSize {
			return "short"
		}
		return b[:1] + b[SectorSize:SectorSize+1]
	})
	wantOutcomes(t, seen, "short", "0\x00", "01", "02", "1\x00", "11", "12", "2\x00", "21", "22")
}
