package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/dedup"
)

// generator makes random points that build on what a model holds.
type generator struct {
	rng   *rand.Rand
	made  int
	kinds map[string]int // of operations done, for a test's log
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
	if g.rng.IntN(3) == 0 {
		g.files(&n)
	}
	n.Manual = g.rng.IntN(5) == 0
	return n
}

// files adds files, some of them what disks came as, and takes all disks away at
// times.
func (g *generator) files(n *NewPoint) {
	if g.rng.IntN(4) == 0 {
		n.Images = nil
	}
	for i, name := range []string{"a.qcow2", "dir/b", "c"}[:1+g.rng.IntN(3)] {
		f := NewFile{FileImage: FileImage{Name: name, Size: int64(g.rng.IntN(3))*dedup.ChunkSize + int64(i)*777,
			WrittenBytes: g.rng.Int64N(1 << 40), NewBytes: int64(g.rng.IntN(9)), StoredBytes: 3}}
		if g.rng.IntN(3) > 0 {
			f.Modified = time.UnixMilli(1 + g.rng.Int64N(1<<40)).UTC()
		}
		if len(n.Images) > 0 && g.rng.IntN(3) > 0 {
			f.Disk = n.Images[g.rng.IntN(len(n.Images))].Disk
		}
		for c := range chunkCount(f.Size) {
			ref := g.chunk(nil, int(c), chunkLength(f.Size, int(c)))
			if ref.New != nil && chunkLength(f.Size, int(c)) < dedup.ChunkSize/2 {
				ref.New.Runs = []Run{{0, 1, dedup.MakeAddr(1, 1)}}
				ref.New.Hash[1] = 0xf1
			}
			f.Chunks = append(f.Chunks, ref)
		}
		n.Files = append(n.Files, f)
	}
	slices.Reverse(n.Files)
}

func (g *generator) image(m *model, c *Catalog, vm, disk string) NewImage {
	im := NewImage{Image: Image{Disk: disk, Mode: Full, WrittenBytes: g.rng.Int64N(1 << 40), NewBytes: int64(g.rng.IntN(9))}}
	im.Size = int64(1+g.rng.IntN(5))*dedup.ChunkSize - int64(g.rng.IntN(2))*100_000
	var old []ChunkNo
	if p := g.parent(m, vm, disk); p != nil && g.rng.IntN(4) > 0 {
		im.Mode, im.Parent, im.Size, im.Checkpoint = Incremental, p.ID, p.image(disk).Size, "cp-"+p.ID
		old, _ = c.ChunkList(p.ID, disk)
	}
	for i := range chunkCount(im.Size) {
		im.Chunks = append(im.Chunks, g.chunk(old, int(i), chunkLength(im.Size, int(i))))
	}
	return im
}

