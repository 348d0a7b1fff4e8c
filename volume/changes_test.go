package volume

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// changedRange is an extent as Changes tells it.
type changedRange struct {
	off, n  int64
	changed bool
}

// changesOf asks for the changes of a range, and checks the shape of the answer.
func changesOf(x, since *Image, off, n int64) (list []changedRange, err error) {
	at := off
	err = x.Changes(since, off, n, func(length int64, changed bool) bool {
		list = append(list, changedRange{at, length, changed})
		at += length
		return true
	})
	if err != nil {
		return nil, err
	}
	for i, r := range list {
		if r.n <= 0 || i > 0 && list[i-1].changed == r.changed {
			return nil, fmt.Errorf("extent %+v is empty or repeats the one before", r)
		}
	}
	if at != off+n {
		return nil, fmt.Errorf("extents of %d+%d end at %d", off, n, at)
	}
	return list, nil
}

// diffModel says of each block of a, by its bytes, whether it differs from b.
func diffModel(a, b *memDisk) []bool {
	changed := make([]bool, (a.size+dedup.BlockSize-1)/dedup.BlockSize)
	for i := range changed {
		off := int64(i) * dedup.BlockSize
		n := min(dedup.BlockSize, a.size-off)
		if off+n > b.size {
			changed[i] = true
			continue
		}
		var p, q [dedup.BlockSize]byte
		a.read(p[:n], off)
		b.read(q[:n], off)
		changed[i] = !bytes.Equal(p[:n], q[:n])
	}
	return changed
}

// ranges is diffModel's answer about [off, off+n) as Changes tells it.
func ranges(changed []bool, off, n int64) (list []changedRange) {
	for end := off + n; off < end; {
		step := min(end, (off/dedup.BlockSize+1)*dedup.BlockSize) - off
		c := changed[off/dedup.BlockSize]
		if k := len(list); k > 0 && list[k-1].changed == c {
			list[k-1].n += step
		} else {
			list = append(list, changedRange{off, step, c})
		}
		off += step
	}
	return list
}

// backup makes a point of one disk with the content of a model.
func (w *world) backup(vm string, req StartRequest, fill func(*Disk, *memDisk), base *memDisk, size int64) (string, *memDisk) {
	w.t.Helper()
	req.VM, req.Disks = vm, []DiskSpec{{Name: "vda", Size: size}}
	st, err := w.m.Start(req)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		w.t.Fatal(err)
	}
	model := newMemDisk(size)
	if st.Disks[0].Mode == "incremental" {
		model = base.fork(size)
	}
	fill(d, model)
	r, err := w.m.Commit(st.Session)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Point, model
}

func (w *world) image(point string) *Image {
	w.t.Helper()
	x, err := w.m.OpenImage(point, "vda")
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// generation is a point and what it should hold.
type generation struct {
	point string
	want  *memDisk
}

// TestChangesOfRandomImages makes points of a disk that grows, shrinks, is
// rewritten with what it had, zeroed and filled, then compares every pair.
func TestChangesOfRandomImages(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 0)), w: newWorld(t)}
	sizes := []int64{1, 100_000, dedup.ChunkSize, dedup.ChunkSize + 3*dedup.BlockSize + 512, 2*dedup.ChunkSize - 7000, 3*dedup.ChunkSize + 12345}
	var all []generation
	size, last := sizes[3], newMemDisk(0)
	for range 9 {
		if h.rng.IntN(2) == 0 {
			size = sizes[h.rng.IntN(len(sizes))]
		}
		mode := []string{"auto", "auto", "full"}[h.rng.IntN(3)]
		point, m := h.w.backup("vm", StartRequest{Mode: mode}, func(d *Disk, m *memDisk) { h.scribble(d, m, last) }, last, size)
		all, last = append(all, generation{point, m}), m
	}
	for _, a := range all {
		for _, b := range all {
			h.compare(a, b)
		}
	}
}

// scribble changes a disk; some of it to what before had there.
func (h *history) scribble(d *Disk, m, before *memDisk) {
	write := func(p []byte, off int64) {
		_, err := d.WriteAt(p, off)
		h.must(err)
		m.write(p, off)
	}
	for range 12 {
		off, n := h.place(m.size, 1<<20)
		switch h.rng.IntN(4) {
		case 0:
			h.must(d.Zero(off, n))
			h.zero(m, off, n)
		case 1, 2:
			p := make([]byte, n)
			if off+n <= before.size {
				before.read(p, off)
			}
			write(p, off)
		case 3:
			write(h.payload(int(n)), off)
		}
	}
}

func (h *history) compare(a, b generation) {
	h.t.Helper()
	x, since := h.w.image(a.point), h.w.image(b.point)
	defer x.Close()
	defer since.Close()
	model := diffModel(a.want, b.want)
	for i := range 6 {
		off, n := int64(0), a.want.size
		if i > 0 {
			off, n = h.place(a.want.size, a.want.size)
		}
		got, err := changesOf(x, since, off, n)
		h.must(err)
		if want := ranges(model, off, n); !slices.Equal(got, want) {
			h.t.Fatalf("point of %d bytes since one of %d, in %d+%d:\n got %v\nwant %v", a.want.size, b.want.size, off, n, got, want)
		}
	}
}

