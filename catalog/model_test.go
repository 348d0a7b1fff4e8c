package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// model is what a catalog should hold. A model is not changed once made: with
// and without make new ones.
type model struct {
	points  []modelPoint // by commit time
	removed []string
	chunks  map[dedup.Hash]*Chunk // as first recorded
}

type modelPoint struct {
	Point
	chunks map[string][]dedup.Hash // by disk
	blobs  map[string][]byte
}

func newModel() *model { return &model{chunks: map[dedup.Hash]*Chunk{}} }

func (m *model) with(n *NewPoint, p Point, number func(ChunkNo) dedup.Hash) *model {
	next := &model{points: slices.Clone(m.points), removed: m.removed, chunks: maps.Clone(m.chunks)}
	mp := modelPoint{Point: p, chunks: map[string][]dedup.Hash{}, blobs: map[string][]byte{}}
	images := slices.Clone(n.Images)
	slices.SortFunc(images, func(a, b NewImage) int { return strings.Compare(a.Disk, b.Disk) })
	for _, im := range images {
		for _, ref := range im.Chunks {
			h := dedup.Hash{}
			switch {
			case ref.New != nil && len(ref.New.Runs) > 0:
				h = ref.New.Hash
				if next.chunks[h] == nil {
					next.chunks[h] = ref.New
				}
			case ref.New == nil && ref.No != 0:
				h = number(ref.No)
			}
			mp.chunks[im.Disk] = append(mp.chunks[im.Disk], h)
		}
	}
	for _, b := range n.Blobs {
		mp.blobs[b.Name] = b.Data
	}
	next.points = append(next.points, mp)
	return next
}

func (m *model) without(id string) *model {
	next := &model{removed: append(slices.Clip(m.removed), id), chunks: m.chunks}
	for _, p := range m.points {
		if p.ID != id {
			next.points = append(next.points, p)
		}
	}
	return next
}

// expected is the point Commit should have made of n at a time.
func (p *modelPoint) expected(n *NewPoint, at time.Time) Point {
	want := Point{ID: n.ID, VM: n.VM, Time: at, Start: n.Start.UTC().Truncate(time.Millisecond), Labels: n.Labels}
	for _, im := range n.Images {
		im.Root = testRoot(im.Size, p.chunks[im.Disk])
		want.Images = append(want.Images, im.Image)
	}
	for _, b := range n.Blobs {
		want.Blobs = append(want.Blobs, BlobInfo{b.Name, int64(len(b.Data)), sha256.Sum256(b.Data)})
	}
	slices.SortFunc(want.Images, func(a, b Image) int { return strings.Compare(a.Disk, b.Disk) })
	return want
}

// check compares a catalog with the model.
func (m *model) check(c *Catalog) error {
	all, err := c.Points("")
	if err != nil {
		return err
	}
	if len(all) != len(m.points) {
		return fmt.Errorf("%d points, want %d", len(all), len(m.points))
	}
	for i := range m.points {
		if err := m.checkPoint(c, &m.points[i], all[i]); err != nil {
			return fmt.Errorf("point %s: %w", m.points[i].ID, err)
		}
	}
	for _, id := range m.removed {
		if _, err := c.Point(id); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("removed point %s: %v", id, err)
		}
	}
	if err := m.checkKeys(c); err != nil {
		return err
	}
	return m.checkSums(c)
}

// checkKeys wants nothing of removed points to be left.
func (m *model) checkKeys(c *Catalog) error {
	want := map[byte]int{keyPoint: len(m.points), keyPointVM: len(m.points), keyRemoved: len(m.removed)}
	for _, p := range m.points {
		want[keyImage] += len(p.chunks)
		want[keyBlob] += len(p.blobs)
	}
	for _, kind := range []byte{keyPoint, keyPointVM, keyRemoved, keyImage, keyBlob} {
		n := 0
		if err := scan(c.db, []byte{kind}, func(_, _ []byte) error { n++; return nil }); err != nil {
			return err
		}
		if n != want[kind] {
			return fmt.Errorf("%d keys of kind %c, want %d", n, kind, want[kind])
		}
	}
	return nil
}