// parent is mostly the newest point of the VM that has the disk.
func (g *generator) parent(m *model, vm, disk string) *modelPoint {
	var have []*modelPoint
	for i := range m.points {
		if p := &m.points[i]; p.VM == vm && p.has(disk) {
			have = append(have, p)
		}
	}
	switch {
	case len(have) == 0:
		return nil
	case g.rng.IntN(4) == 0:
		return have[g.rng.IntN(len(have))]
	}
	return have[len(have)-1]
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

// op is one thing done to a catalog.
type op struct {
	kind  string
	n     *NewPoint
	id    string
	ids   []string
	when  time.Time
	why   string
	merge MergeRequest
	vm    string
	rules Policy
}

func (o *op) do(c *Catalog) (err error) {
	switch o.kind {
	case "commit":
		_, err = c.Commit(*o.n)
	case "remove":
		err = c.Remove(o.id)
	case "trash":
		err = c.Trash(o.id, o.when)
	case "undelete":
		err = c.Undelete(o.id)
	case "hold":
		err = c.Hold(o.id, o.why)
	case "release":
		err = c.Release(o.id)
	case "lock":
		err = c.Lock(o.id, o.when)
	case "merge":
		_, err = c.Merge(o.merge)
	case "policy":
		err = c.SetPolicy(o.vm, o.rules)
	case "forget":
		err = c.Forget(o.ids...)
	}
	return err
}

// verdict is the error op must meet, nil for none.
func (o *op) verdict(m *model, now time.Time) error {
	p := m.find(o.id)
	switch o.kind {
	case "commit", "policy", "forget":
		return nil
	case "merge":
		return m.mergeVerdict(o.merge, now)
	}
	switch trashed := p != nil && !p.Trashed.IsZero(); {
	case p == nil:
		return ErrNotFound
	case o.kind == "remove", o.kind == "trash" && !trashed:
		return mustStay(p, now)
	case o.kind == "lock" && o.when.Before(p.LockedUntil):
		return ErrLocked
	case o.kind == "lock" && !o.when.After(now) && !o.when.Equal(p.LockedUntil):
		return ErrInvalid
	case (o.kind == "hold" || o.kind == "lock") && trashed:
		return ErrInvalid
	}
	return nil
}

func mustStay(p *modelPoint, now time.Time) error {
	switch {
	case p.Hold != "":
		return ErrHeld
	case p.LockedUntil.After(now):
		return ErrLocked
	}
	return nil
}

func (m *model) mergeVerdict(r MergeRequest, now time.Time) error {
	into, from := m.find(r.Into), m.find(r.From)
	switch {
	case into != nil && into.VM != r.VM:
		return ErrInvalid
	case into == nil || !into.has(r.Disk):
		return ErrNotFound
	case !into.Trashed.IsZero() || from != nil && from.VM != r.VM:
		return ErrInvalid
	case from == nil || !from.has(r.Disk):
		if into.image(r.Disk).MergedFrom == r.From {
			return nil
		}
		return ErrNotFound
	case !from.Trashed.IsZero() || from == into:
		return ErrInvalid
	}
	line := m.line(r.Disk, r.From, r.Into)
	if line == nil {
		if line = m.line(r.Disk, r.Into, r.From); line == nil {
			return ErrInvalid
		}
		line = line[1:]
	}
	for _, id := range line {
		if !m.find(id).Trashed.IsZero() {
			return ErrInvalid
		}
	}
	for i := range line { // whichever is looked at first
		if err := mustStay(m.find(line[i]), now); err != nil {
			return errStays
		}
	}
	return nil
}

// errStays stands for ErrHeld or ErrLocked.
var errStays = errors.New("held or locked")

func isVerdict(err, want error) bool {
	if want == errStays {
		return errors.Is(err, ErrHeld) || errors.Is(err, ErrLocked)
	}
	return errors.Is(err, want)
}

// next is what op makes of a model; times are the catalog's, which did it.
func (o *op) next(m *model, c *Catalog) *model {
	id := o.id
	switch o.kind {
	case "commit":
		id = o.n.ID
	case "merge":
		id = o.merge.Into
	}
	is, _ := c.Point(id)
	switch o.kind {
	case "commit":
		return m.with(o.n, is, hashOf(c))
	case "remove":
		return m.without(o.id)
	case "forget":
		return m.forgotten(o.ids...)
	case "merge":
		if from := m.find(o.merge.From); from == nil || !from.has(o.merge.Disk) || is.image(o.merge.Disk) == nil {
			return m
		}
		return m.merged(o.merge, is.image(o.merge.Disk).Merged)
	}
	next := m.clone()
	p := next.find(o.id)
	switch o.kind {
	case "trash":
		if p.Trashed.IsZero() {
			p.Trashed, p.Purge = is.Trashed, o.when
		}
	case "undelete":
		p.Trashed, p.Purge = time.Time{}, time.Time{}
	case "hold":
		p.Hold = o.why
	case "release":
		p.Hold = ""
	case "lock":
		p.LockedUntil = o.when
	case "policy":
		next.policies[o.vm] = o.rules
		if reflect.DeepEqual(o.rules, Policy{}) {
			delete(next.policies, o.vm)
		}
	}
	return next
}

// op makes up something to do, mostly something that can be done.
func (g *generator) op(m *model, c *Catalog, now time.Time) *op {
	kinds := []string{"remove", "remove", "trash", "trash", "undelete", "hold", "release", "release", "lock", "merge", "merge", "merge", "policy", "forget", "forget"}
	kind := kinds[g.rng.IntN(len(kinds))]
	if len(m.points) == 0 || g.rng.IntN(2) == 0 {
		n := g.point(m, c)
		return &op{kind: "commit", n: &n}
	}
	o := &op{kind: kind, id: m.points[g.rng.IntN(len(m.points))].ID, when: now.Add(time.Duration(1+g.rng.IntN(48)) * time.Hour).Truncate(time.Millisecond)}
	switch kind {
	case "remove", "trash", "undelete":
		if len(m.removed) > 0 && g.rng.IntN(10) == 0 {
			o.id = m.removed[0]
		}
	case "hold":
		o.why = fmt.Sprintf("case %d", g.rng.IntN(9))
	case "lock":
		if g.rng.IntN(5) == 0 {
			o.when = now.Add(-time.Hour).Truncate(time.Millisecond)
		}
	case "forget":
		o.ids = append([]string{}, slices.Sorted(maps.Keys(m.pending))...)
		o.ids = o.ids[:g.rng.IntN(len(o.ids)+1)]
	case "policy":
		o.vm, o.rules = fmt.Sprintf("vm%d", g.rng.IntN(3)), g.policy()
	case "merge":
		o.merge = g.merge(m)
	}
	return o
}

func (g *generator) policy() (p Policy) {
	if n := g.rng.IntN(40); n > 9 {
		strict := n%2 == 0
		p.FullAfter, p.StrictChains = &n, &strict
		p.Keep = &retention.Keep{Last: n}
		p.LabelKeep = map[string]retention.Keep{"job=nightly": {Daily: n}}
	}
	return p
}

// merge mostly chooses two images of one line.
func (g *generator) merge(m *model) (r MergeRequest) {
	p := &m.points[g.rng.IntN(len(m.points))]
	if len(p.Images) == 0 {
		return r
	}
	r = MergeRequest{VM: p.VM, Disk: p.Images[g.rng.IntN(len(p.Images))].Disk, From: p.ID, Into: p.ID}
	for range 1 + g.rng.IntN(4) {
		if parent := m.find(r.Into).image(r.Disk).Parent; parent != "" {
			r.Into = parent
		}
	}
	if g.rng.IntN(8) == 0 {
		r.Into = m.points[g.rng.IntN(len(m.points))].ID
	}
	if g.rng.IntN(2) == 0 {
		r.From, r.Into = r.Into, r.From
	}
	return r
}

// testTime is a clock that goes on by a second each time it is read, and jumps.
type testTime struct{ now time.Time }

func (t *testTime) read() time.Time {
	t.now = t.now.Add(time.Second)
	return t.now
}

// seeds are those of a test's runs: STRONGROOM_SEED alone, or n of them; with
// STRONGROOM_SOAK=k, k times as many.
func seeds(t testing.TB, n uint64) (list []uint64) {
	if raceEnabled {
		n = (n + 4) / 5
	}
	number := func(name string) (uint64, bool) {
		s := os.Getenv(name)
		if s == "" {
			return 0, false
		}
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: %v", name, s, err)
		}
		return v, true
	}
	if seed, ok := number("STRONGROOM_SEED"); ok {
		return []uint64{seed}
	}
	if k, ok := number("STRONGROOM_SOAK"); ok {
		n *= k
	}
	for seed := range n {
		list = append(list, seed)
	}
	return list
}

