package integration

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// incremental is recipe (b) of one disk.
func (s *scene) incremental(vm, bitmap string, g *guest) api.Receipt {
	s.Helper()
	b := s.start(vm, []*guest{g}, "--mode", "incremental")
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, g.copyDirty(bitmap)), s.qsd.Wait(s.ctx, job(g.node)))
	s.disconnect(b)
	return s.commit(b)
}

// since are the blocks that libnbd says a point's disk has changed since another
// point; its last may be short.
func (s *scene) since(ref, point string) (blocks []int) {
	s.Helper()
	text := s.tool("nbdinfo", "--json", "--map=qemu:dirty-bitmap:since-"+point, s.srv.UnixURI(ref))
	return s.dirtyBlocks(text)
}

func blocksOf(off, n int64) (blocks []int) {
	for b := off / blockSize; b*blockSize < off+n; b++ {
		blocks = append(blocks, int(b))
	}
	return blocks
}

// diff is since by the command.
func (s *scene) diff(from, to string) (blocks []int) {
	s.Helper()
	text, err := s.srv.Run(s.ctx, "diff", from, to, "--map", "--json")
	s.must(err)
	return s.dirtyBlocks(string(text))
}

// dirtyBlocks reads a map as nbdinfo prints it: without gaps, 1 for what differs.
func (s *scene) dirtyBlocks(text string) (blocks []int) {
	s.Helper()
	var extents []struct {
		Offset, Length int64
		Type           uint32
	}
	s.must(json.Unmarshal([]byte(text), &extents))
	at := int64(0)
	for _, e := range extents {
		if e.Offset != at || e.Type > 1 {
			s.Fatalf("no map of dirty ranges: %s", text)
		}
		at += e.Length
		if e.Type == 1 {
			blocks = append(blocks, blocksOf(e.Offset, e.Length)...)
		}
	}
	return blocks
}

// differing are the blocks of now that are not as in before, or of which a part
// lies beyond its end.
func differing(before, now []byte) (blocks []int) {
	for off := 0; off < len(now); off += blockSize {
		end := min(off+blockSize, len(now))
		if end > len(before) || !slices.Equal(before[off:end], now[off:end]) {
			blocks = append(blocks, off/blockSize)
		}
	}
	return blocks
}

// TestDifferencesOfAHistory asks for what changed between any two points of a
// history that QEMU made, in which the disk was written, zeroed, trimmed, grown
// and written with what it held: it must be what the bytes say, at 64 KiB.
func TestDifferencesOfAHistory(t *testing.T) {
	t.Parallel()
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	s := newScene(t)
	h := newTimeline(s, rand.New(rand.NewPCG(uint64(seed), 5)))
	for _, round := range []func(){h.scribble, h.erase, h.grow, h.again, h.growEmpty, func() { h.scribble(); h.erase() }} {
		round()
		h.keep(s.incremental("vm", "b0", h.guest))
	}
	for i, a := range h.points {
		s.must(os.WriteFile(s.path("want.raw"), h.disks[i], 0o600))
		s.same("vm", "vda", a, s.path("want.raw"))
		for j, b := range h.points {
			want := differing(h.disks[j], h.disks[i])
			if got := s.since("vm/vda@"+a, b); !slices.Equal(got, want) {
				t.Errorf("point %d since point %d: blocks %v, the bytes say %v", i, j, got, want)
			}
			if got := s.diff("vm/vda@"+b, "vm/vda@"+a); !slices.Equal(got, want) {
				t.Errorf("diff of point %d and point %d: blocks %v, the bytes say %v", j, i, got, want)
			}
		}
	}
}

// timeline is a disk and what it was at each of its points.
type timeline struct {
	*guest
	rng    *rand.Rand
	points []string
	disks  [][]byte
}

// newTimeline makes a disk, not a whole number of blocks, and its full backup.
func newTimeline(s *scene, rng *rand.Rand) *timeline {
	s.Helper()
	const mib = 1 << 20
	g := newGuestOf(s, "vda", "qcow2", s.diskOf("vda.model", 7*mib+512, extent{0, mib}, extent{2*mib + 4096, 3 * mib}, extent{7 * mib, 512}))
	h := &timeline{guest: g, rng: rng}
	h.keep(s.full("vm", "b0", g))
	return h
}

func (h *timeline) keep(r api.Receipt) {
	h.s.Helper()
	data, err := os.ReadFile(h.model.Path)
	h.s.must(err)
	h.points, h.disks = append(h.points, r.Point), append(h.disks, data)
}

// place is a range of at most most bytes, in sectors.
func (h *timeline) place(most int64) (off, n int64) {
	n = 512 * (1 + h.rng.Int64N(most/512))
	return 512 * h.rng.Int64N((h.size()-n)/512+1), n
}

func (h *timeline) scribble() {
	h.s.Helper()
	for range 8 {
		off, n := h.place(200 << 10)
		h.write(off, noise(h.rng.Uint64(), int(n)))
	}
}

func (h *timeline) erase() {
	h.s.Helper()
	for range 3 {
		h.zero(h.place(300 << 10))
		// Whole clusters: QEMU passes those over of which a trim covers a part.
		n := 1 + h.rng.Int64N(5)
		h.discard(blockSize*h.rng.Int64N(h.size()/blockSize-n+1), blockSize*n)
	}
}

// grow makes the disk larger and writes in the new part.
func (h *timeline) grow() {
	h.s.Helper()
	end := h.size()
	h.guest.grow(end + 2<<20 + 1024)
	h.write(end+1<<20, noise(h.rng.Uint64(), 100<<10))
	h.scribble()
}

func (h *timeline) growEmpty() {
	h.s.Helper()
	h.guest.grow(h.size() + 500<<10)
}

// again writes what the disk holds: QEMU calls it dirty, nothing has changed.
func (h *timeline) again() {
	h.s.Helper()
	data, err := os.ReadFile(h.model.Path)
	h.s.must(err)
	h.write(0, data[:1<<20])
	h.write(3<<20, noise(h.rng.Uint64(), 512))
}

// diskOf is a disk with files' bytes at the extents; see scattered.
func (s *scene) diskOf(name string, size int64, data ...extent) *testdisk.Disk {
	s.Helper()
	return &testdisk.Disk{Path: s.scattered(name, size, data...), Size: size}
}
