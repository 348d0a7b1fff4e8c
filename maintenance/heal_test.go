package maintenance

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// rot flips a byte in the middle of a pack's file.
func (w *world) rot(pack uint64) {
	w.t.Helper()
	names, err := w.fs.List("data/tier0/packs")
	w.must(err)
	var path string
	for _, dir := range names {
		files, err := w.fs.List("data/tier0/packs/" + dir)
		if err != nil {
			files, dir = []string{dir}, "."
		}
		for _, f := range files {
			if id, ok := packOf(f); ok && id == pack {
				path = w.fs.PathJoin("data/tier0/packs", dir, f)
			}
		}
	}
	if path == "" {
		w.t.Fatalf("no file of pack %d in %v", pack, names)
	}
	f, err := w.fs.OpenReadWrite(path, "test")
	w.must(err)
	at := int64(100_000)
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b, at)
	w.must(err)
	w.must(f.Close())
}

// packOf reads the number in a pack file's name.
func packOf(name string) (n uint64, ok bool) {
	hex, _, _ := strings.Cut(name, ".")
	hex, _, _ = strings.Cut(hex, "-")
	for _, c := range hex {
		i := strings.IndexRune("0123456789abcdef", c)
		if i < 0 {
			return 0, false
		}
		n = n<<4 | uint64(i)
	}
	return n, hex != ""
}

// TestDamageIsFoundAndHealed: a scrub finds a rotten block, the points that need
// it are listed, no backup inherits it silently, and the next one brings it back.
func TestDamageIsFoundAndHealed(t *testing.T) {
	w := newWorld(t, Config{})
	var told [][]AffectedImage
	w.events.Affected = func(list []AffectedImage) { told = append(told, list) }
	const size = 12 << 20
	data := noise(size, 1)
	first := w.backup(volume.StartRequest{VM: "vm"}, size, put{0, data})
	second := w.backup(volume.StartRequest{VM: "vm"}, size, put{0, noise(block, 2)})
	other := w.backup(volume.StartRequest{VM: "other"}, size, put{0, noise(size, 3)})
	want := slices.Clone(data)
	copy(want, noise(block, 2))
	w.reopen()
	if res, err := w.e.Verify(t.Context(), VerifyRequest{}); err != nil || res.DamagedBlocks != 0 || res.Packs == 0 || len(res.Affected) != 0 {
		t.Fatalf("all is well: %+v, %v", res, err)
	}
	list, err := w.cat.ChunkList(first.ID, "vda")
	w.must(err)
	c, err := w.cat.Chunk(list[0])
	w.must(err)
	bad := c.Runs[len(c.Runs)/2].Addr.Pack()
	w.rot(bad)
	w.reopen()

	res, err := w.e.Verify(t.Context(), VerifyRequest{Ref: "vm", OlderThan: time.Hour})
	if err != nil || res.Packs != 0 && res.DamagedBlocks != 0 || res.Skipped == 0 {
		t.Errorf("all was verified just now: %+v, %v", res, err)
	}
	res, err = w.e.Verify(t.Context(), VerifyRequest{Ref: "vm"})
	w.must(err)
	if res.DamagedBlocks == 0 || res.Repaired != 0 || len(res.Affected) != 2 || len(told) != 1 {
		t.Fatalf("damage: %+v, told %v", res, told)
	}
	for i, p := range []catalog.Point{first, second} {
		if a := w.e.Affected()[i]; a.Point != p.ID || a.VM != "vm" || a.Disk != "vda" || a.Blocks == 0 || !a.Time.Equal(p.Time) {
			t.Errorf("affected: %+v, want point %s", a, p.ID)
		}
	}
	if err := w.sameImage(second.ID, want); !errors.Is(err, dedup.ErrDamaged) {
		t.Errorf("read of a damaged image: %v", err)
	}
	w.must(w.sameImage(other.ID, noise(size, 3)))
	if d := w.e.DamagedPacks(); len(d) != 1 || d[0].Pack != bad || d[0].Blocks != res.DamagedBlocks {
		t.Errorf("damaged packs: %+v", d)
	}

	_, _, err = w.begin(volume.StartRequest{VM: "vm", Mode: "incremental"}, size)
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "mode auto or full") {
		t.Errorf("an explicit incremental on a damaged image: %v", err)
	}
	st, d, err := w.begin(volume.StartRequest{VM: "vm"}, size)
	w.must(err)
	if st.Disks[0].Mode != catalog.Full || !strings.Contains(st.Disks[0].Why, "damaged") {
		t.Errorf("auto on a damaged image: %+v", st.Disks[0])
	}
	_, err = d.WriteAt(want, 0)
	w.must(err)
	rec, err := w.vols.Commit(st.Session)
	w.must(err)
	w.must(w.sameImage(rec.Point, want))
	w.must(w.sameImage(second.ID, want)) // from the other copy
	w.must(w.e.HealDue(t.Context()))
	w.must(w.e.HealDue(t.Context()))
	if left := w.e.Affected(); len(left) != 0 || len(told) != 2 {
		t.Errorf("still affected: %+v, told %d times", left, len(told))
	}
	w.reopen()
	w.must(w.sameImage(first.ID, data))
	w.must(w.sameImage(second.ID, want))
	if res, err := w.e.Verify(t.Context(), VerifyRequest{}); err != nil || res.DamagedBlocks != 0 {
		t.Errorf("after the repair: %+v, %v", res, err)
	}
	if st, _, err := w.begin(volume.StartRequest{VM: "vm", Mode: "incremental"}, size); err != nil || st.Disks[0].Mode != catalog.Incremental {
		t.Errorf("an incremental when all is whole: %v", err)
	}
}

