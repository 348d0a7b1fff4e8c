package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// TestMarkLargeSets goes over many turns, and seeks where the set is thin.
func TestMarkLargeSets(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	const n = 5 * chunksPerTurn / 2
	refs := make([]ChunkRef, n)
	for i := range refs {
		refs[i].New = testChunk(uint64(i), Run{3, 2, dedup.MakeAddr(uint64(i)+1, 9)})
	}
	mustCommit(t, c, onePoint(1, "vm", refs...))
	rng := rand.New(rand.NewPCG(1, 2))
	keep := make([]ChunkRef, 3000)
	for i := range keep {
		keep[i].No = ChunkNo(1 + rng.IntN(n))
	}
	mustCommit(t, c, onePoint(2, "vm", keep...))
	for _, want := range []int{n, -1} {
		marked := make([]bool, n)
		all := make(chan uint64, n)
		stats, err := c.Mark(context.Background(), func(runs []Run) {
			for _, r := range runs {
				all <- r.Addr.Pack()
			}
		})
		close(all)
		for pack := range all {
			if marked[pack-1] {
				t.Fatalf("chunk %d was visited twice", pack)
			}
			marked[pack-1] = true
		}
		if want < 0 {
			want = 0
			for _, ref := range keep {
				if !marked[ref.No-1] {
					t.Fatalf("chunk %d was not visited", ref.No)
				}
			}
			for _, m := range marked {
				if m {
					want++
				}
			}
		}
		if err != nil || stats.Chunks != int64(want) {
			t.Fatalf("%+v, %v; want %d chunks", stats, err, want)
		}
		if _, ok, _ := c.Latest("vm", ""); ok && want == n {
			mustDo(t, c.Remove(testID(1)))
			if again, err := c.Mark(context.Background(), func([]Run) {}); err != nil || again.Chunks != n || again.Points != 2 {
				t.Fatalf("removed, not forgotten: %+v, %v", again, err)
			}
			mustDo(t, c.Forget(testID(1)))
		}
	}
}

// TestMarkFails on a chunk that is named and not there or cannot be read, and
// when it is called off.
func TestMarkFails(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	for i := range 40 {
		mustCommit(t, c, onePoint(i, "vm", ChunkRef{New: testChunk(uint64(i))}))
	}
	mark := func(ctx context.Context) error {
		_, err := c.Mark(ctx, func([]Run) {})
		return err
	}
	called, off := context.WithCancel(context.Background())
	off()
	if err := mark(called); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	good, err := get(c.db, chunkKey(17))
	mustDo(t, err, c.db.Delete(chunkKey(17), nil))
	if err := mark(context.Background()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "chunk 17") {
		t.Errorf("without a record: %v", err)
	}
	mustDo(t, c.db.Set(chunkKey(17), good[:len(good)-1], nil))
	if err := mark(context.Background()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "chunk 17") {
		t.Errorf("with half a record: %v", err)
	}
	mustDo(t, c.db.Set(chunkKey(17), good, nil), c.db.Set(imageKey(testID(3), "vda"), []byte{9}, nil))
	if err := mark(context.Background()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), testID(3)) {
		t.Errorf("with a damaged list: %v", err)
	}
}