func TestChangesStop(t *testing.T) {
	w := newWorld(t)
	size := int64(3 * dedup.ChunkSize)
	a, m := w.backup("vm", StartRequest{Mode: "full"}, func(*Disk, *memDisk) {}, nil, size)
	b, _ := w.backup("vm", StartRequest{Mode: "auto"}, func(d *Disk, _ *memDisk) {
		for off := int64(0); off < size; off += 2 * dedup.ChunkSize / 3 {
			if _, err := d.WriteAt([]byte("x"), off); err != nil {
				t.Fatal(err)
			}
		}
	}, m, size)
	x, since := w.image(b), w.image(a)
	defer x.Close()
	defer since.Close()
	for want := 1; want < 6; want++ {
		calls := 0
		err := x.Changes(since, 0, size, func(int64, bool) bool { calls++; return calls < want })
		if err != nil || calls != want {
			t.Fatalf("%d extents and %v after stopping at %d", calls, err, want)
		}
	}
	for _, r := range []struct{ off, n int64 }{{-1, 1}, {0, size + 1}, {size, 1}, {1, -1}} {
		if err := x.Changes(since, r.off, r.n, func(int64, bool) bool { return true }); err == nil {
			t.Errorf("changes of %d+%d", r.off, r.n)
		}
	}
	if list, err := changesOf(x, since, size, 0); err != nil || list != nil {
		t.Errorf("changes of nothing: %v, %v", list, err)
	}
}

// TestChangesOfTwiceStored hides the first image's packs while the second is
// written, so that equal blocks lie in two places.
func TestChangesOfTwiceStored(t *testing.T) {
	w := newWorld(t)
	const blocks = 300
	size := int64(2 * dedup.ChunkSize)
	write := func(differ ...int) func(*Disk, *memDisk) {
		return func(d *Disk, m *memDisk) {
			for i := range blocks {
				var p [dedup.BlockSize]byte
				fill(p[:], uint64(i))
				if slices.Contains(differ, i) {
					p[len(p)-1] ^= 1
				}
				if _, err := d.WriteAt(p[:], int64(i)*2*dedup.BlockSize); err != nil {
					t.Fatal(err)
				}
				m.write(p[:], int64(i)*2*dedup.BlockSize)
			}
		}
	}
	a, am := w.backup("vm", StartRequest{Mode: "full"}, write(), nil, size)
	w.stop()
	const packs, hidden = "data/tier0/packs/0000000", "data/hidden"
	names, err := w.fs.List(packs)
	if err == nil {
		err = errors.Join(w.fs.MkdirAll(hidden, 0o700), w.fs.RemoveAll("data/index"))
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	names = names[:len(names)-1] // the last one says which numbers are taken
	w.move(names, packs, hidden)
	w.start()
	b, bm := w.backup("other", StartRequest{Mode: "full"}, write(0, 7, blocks-1), nil, size)
	w.stop()
	w.move(names, hidden, packs)
	w.start()

	x, since := w.image(b), w.image(a)
	defer x.Close()
	defer since.Close()
	p, err := w.m.cache.get(x.base.number(0))
	if err != nil {
		t.Fatal(err)
	}
	q, err := w.m.cache.get(since.base.number(0))
	if err != nil {
		t.Fatal(err)
	}
	if p[4] == q[4] {
		t.Fatal("the blocks were not stored twice; this test shows nothing")
	}
	for _, pair := range [][2]*Image{{x, since}, {since, x}} {
		got, err := changesOf(pair[0], pair[1], 0, size)
		if want := ranges(diffModel(am, bm), 0, size); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	x.Close()
	since.Close()

	// Blocks that were in a pack that is gone cannot be compared, and are changed;
	// the others still can.
	w.stop()
	w.move(names[:1], packs, hidden)
	w.start()
	x, since = w.image(b), w.image(a)
	defer x.Close()
	defer since.Close()
	want := diffModel(am, bm)
	for i := range p {
		want[i] = want[i] || p[i] != q[i] && q[i].Pack() == q[0].Pack()
	}
	got, err := changesOf(x, since, 0, dedup.ChunkSize)
	if err != nil || !slices.Equal(got, ranges(want, 0, dedup.ChunkSize)) {
		t.Errorf("without hashes: %v, %v", got, err)
	}
}

func (w *world) move(names []string, from, to string) {
	w.t.Helper()
	for _, n := range names {
		if err := w.fs.Rename(from+"/"+n, to+"/"+n); err != nil {
			w.t.Fatal(err)
		}
	}
}

// BenchmarkChanges asks about a disk of 16 TiB whose images share all but a few
// chunks.
func BenchmarkChanges(b *testing.B) {
	const chunks, changed = 16 << 40 / dedup.ChunkSize, 100
	m := &Manager{cache: newAddrCache(func(n catalog.ChunkNo) (*catalog.Chunk, error) {
		return &catalog.Chunk{Runs: []catalog.Run{{Count: dedup.ChunkBlocks, Addr: dedup.Addr(n) << 20}}}, nil
	})}
	image := func(differ catalog.ChunkNo) *Image {
		list := make([]catalog.ChunkNo, chunks)
		for i := range list {
			list[i] = catalog.ChunkNo(i + 1)
			if i%(chunks/changed) == 0 && differ != 0 {
				list[i] = 0
			}
		}
		x := &Image{m: m, base: base{size: chunks * dedup.ChunkSize, chunks: list}}
		x.info.Size = x.base.size
		return x
	}
	x, since := image(0), image(1)
	b.ReportAllocs()
	for b.Loop() {
		extents := 0
		if err := x.Changes(since, 0, x.Size(), func(int64, bool) bool { extents++; return true }); err != nil || extents < changed {
			b.Fatal(extents, err)
		}
	}
}