// TestDamageMetByARead is noticed without a verification, and by a backup that
// begins before anybody has looked.
func TestDamageMetByARead(t *testing.T) {
	w := newWorld(t, Config{})
	const size = 12 << 20
	p := w.backup(volume.StartRequest{VM: "vm"}, size, put{0, noise(size, 1)})
	list, err := w.cat.ChunkList(p.ID, "vda")
	w.must(err)
	c, err := w.cat.Chunk(list[0])
	w.must(err)
	w.rot(c.Runs[0].Addr.Pack())
	w.reopen()
	if err := w.sameImage(p.ID, noise(size, 1)); !errors.Is(err, dedup.ErrDamaged) {
		t.Fatalf("read: %v", err)
	}
	if st, _, err := w.begin(volume.StartRequest{VM: "vm"}, size); err != nil || st.Disks[0].Mode != catalog.Full {
		t.Errorf("auto on what a read found damaged: %+v, %v", st.Disks, err)
	}
	w.must(w.e.HealDue(t.Context()))
	if got := w.e.Affected(); len(got) != 1 || got[0].Point != p.ID {
		t.Errorf("affected: %+v", got)
	}
	s := w.e.Stats().Verify
	if s.AffectedPoints != 1 || s.AffectedImages != 1 || s.DamagedNow != 1 {
		t.Errorf("%+v", s)
	}
}

func TestScrubChoice(t *testing.T) {
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	pack := func(n uint64, age time.Duration) dedup.PackInfo {
		p := dedup.PackInfo{Verified: now.Add(-age)}
		p.ID.Pack = n
		if age < 0 {
			p.Verified = time.Time{}
		}
		return p
	}
	for name, c := range map[string]struct {
		packs []dedup.PackInfo
		quota int
		want  []uint64
	}{
		"nothing":                         {},
		"no quota":                        {[]dedup.PackInfo{pack(1, 20*day), pack(2, -1)}, 0, nil},
		"too old goes without quota":      {[]dedup.PackInfo{pack(1, 20*day), pack(2, 29*day), pack(3, 100*day)}, 0, []uint64{3, 2}},
		"never verified, then the oldest": {[]dedup.PackInfo{pack(1, 20*day), pack(2, 25*day), pack(3, -1)}, 2, []uint64{3, 2}},
		"fresh ones are left alone":       {[]dedup.PackInfo{pack(1, 2*day), pack(2, 14*day), pack(3, 16*day)}, 9, []uint64{3}},
	} {
		var got []uint64
		for _, p := range scrubChoice(c.packs, now, 30*day, c.quota) {
			got = append(got, p.ID.Pack)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestScrubKeepsItsTarget runs three months: no pack ever gets older than the target
// age, and the work is spread.
func TestScrubKeepsItsTarget(t *testing.T) {
	const target = 30 * 24 * time.Hour
	w := newWorld(t, Config{Scrub: ScrubConfig{TargetAge: target, Every: 6 * time.Hour}})
	const size = 24 << 20
	w.backup(volume.StartRequest{VM: "vm"}, size, put{0, noise(size, 1)})
	w.reopen()
	most := int64(0)
	sealed := func() (n int64) {
		a, err := w.e.Age()
		w.must(err)
		return a.Packs
	}()
	for range 3 * 30 * 4 {
		w.pass(6 * time.Hour)
		res, err := w.e.ScrubDue(t.Context())
		w.must(err)
		most = max(most, res.Packs)
	}
	a, err := w.e.Age()
	w.must(err)
	if a.Unverified != 0 || a.Oldest > target || a.Oldest < target/4 || a.Target != target {
		t.Errorf("%+v", a)
	}
	if even := sealed * int64(6*time.Hour) / int64(target); most > 2+2*even {
		t.Errorf("%d of %d packs at once", most, sealed)
	}
	t.Logf("%d packs, at most %d at once, oldest %v", sealed, most, a.Oldest)
}