func (m *model) checkPoint(c *Catalog, want *modelPoint, listed Point) error {
	if !reflect.DeepEqual(listed, want.Point) {
		return fmt.Errorf("listed as\n%+v, want\n%+v", listed, want.Point)
	}
	got, err := c.Point(want.ID)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want.Point) {
		return fmt.Errorf("%+v; want\n%+v", got, want.Point)
	}
	if p, err := c.Resolve(Ref{VM: want.VM, Point: want.Time.Format(time.RFC3339Nano)}); err != nil || p.ID != want.ID {
		return fmt.Errorf("by its time: %s, %w", p.ID, err)
	}
	for disk, hashes := range want.chunks {
		if err := m.checkChunks(c, want.ID, disk, hashes); err != nil {
			return fmt.Errorf("disk %s: %w", disk, err)
		}
	}
	for name, data := range want.blobs {
		if b, err := c.Blob(want.ID, name); err != nil || !bytes.Equal(b, data) {
			return fmt.Errorf("blob %s: %d bytes, %w; want %d", name, len(b), err, len(data))
		}
	}
	return nil
}

func (m *model) checkChunks(c *Catalog, id, disk string, hashes []dedup.Hash) error {
	list, err := c.ChunkList(id, disk)
	if err != nil || len(list) != len(hashes) {
		return fmt.Errorf("%d chunks, %w; want %d", len(list), err, len(hashes))
	}
	for i, no := range list {
		if hashes[i] == (dedup.Hash{}) {
			if no != 0 {
				return fmt.Errorf("chunk %d is number %d, want zeros", i, no)
			}
			continue
		}
		k, err := c.Chunk(no)
		if err != nil || !reflect.DeepEqual(k, m.chunks[hashes[i]]) {
			return fmt.Errorf("chunk %d: %+v, %w; want %+v", i, k, err, m.chunks[hashes[i]])
		}
	}
	return nil
}

// checkSums compares summaries and statistics.
func (m *model) checkSums(c *Catalog) error {
	sums := map[string]*VM{}
	for i := range m.points {
		p := &m.points[i].Point
		if sums[p.VM] == nil {
			sums[p.VM] = &VM{Name: p.VM}
		}
		sums[p.VM].add(p)
	}
	vms, err := c.VMs()
	if err != nil || len(vms) != len(sums) {
		return fmt.Errorf("%d VMs, %w; want %d", len(vms), err, len(sums))
	}
	want := Stats{VMs: len(vms)}
	for _, v := range vms {
		if !reflect.DeepEqual(&v, sums[v.Name]) {
			return fmt.Errorf("%+v, want %+v", v, sums[v.Name])
		}
		want.Points += v.Points
		want.Images += v.Images
		want.LogicalBytes += v.LogicalBytes
		for _, d := range v.Disks {
			want.LatestBytes += d.Size
			want.LastCommits = append(want.LastCommits, LastCommit{v.Name, d.Disk, d.Time})
			p, ok, err := c.Latest(v.Name, d.Disk)
			if err != nil || !ok || p.ID != d.Point {
				return fmt.Errorf("latest of %s/%s: %s, %v, %w; want %s", v.Name, d.Disk, p.ID, ok, err, d.Point)
			}
		}
	}
	got := c.Stats()
	got = Stats{VMs: got.VMs, Points: got.Points, Images: got.Images, LogicalBytes: got.LogicalBytes,
		LatestBytes: got.LatestBytes, LastCommits: got.LastCommits}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("statistics %+v, want %+v", got, want)
	}
	return nil
}

// generator makes random points that build on what a model holds.
type generator struct {
	rng  *rand.Rand
	made int
}

func (g *generator) point(m *model, c *Catalog) NewPoint {
	g.made++
	n := NewPoint{ID: testID(g.made), VM: fmt.Sprintf("vm%d", g.rng.IntN(3)),
		Start: time.UnixMilli(g.rng.Int64N(1 << 40)).Add(time.Duration(g.rng.IntN(1000)))}
	if g.rng.IntN(2) == 0 {
		n.Labels = map[string]string{"k": fmt.Sprint(g.made), "job": "nightly"}
	}
	for i := range g.rng.IntN(3) {
		n.Blobs = append(n.Blobs, Blob{fmt.Sprintf("blob%d", i), bytes.Repeat([]byte{byte(g.made)}, g.rng.IntN(2000))})
	}
	for _, d := range g.rng.Perm(3)[:1+g.rng.IntN(3)] {
		n.Images = append(n.Images, g.image(m, c, n.VM, fmt.Sprintf("vd%c", 'a'+d)))
	}
	return n
}

