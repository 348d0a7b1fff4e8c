package dedup

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// TestIndexForgetsBeforeUnlink cuts the power after every removal of a pack: no
// start misses a pack that a collection took away.
func TestIndexForgetsBeforeUnlink(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 60))
	if err := s.index.flushed(); err != nil { // so that the index knows them after a power cut
		t.Fatal(err)
	}
	var states []*crashfs.FS
	fs.Observe(func(at *crashfs.Instant) {
		if at.Op.Kind == crashfs.SyncDir && strings.Contains(at.Op.Path, "/packs/") {
			states = append(states, at.Crash(rand.New(rand.NewPCG(1, 1)), crashfs.LoseAll))
		}
	})
	collect(t, s, addrs[:1], SweepOptions{})
	removed := s.Stats().PacksRemoved
	closeTest(t, s)
	if uint64(len(states)) < removed || removed < 2 {
		t.Fatalf("%d packs removed, %d states", removed, len(states))
	}
	for i, fs := range states {
		s := openTest(t, testOptions(t, fs))
		if missing := s.DamagedPacks(); len(missing) > 0 {
			t.Errorf("after removal %d packs %v are missing", i, missing)
		}
		checkRead(t, s, addrs[:1], block(1))
		closeTest(t, s)
	}
}
