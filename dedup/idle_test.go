package dedup

import (
	"context"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// TestIdlePacksAreCollected when they are a good part of the store, and left
// open for the next writer when they are not.
func TestIdlePacksAreCollected(t *testing.T) {
	s := openTest(t, testOptions(t, crashfs.New()))
	defer closeTest(t, s)
	few := storeIdle(t, s, 1)
	c, err := s.BeginCollection()
	must(t, err)
	if n := c.Tally().Slots; n != 1 {
		t.Errorf("%d blocks of a small store were looked at, want its only one", n)
	}
	_, err = c.Sweep(context.Background(), SweepOptions{})
	c.Close()
	if must(t, err); s.Have(few) == nil {
		t.Error("the block nobody wants is still there")
	}
	var many []uint64
	for i := range uint64(400) {
		many = append(many, 1000+i)
	}
	kept := storeSealed(t, s, many)
	storeIdle(t, s, 2)
	c, err = s.BeginCollection()
	must(t, err)
	defer c.Close()
	if n := c.Tally().Slots; n != int64(len(kept)) {
		t.Errorf("%d blocks were looked at, want the %d of full packs only", n, len(kept))
	}
}

// storeIdle stores a block in a pack that stays open and that nobody writes to.
func storeIdle(t *testing.T, s *Store, seed uint64) []Addr {
	t.Helper()
	w := s.NewWriter()
	defer w.Close()
	a, _ := mustPut(t, w, block(seed), nil)
	mustSync(t, w)
	return a
}

// TestPackVersion changes when what a block takes may have.
func TestPackVersion(t *testing.T) {
	s := openTest(t, testOptions(t, crashfs.New()))
	defer closeTest(t, s)
	addrs := storeSealed(t, s, []uint64{1, 2, 3, 4, 5, 6, 7, 8})
	pack := addrs[0].Pack()
	one, all := s.PackVersion(pack), s.PackVersion(0)
	if one == 0 || s.PackVersion(pack+1) == one {
		t.Errorf("versions %d and %d", one, s.PackVersion(pack+1))
	}
	collect(t, s, addrs[:1], SweepOptions{})
	if s.PackVersion(pack) == one || s.PackVersion(0) == all {
		t.Error("a compaction went unnoticed")
	}
}