func (g *generator) image(m *model, c *Catalog, vm, disk string) NewImage {
	im := NewImage{Image: Image{Disk: disk, Mode: Full, WrittenBytes: g.rng.Int64N(1 << 40), NewBytes: int64(g.rng.IntN(9))}}
	im.Size = int64(1+g.rng.IntN(5))*dedup.ChunkSize - int64(g.rng.IntN(2))*100_000
	var old []ChunkNo
	if p, ok, _ := c.Latest(vm, disk); ok && g.rng.IntN(4) > 0 {
		i := slices.IndexFunc(p.Images, func(im Image) bool { return im.Disk == disk })
		im.Mode, im.Parent, im.Size, im.Checkpoint = Incremental, p.ID, p.Images[i].Size, "cp-"+p.ID
		old, _ = c.ChunkList(p.ID, disk)
	}
	for i := range chunkCount(im.Size) {
		im.Chunks = append(im.Chunks, g.chunk(old, int(i), chunkLength(im.Size, int(i))))
	}
	return im
}

func (g *generator) chunk(old []ChunkNo, i int, length uint32) ChunkRef {
	switch {
	case old != nil && g.rng.IntN(3) > 0:
		return ChunkRef{No: old[i]}
	case g.rng.IntN(5) == 0:
		return ChunkRef{}
	}
	k := testChunk(uint64(g.rng.IntN(60)), randomRuns(g.rng)...)
	k.Length = length
	k.Hash[0] = byte(length >> 8) // as with real hashes, the length counts
	if g.rng.IntN(8) == 0 {
		k.Runs = nil
	}
	return ChunkRef{New: k}
}

// randomRuns are within the shortest chunk the generator makes.
func randomRuns(rng *rand.Rand) (runs []Run) {
	for block := rng.IntN(300); block < 1000; block += 2 + rng.IntN(300) {
		n := 1 + rng.IntN(min(200, 1000-block))
		runs = append(runs, Run{uint16(block), uint16(n), dedup.MakeAddr(1+rng.Uint64N(1000), uint16(rng.IntN(8000)))})
		block += n
	}
	if runs == nil {
		runs = []Run{{0, 1, dedup.MakeAddr(1, 1)}}
	}
	return runs
}

// hashOf looks chunk numbers up for model.with.
func hashOf(c *Catalog) func(ChunkNo) dedup.Hash {
	return func(no ChunkNo) dedup.Hash {
		k, err := c.Chunk(no)
		if err != nil {
			return dedup.Hash{0xbb}
		}
		return k.Hash
	}
}

// TestHistories runs random commits and removals against the model, with
// restarts and lost databases between.
func TestHistories(t *testing.T) {
	for seed := range uint64(20) {
		g := &generator{rng: rand.New(rand.NewPCG(seed, 1))}
		fs := newFS()
		m := newModel()
		o := testOptions(fs)
		o.LogFileBytes = int64(1 + g.rng.IntN(50000))
		o.CacheBytes = int64(1 + g.rng.IntN(20000))
		for session := range 6 {
			what := fmt.Sprintf("seed %d, session %d", seed, session)
			if g.rng.IntN(3) == 0 {
				if err := fs.RemoveAll(o.Dir); err != nil {
					t.Fatal(err)
				}
			}
			c := mustOpen(t, o)
			if err := m.check(c); err != nil {
				t.Fatalf("%s: after open: %v", what, err)
			}
			for range g.rng.IntN(25) {
				m = step(t, g, m, c)
			}
			if err := m.check(c); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			mustClose(t, c)
		}
	}
}

// step does one random thing.
func step(t *testing.T, g *generator, m *model, c *Catalog) *model {
	t.Helper()
	if len(m.points) > 0 && g.rng.IntN(4) == 0 {
		id := m.points[g.rng.IntN(len(m.points))].ID
		if err := c.Remove(id); err != nil {
			t.Fatalf("remove: %v", err)
		}
		return m.without(id)
	}
	n := g.point(m, c)
	p := mustCommit(t, c, n)
	next := m.with(&n, p, hashOf(c))
	if want := next.points[len(next.points)-1].expected(&n, p.Time); !reflect.DeepEqual(p, want) {
		t.Fatalf("committed\n%+v, want\n%+v", p, want)
	}
	return next
}
