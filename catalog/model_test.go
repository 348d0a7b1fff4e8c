package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// model is what a catalog should hold. A model is not changed once made: what
// changes it makes a new one.
type model struct {
	points   []modelPoint                       // live and in the trash, by commit time
	pending  map[string]map[string][]dedup.Hash // chunks by disk of points removed and not forgotten
	removed  []string
	chunks   map[dedup.Hash]*Chunk // those some image names, as recorded last
	policies map[string]Policy
}

type modelPoint struct {
	Point
	chunks map[string][]dedup.Hash // by disk or file's key
	blobs  map[string][]byte
}

func newModel() *model {
	return &model{pending: map[string]map[string][]dedup.Hash{}, chunks: map[dedup.Hash]*Chunk{}, policies: map[string]Policy{}}
}

func (m *model) clone() *model {
	next := &model{removed: slices.Clone(m.removed), pending: maps.Clone(m.pending), chunks: maps.Clone(m.chunks),
		policies: maps.Clone(m.policies)}
	for _, p := range m.points {
		p.Images, p.Files, p.chunks = slices.Clone(p.Images), slices.Clone(p.Files), maps.Clone(p.chunks)
		next.points = append(next.points, p)
	}
	return next
}

// find returns nil for a point that is not there.
func (m *model) find(id string) *modelPoint {
	i := slices.IndexFunc(m.points, func(p modelPoint) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	return &m.points[i]
}

func (m *model) with(n *NewPoint, p Point, number func(ChunkNo) dedup.Hash) *model {
	next := m.clone()
	mp := modelPoint{Point: p, chunks: map[string][]dedup.Hash{}, blobs: map[string][]byte{}}
	images := slices.Clone(n.Images)
	for _, f := range n.Files {
		images = append(images, NewImage{Image{Disk: FileKey(f.Name)}, f.Chunks})
	}
	slices.SortFunc(images, func(a, b NewImage) int { return strings.Compare(a.Disk, b.Disk) })
	for _, im := range images {
		mp.chunks[im.Disk] = []dedup.Hash{}
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
	next := m.clone()
	p := *next.find(id)
	next.removed = append(next.removed, id)
	next.pending[id] = p.chunks
	next.points = slices.DeleteFunc(next.points, func(p modelPoint) bool { return p.ID == id })
	for _, im := range p.Images {
		next.reparent(p.VM, im.Disk, id, im.Parent, im.Gone+1)
	}
	return next
}

func (m *model) reparent(vm, disk, from, to string, gone int64) {
	for i := range m.points {
		for j := range m.points[i].Images {
			if im := &m.points[i].Images[j]; m.points[i].VM == vm && im.Disk == disk && im.Parent == from {
				im.Parent = to
				im.Gone += gone
			}
		}
	}
}

// forgotten drops removed points, all without ids, and the chunks only they had.
func (m *model) forgotten(ids ...string) *model {
	next := m.clone()
	if ids == nil {
		clear(next.pending)
	}
	for _, id := range ids {
		delete(next.pending, id)
	}
	next.bury()
	return next
}

// bury drops chunks no image names.
func (m *model) bury() {
	counts := m.counts()
	maps.DeleteFunc(m.chunks, func(h dedup.Hash, _ *Chunk) bool { return counts[h] == 0 })
}

// counts are how often images name each chunk.
func (m *model) counts() map[dedup.Hash]uint64 {
	counts := map[dedup.Hash]uint64{}
	add := func(disks map[string][]dedup.Hash) {
		for _, list := range disks {
			for _, h := range list {
				if h != (dedup.Hash{}) {
					counts[h]++
				}
			}
		}
	}
	for _, p := range m.points {
		add(p.chunks)
	}
	for _, disks := range m.pending {
		add(disks)
	}
	return counts
}

// line are the points from an image back to its ancestor, both included; nil if
// it is none.
func (m *model) line(disk, from, ancestor string) (ids []string) {
	for id := from; id != ""; {
		ids = append(ids, id)
		if id == ancestor {
			return ids
		}
		id = m.find(id).image(disk).Parent
	}
	return nil
}

// merged does what Merge says it does; at is when.
func (m *model) merged(r MergeRequest, at time.Time) *model {
	next := m.clone()
	into, from := next.find(r.Into), next.find(r.From)
	target, top := into.image(r.Disk), from.image(r.Disk)
	gone := m.line(r.Disk, r.From, r.Into)
	heir := r.Into
	if gone != nil {
		gone = gone[:len(gone)-1]
		target.Size, target.Root, target.Checkpoint = top.Size, top.Root, top.Checkpoint
		into.chunks[r.Disk] = from.chunks[r.Disk]
		into.dropFiles(r.Disk)
	} else {
		gone = m.line(r.Disk, r.Into, r.From)[1:]
		heir = top.Parent
		if target.Parent = heir; heir == "" {
			target.Mode = Full
		}
	}
	target.Merged, target.MergedFrom = at, r.From
	for _, id := range gone {
		p := next.find(id)
		im := p.image(r.Disk)
		target.Gone += im.Gone + 1
		target.WrittenBytes += im.WrittenBytes
		target.ZeroedBytes += im.ZeroedBytes
		target.NewBytes += im.NewBytes
		target.StoredBytes += im.StoredBytes
		delete(p.chunks, r.Disk)
		p.Images = slices.DeleteFunc(p.Images, func(im Image) bool { return im.Disk == r.Disk })
		if len(p.Images) == 0 {
			p.Images = nil
		}
		p.dropFiles(r.Disk)
		next.reparent(r.VM, r.Disk, id, heir, 0)
	}
	if target.Mode == Full && heir == "" {
		target.Gone = 0
	}
	next.points = slices.DeleteFunc(next.points, func(p modelPoint) bool {
		gone := len(p.Images) == 0 && slices.Contains(gone, p.ID) && len(p.Files) == 0
		if gone {
			next.removed = append(next.removed, p.ID)
		}
		return gone
	})
	next.bury()
	return next
}

// dropFiles takes away the files that were understood as a disk.
func (p *modelPoint) dropFiles(disk string) {
	p.Files = slices.DeleteFunc(p.Files, func(f FileImage) bool {
		if f.Disk == disk {
			delete(p.chunks, FileKey(f.Name))
		}
		return f.Disk == disk
	})
	if len(p.Files) == 0 {
		p.Files = nil
	}
}

// expected is the point Commit should have made of n at a time.
func (p *modelPoint) expected(n *NewPoint, at time.Time) Point {
	want := Point{ID: n.ID, VM: n.VM, Time: at, Start: n.Start.UTC().Truncate(time.Millisecond), Labels: n.Labels,
		Attributes: Attributes{Manual: n.Manual}}
	for _, im := range n.Images {
		im.Root = testRoot(im.Size, p.chunks[im.Disk])
		want.Images = append(want.Images, im.Image)
	}
	for _, f := range n.Files {
		f.Root = testRoot(f.Size, p.chunks[FileKey(f.Name)])
		want.Files = append(want.Files, f.FileImage)
	}
	slices.SortFunc(want.Files, func(a, b FileImage) int { return strings.Compare(a.Name, b.Name) })
	for _, b := range n.Blobs {
		want.Blobs = append(want.Blobs, BlobInfo{b.Name, int64(len(b.Data)), sha256.Sum256(b.Data)})
	}
	slices.SortFunc(want.Images, func(a, b Image) int { return strings.Compare(a.Disk, b.Disk) })
	return want
}

// check compares a catalog with the model.
func (m *model) check(c *Catalog) error {
	for _, part := range []func(*Catalog) error{m.checkPoints, m.checkGone, m.checkKeys, m.checkSums, m.checkPolicies, m.checkRefs, m.checkMark} {
		if err := part(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) checkPoints(c *Catalog) error {
	all, err := c.Points("")
	if err != nil {
		return err
	}
	each := map[string]Point{}
	err = c.EachPoint("", time.Time{}, func(p *Point) bool { each[p.ID] = *p; return true })
	if err != nil {
		return err
	}
	if live := m.live(); len(all) != len(live) || len(each) != len(live) {
		return fmt.Errorf("%d points, %d one by one; want %d", len(all), len(each), len(live))
	}
	trash, err := c.TrashList()
	if err != nil || len(trash) != len(m.points)-len(all) {
		return fmt.Errorf("%d points in the trash, %w; want %d", len(trash), err, len(m.points)-len(all))
	}
	for i := range m.points {
		p, listed := &m.points[i], Point{}
		if !p.Trashed.IsZero() {
			listed = trash[slices.IndexFunc(trash, func(q Point) bool { return q.ID == p.ID })]
		} else {
			listed, all = all[0], all[1:]
			if !reflect.DeepEqual(listed, each[p.ID]) {
				return fmt.Errorf("point %s one by one is\n%+v, listed\n%+v", p.ID, each[p.ID], listed)
			}
		}
		if err := m.checkPoint(c, p, listed); err != nil {
			return fmt.Errorf("point %s: %w", p.ID, err)
		}
	}
	return nil
}

func (m *model) live() (live []*modelPoint) {
	for i := range m.points {
		if m.points[i].Trashed.IsZero() {
			live = append(live, &m.points[i])
		}
	}
	return live
}

func (m *model) checkGone(c *Catalog) error {
	for _, id := range m.removed {
		if _, err := c.Point(id); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("removed point %s: %v", id, err)
		}
	}
	ids, err := c.Removed()
	if want := slices.Sorted(maps.Keys(m.pending)); err != nil || !slices.Equal(ids, want) {
		return fmt.Errorf("removed %v, %w; want %v", ids, err, want)
	}
	for id, disks := range m.pending {
		for disk, hashes := range disks {
			if err := m.checkChunks(c, id, disk, hashes); err != nil {
				return fmt.Errorf("removed point %s, disk %s: %w", id, disk, err)
			}
		}
	}
	return nil
}

// checkKeys wants nothing else to be left of points.
func (m *model) checkKeys(c *Catalog) error {
	live := len(m.live())
	want := map[byte]int{keyPoint: live, keyTrashed: len(m.points) - live, keyPointVM: len(m.points), keyRemoved: len(m.removed),
		keyPending: len(m.pending), keyImage: 0, keyBlob: 0, keyChunkHash: len(m.chunks), keyPolicy: len(m.policies)}
	for _, p := range m.points {
		want[keyImage] += len(p.chunks)
		want[keyBlob] += len(p.blobs)
	}
	for _, disks := range m.pending {
		want[keyImage] += len(disks)
	}
	for kind := range want {
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

func (m *model) checkPolicies(c *Catalog) error {
	all, err := c.Policies()
	if err != nil || !reflect.DeepEqual(all, m.policies) {
		return fmt.Errorf("policies %v, %w; want %v", all, err, m.policies)
	}
	for vm, want := range m.policies {
		if p, err := c.Policy(vm); err != nil || !reflect.DeepEqual(p, want) {
			return fmt.Errorf("policy of %s: %+v, %w; want %+v", vm, p, err, want)
		}
	}
	return nil
}

// checkRefs compares the reference counts, all of them.
func (m *model) checkRefs(c *Catalog) error {
	want, refs, total := m.counts(), newRefReader(c.db), uint64(0)
	for h, n := range want {
		total += n
		no, err := chunkByHash(c.db, chunkHashKey(h))
		if err != nil || no == 0 {
			return fmt.Errorf("chunk %x is number %d, %w", h, no, err)
		}
		if got, err := refs.count(no); err != nil || got != n {
			return fmt.Errorf("chunk %d has %d references, %w; want %d", no, got, err, n)
		}
	}
	err := scan(c.db, []byte{keyRefs}, func(_, value []byte) error {
		var counts refCounts
		err := decodeRefs(value, &counts)
		for _, n := range counts {
			total -= uint64(n)
		}
		if err == nil && counts == (refCounts{}) {
			err = errors.New("a page of references without any")
		}
		return err
	})
	if err == nil && total != 0 {
		err = fmt.Errorf("%d references too few", int64(total))
	}
	return err
}

// checkMark wants the runs of every chunk, each once.
func (m *model) checkMark(c *Catalog) error {
	var mu sync.Mutex
	got := map[Run]int{}
	stats, err := c.Mark(context.Background(), func(runs []Run) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range runs {
			got[r]++
		}
	})
	want := map[Run]int{}
	for _, k := range m.chunks {
		for _, r := range k.Runs {
			want[r]++
		}
	}
	if err != nil || !maps.Equal(got, want) || stats.Chunks != int64(len(m.chunks)) || stats.Points != int64(len(m.points)+len(m.pending)) {
		return fmt.Errorf("marked %d kinds of runs, %+v, %w; want %d of %d chunks", len(got), stats, err, len(want), len(m.chunks))
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
	if err := checkResolve(c, want); err != nil {
		return err
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

// checkResolve wants a point found by its time and id unless it is in the trash.
func checkResolve(c *Catalog, want *modelPoint) error {
	byTime, terr := c.Resolve(Ref{VM: want.VM, Point: want.Time.Format(time.RFC3339Nano)})
	byID, ierr := c.Resolve(Ref{VM: want.VM, Point: want.ID})
	if want.Trashed.IsZero() {
		if byTime.ID != want.ID || byID.ID != want.ID {
			return fmt.Errorf("by its time: %s, %w; by its id: %s, %w", byTime.ID, terr, byID.ID, ierr)
		}
		return nil
	}
	if byTime.ID == want.ID || !errors.Is(ierr, ErrNotFound) || !strings.Contains(ierr.Error(), "undelete") {
		return fmt.Errorf("in the trash; by its time: %s, %w; by its id: %s, %w", byTime.ID, terr, byID.ID, ierr)
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
	for _, p := range m.live() {
		p := &p.Point
		if sums[p.VM] == nil {
			sums[p.VM] = &VM{Name: p.VM}
		}
		sums[p.VM].add(p)
	}
	vms, err := c.VMs()
	if err != nil || len(vms) != len(sums) {
		return fmt.Errorf("%d VMs, %w; want %d", len(vms), err, len(sums))
	}
	want := Stats{VMs: len(vms), Trashed: len(m.points) - len(m.live()), Removed: len(m.pending)}
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
		LatestBytes: got.LatestBytes, Trashed: got.Trashed, Removed: got.Removed, LastCommits: got.LastCommits}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("statistics %+v, want %+v", got, want)
	}
	return nil
}