// TestAffected compares with looking at every block of every image.
func TestAffected(t *testing.T) {
	g := &generator{rng: rand.New(rand.NewPCG(4, 4))}
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	m := newModel()
	for range 60 {
		m = step(t, g, m, c)
	}
	for round := range 20 {
		pack := uint64(1 + g.rng.IntN(1000))
		isBad := func(a dedup.Addr) bool { return a.Pack()%50 == pack%50 && a.Slot()%3 == 0 }
		bad := func(a dedup.Addr, n int) bool {
			for i := range dedup.Addr(n) {
				if isBad(a + i) {
					return true
				}
			}
			return false
		}
		var want []AffectedImage
		for _, p := range m.points {
			for disk, hashes := range p.chunks {
				blocks := int64(0)
				for _, h := range hashes {
					if h == (dedup.Hash{}) {
						continue
					}
					for _, r := range m.chunks[h].Runs {
						for i := range dedup.Addr(r.Count) {
							if isBad(r.Addr + i) {
								blocks++
							}
						}
					}
				}
				if blocks > 0 {
					want = append(want, AffectedImage{p.ID, p.VM, disk, blocks})
				}
			}
		}
		slices.SortFunc(want, func(a, b AffectedImage) int { return strings.Compare(a.Point+a.Disk, b.Point+b.Disk) })
		got, err := c.Affected(context.Background(), bad)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("round %d: %+v, %v; want %+v", round, got, err, want)
		}
	}
	if got, err := c.Affected(context.Background(), func(dedup.Addr, int) bool { return false }); err != nil || len(got) != 0 {
		t.Errorf("nothing is bad: %+v, %v", got, err)
	}
}

// TestMarkBesideCommits: what was there before a mark began is marked whatever
// goes on beside it.
func TestMarkBesideCommits(t *testing.T) {
	o := testOptions(newFS())
	o.Clock = nil
	c := mustOpen(t, o)
	defer mustClose(t, c)
	for i := range 50 {
		mustCommit(t, c, onePoint(i, "vm", ChunkRef{New: testChunk(uint64(i))}))
	}
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for i := 50; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			_, err := c.Commit(onePoint(i, "vm2", ChunkRef{New: testChunk(uint64(i))}, ChunkRef{New: testChunk(uint64(i % 40))}))
			if err == nil && i >= 60 {
				err = errors.Join(c.Remove(testID(i-10)), c.Forget(testID(i-10)))
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for start, marks := time.Now(), 0; marks < 50 && time.Since(start) < 20*time.Second; marks++ {
		seen := make(chan uint64, 1000)
		_, err := c.Mark(context.Background(), func(runs []Run) {
			for _, r := range runs {
				seen <- r.Addr.Pack()
			}
		})
		mustDo(t, err)
		close(seen)
		first := 0
		for pack := range seen {
			if pack <= 50 {
				first++
			}
		}
		if first != 50 {
			t.Fatalf("%d of 50 chunks marked", first)
		}
	}
	close(stop)
	mustDo(t, <-done)
}

// TestEachPoint is over several pages, from a time on, and stops when told.
func TestEachPoint(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	const n = 2*pageOfPoints + 10
	var times []time.Time
	for i := range n {
		times = append(times, mustCommit(t, c, onePoint(i, fmt.Sprintf("vm%d", i%2), ChunkRef{})).Time)
	}
	ids := func(vm string, after time.Time, limit int) (got []int) {
		err := c.EachPoint(vm, after, func(p *Point) bool {
			id := 0
			fmt.Sscanf(p.ID, "%d", &id)
			got = append(got, id)
			if len(got) == 5 { // the catalog may change under it
				mustDo(t, c.Hold(p.ID, "seen"))
			}
			return len(got) < limit
		})
		mustDo(t, err)
		return got
	}
	every := func(from, step int) (want []int) {
		for i := from; i < n; i += step {
			want = append(want, i)
		}
		return want
	}
	for name, x := range map[string]struct{ got, want []int }{
		"all":             {ids("", time.Time{}, n), append(every(0, 2), every(1, 2)...)},
		"one VM":          {ids("vm1", time.Time{}, n), every(1, 2)},
		"no VM":           {ids("vm", time.Time{}, n), nil},
		"from a time on":  {ids("vm1", times[301], n), every(303, 2)},
		"between points":  {ids("vm1", times[302], n), every(303, 2)},
		"all from a time": {ids("", times[301], n), append(every(302, 2), every(303, 2)...)},
		"after the last":  {ids("vm1", times[n-1], n), nil},
		"far future":      {ids("vm0", time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC), n), nil},
		"until told":      {ids("", time.Time{}, 7), every(0, 2)[:7]},
	} {
		if !slices.Equal(x.got, x.want) {
			t.Errorf("%s: %v, want %v", name, x.got, x.want)
		}
	}
}
