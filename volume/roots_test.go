package volume

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// marked collects the roots.
func (w *world) marked() map[dedup.Addr]bool {
	w.t.Helper()
	set := map[dedup.Addr]bool{}
	err := w.m.Roots(func(a dedup.Addr, n int) {
		for i := range n {
			set[a+dedup.Addr(i)] = true
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

// addresses are those of a committed image.
func (w *world) addresses(point, disk string) map[dedup.Addr]bool {
	w.t.Helper()
	set := map[dedup.Addr]bool{}
	list, err := w.cat.ChunkList(point, disk)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, no := range list {
		if no == 0 {
			continue
		}
		c, err := w.cat.Chunk(no)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range c.Runs {
			for i := range r.Count {
				set[r.Addr+dedup.Addr(i)] = true
			}
		}
	}
	return set
}

// TestRoots: the roots of a session are what its image will lead to, wherever
// the maps are.
func TestRoots(t *testing.T) {
	const chunks = residentChunks + 40
	w := newWorld(t)
	size := int64(chunks * dedup.ChunkSize)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size)})
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 2 {
		for i := range int64(chunks) {
			w.write(d, i*dedup.ChunkSize+int64(rng.IntN(8))*dedup.BlockSize, dedup.BlockSize, uint64(round*1000)+uint64(i%300))
		}
	}
	if err := d.Zero(3*dedup.ChunkSize, dedup.ChunkSize); err != nil {
		t.Fatal(err)
	}
	other, d2 := w.begin(StartRequest{VM: "other", Disks: oneDisk(1 << 20)})
	w.write(d2, 0, 1<<20, 77777)
	roots := w.marked()
	if err := w.m.Abort(other.Session); err != nil {
		t.Fatal(err)
	}
	alone := w.marked()
	if len(alone) >= len(roots) {
		t.Error("the roots of an aborted session are still marked")
	}
	w.kill()
	w.start()
	again := w.marked()
	if !maps.Equal(alone, again) {
		t.Errorf("%d roots before a restart, %d after it", len(alone), len(again))
	}
	want := w.addresses(w.commit(st.Session).Point, "vda")
	if !maps.Equal(alone, want) {
		t.Errorf("%d roots, the image leads to %d blocks", len(alone), len(want))
	}
	if left := w.marked(); len(left) != 0 {
		t.Errorf("%d roots of sessions that ended", len(left))
	}
}

// TestRootsOfAnIncremental: what is inherited is the parent's to mark.
func TestRootsOfAnIncremental(t *testing.T) {
	w := newWorld(t)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(4 << 20)})
	w.write(d, 0, 4<<20, 1)
	full := w.commit(st.Session).Point
	st, d = w.begin(StartRequest{VM: "vm", Disks: oneDisk(4 << 20)})
	w.write(d, 0, 1<<20, 2)
	roots := w.marked()
	both := w.addresses(full, "vda")
	maps.Copy(both, roots)
	for a := range w.addresses(w.commit(st.Session).Point, "vda") {
		if !both[a] {
			t.Fatalf("block %v is neither the session's nor its parent's", a)
		}
	}
	if len(roots) != 16 {
		t.Errorf("%d roots for 16 blocks", len(roots))
	}
}

func TestPins(t *testing.T) {
	w := newWorld(t)
	make := func(mode string) string {
		st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20), Mode: mode})
		w.write(d, 0, 1<<20, 1)
		return w.commit(st.Session).Point
	}
	first, last := make("full"), make("full")
	if w.m.Pinned(first) || w.m.Pinned(last) {
		t.Fatal("a point is pinned that nobody uses")
	}
	r1, err := w.m.OpenImage(first, "vda")
	if err != nil {
		t.Fatal(err)
	}
	r2, err := w.m.OpenImage(first, "vda")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.OpenImage(last, "vdz"); err == nil || w.m.Pinned(last) {
		t.Fatalf("a disk that is not there was opened, or its point is pinned: %v", err)
	}
	inc, _ := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20)})
	if !w.m.Pinned(last) || !slices.Equal(w.m.InUse(last), []string{inc.Session}) {
		t.Fatal("the parent of a session is not in use")
	}
	for what, err := range map[string]error{
		"remove": w.m.Remove(last), "trash": w.m.Trash(last, w.clock.AddDate(1, 0, 0)),
		"merge": func() error {
			_, err := w.m.Merge(catalog.MergeRequest{}, func() ([]string, error) { return []string{last}, nil })
			return err
		}(),
	} {
		if !isInUse(err) {
			t.Errorf("%s of a session's parent: %v, want ErrInUse", what, err)
		}
	}
	if err := w.m.Abort(inc.Session); err != nil {
		t.Fatal(err)
	}
	if w.m.Pinned(last) {
		t.Error("an aborted session pins its parent")
	}
	if _, err := w.m.Merge(catalog.MergeRequest{}, func() ([]string, error) { return []string{first}, nil }); !isInUse(err) {
		t.Errorf("merge of what is read: %v, want ErrInUse", err)
	}
	if err := w.m.Remove(first); err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.OpenImage(first, "vda"); err == nil {
		t.Error("a removed point can be opened")
	}
	if err := r1.Close(); err != nil || !w.m.Pinned(first) {
		t.Fatalf("one of two readers has left, and the point is not pinned (%v)", err)
	}
	buf, want := [4096]byte{}, [4096]byte{}
	fill(want[:], 1)
	if _, err := r2.ReadAt(buf[:], 0); err != nil || buf != want {
		t.Errorf("a reader of a removed point: %v, or other bytes", err)
	}
	if err := r1.Close(); err != nil || !w.m.Pinned(first) {
		t.Fatalf("a reader left twice (%v)", err)
	}
	if err := r2.Close(); err != nil || w.m.Pinned(first) {
		t.Errorf("nobody reads the point, and it is pinned (%v)", err)
	}
	if err := w.m.Trash(last, w.clock.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.OpenImage(last, "vda"); err == nil {
		t.Error("a point in the trash can be opened")
	}
}
