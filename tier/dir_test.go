package tier_test

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/tier/tiertest"
)

var store = [16]byte{1, 2, 3}

func TestConformance(t *testing.T) {
	for name, fs := range map[string]func(t *testing.T) (vfs.FS, string){
		"disk":    func(t *testing.T) (vfs.FS, string) { return vfs.Default, filepath.Join(t.TempDir(), "tier0") },
		"memory":  func(*testing.T) (vfs.FS, string) { return vfs.NewMem(), "tier0" },
		"crashfs": func(*testing.T) (vfs.FS, string) { return crashfs.New(), "/tier0" },
	} {
		t.Run(name, func(t *testing.T) {
			tiertest.Run(t, func(t *testing.T) func() tier.Store {
				fs, dir := fs(t)
				return func() tier.Store { return newTier(t, fs, dir) }
			})
		})
	}
}

func newTier(t *testing.T, fs vfs.FS, dir string) *tier.Dir {
	t.Helper()
	d, err := tier.CreateDir(fs, dir, store)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEmptyMountIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	newTier(t, fs, "tier0")
	if _, err := tier.OpenDir(fs, "tier0", store); err != nil {
		t.Fatal(err)
	}
	if _, err := tier.OpenDir(fs, "tier0", [16]byte{9}); !errors.Is(err, tier.ErrNoTier) {
		t.Errorf("another store's tier: %v", err)
	}
	if err := fs.RemoveAll("tier0"); err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("tier0/packs/0000000", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := tier.OpenDir(fs, "tier0", store); !errors.Is(err, tier.ErrNoTier) {
		t.Errorf("an empty mount: %v", err)
	}
	if _, err := tier.CreateDir(fs, "tier0", store); !errors.Is(err, tier.ErrNoTier) {
		t.Errorf("a new tier over somebody's packs: %v", err)
	}
}

// TestNamesSurvivePowerCut holds Create, SetNote and Remove to their word.
func TestNamesSurvivePowerCut(t *testing.T) {
	fs := crashfs.New()
	s := newTier(t, fs, "/data/tier0")
	kept, gone := tier.ID{Pack: 5000}, tier.ID{Pack: 5001}
	for _, id := range []tier.ID{kept, gone} {
		f, err := s.Create(id)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if err := errors.Join(s.SetNote(kept, []byte("n")), s.Remove(gone)); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(50) {
		for _, profile := range crashfs.Profiles() {
			after, err := tier.OpenDir(fs.Crash(rand.New(rand.NewPCG(seed, 0)), profile), "/data/tier0", store)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			ids, err := after.List()
			if err != nil || len(ids) != 1 || ids[0] != kept {
				t.Fatalf("seed %d: after a power cut the tier lists %v, %v", seed, ids, err)
			}
			if note, err := after.Note(kept); err != nil || string(note) != "n" {
				t.Fatalf("seed %d: note %q, %v", seed, note, err)
			}
		}
	}
}

// TestSettle makes durable what a process that died left un-synced.
func TestSettle(t *testing.T) {
	fs := crashfs.New()
	d, err := tier.CreateDir(fs, "/t", [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	id := tier.ID{Pack: 5, Gen: 1}
	f, err := d.Create(id)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := fs.Remove("/t/packs/0000000/0000000005.g1.pack"); err != nil {
		t.Fatal(err)
	}
	list := func(fs *crashfs.FS) []tier.ID {
		t.Helper()
		d, err := tier.OpenDir(fs, "/t", [16]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		ids, err := d.List()
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if ids := list(fs.Crash(nil, crashfs.LoseAll)); len(ids) != 1 {
		t.Errorf("packs %v after a power cut: the test shows nothing", ids)
	}
	if err := d.Settle(); err != nil {
		t.Fatal(err)
	}
	if ids := list(fs.Crash(nil, crashfs.LoseAll)); len(ids) != 0 {
		t.Errorf("packs %v came back after Settle", ids)
	}
}