// TestHistories runs random histories of everything that can be done against
// the model, with restarts and lost databases between. A failure names its
// seed: STRONGROOM_SEED repeats it.
func TestHistories(t *testing.T) {
	kinds := map[string]int{}
	for _, seed := range seeds(t, 10) {
		history(t, seed, kinds)
	}
	t.Logf("done: %v", kinds)
}

func history(t *testing.T, seed uint64, kinds map[string]int) {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 1)), kinds: kinds}
	fs, m := newFS(), newModel()
	o := testOptions(fs)
	clock := &testTime{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	o.Clock = clock.read
	o.LogFileBytes = int64(1 + g.rng.IntN(50000))
	o.CacheBytes = int64(1 + g.rng.IntN(20000))
	o.idle = seed%2 == 0 // else the accounts work beside
	var before string
	for session := range 8 {
		what := fmt.Sprintf("STRONGROOM_SEED=%d, session %d", seed, session)
		if g.rng.IntN(3) == 0 {
			what += ", rebuilt"
			if err := fs.RemoveAll(o.Dir); err != nil {
				t.Fatal(err)
			}
		}
		c := mustOpen(t, o)
		if m = m.forgotten(); session > 0 {
			if got := dump(t, c); got != before {
				t.Fatalf("%s: after open\n%s\nbefore\n%s", what, got, before)
			}
		}
		if err := m.check(c); err != nil {
			t.Fatalf("%s: after open: %v", what, err)
		}
		c.commit.app.limit = 1 + g.rng.IntN(batchBytes) // records go ahead of their point, or not
		c.commit.app.step = 1 + g.rng.IntN(20)          // of forgetting
		for i := range g.rng.IntN(80) {
			m = step(t, g, m, c)
			if g.rng.IntN(10) == 0 {
				clock.now = clock.now.Add(time.Duration(g.rng.IntN(30)) * time.Hour)
			}
			if i%16 == 0 {
				if err := m.check(c); err != nil {
					t.Fatalf("%s, step %d: %v", what, i, err)
				}
			}
		}
		if err := m.check(c); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		forgetRemoved(t, c)
		before = dump(t, c)
		mustClose(t, c)
	}
}

// step does one random thing, or has it refused as the model says.
func step(t *testing.T, g *generator, m *model, c *Catalog) *model {
	t.Helper()
	now := c.o.Clock()
	o := g.op(m, c, now)
	want := o.verdict(m, now)
	err := o.do(c)
	if !isVerdict(err, want) {
		t.Fatalf("%+v: %v; want %v", o, err, want)
	}
	g.count(o, err)
	if err != nil {
		return m
	}
	next := o.next(m, c)
	if o.kind == "commit" {
		p := &next.points[len(next.points)-1]
		if want := p.expected(o.n, p.Time); !reflect.DeepEqual(p.Point, want) {
			t.Fatalf("committed\n%+v, want\n%+v", p.Point, want)
		}
	}
	return next
}

func (g *generator) count(o *op, err error) {
	if g.kinds == nil {
		return
	}
	if g.kinds[o.kind]++; err != nil {
		g.kinds[o.kind+" refused"]++
	}
}
