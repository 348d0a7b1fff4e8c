package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// fakeStore says what blocks take, and changes its mind.
type fakeStore struct {
	mu       sync.Mutex
	versions map[uint64]uint64
	calls    int // blocks asked for
}

func newFakeStore() *fakeStore { return &fakeStore{versions: map[uint64]uint64{}} }

func (f *fakeStore) stored(a dedup.Addr) uint32 {
	v := f.versions[a.Pack()]
	if v%5 == 4 { // the pack is missing
		return 0
	}
	return uint32((uint64(a)*2654435761+v*977)%70_000) + 1
}

func (f *fakeStore) StoredBytes(addrs []dedup.Addr, out []uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, a := range addrs {
		out[i] = f.stored(a)
	}
	f.calls += len(addrs)
	return nil
}

func (f *fakeStore) PackVersion(pack uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.versions[pack]
}

// compact changes what the blocks of a pack take.
func (f *fakeStore) compact(pack uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.versions[pack]++
	f.versions[0]++
}

// brute finds usages out the long way.
type brute struct {
	store  *fakeStore
	images map[string][]ChunkNo // "point disk" → chunks; those of all points not forgotten
	known  map[string]Point     // live and in the trash
	refs   map[ChunkNo]int      // by all images
	runs   map[ChunkNo][]Run
	slots  map[dedup.Addr]int // references by all chunks with references
}

func newBrute(c *Catalog, store *fakeStore) (*brute, error) {
	b := &brute{store: store, images: map[string][]ChunkNo{}, known: map[string]Point{}, refs: map[ChunkNo]int{},
		runs: map[ChunkNo][]Run{}, slots: map[dedup.Addr]int{}}
	points, err := c.Points("")
	if err != nil {
		return nil, err
	}
	trash, err := c.TrashList()
	if err != nil {
		return nil, err
	}
	for _, p := range append(points, trash...) {
		b.known[p.ID] = p
	}
	removed, err := c.Removed()
	if err != nil {
		return nil, err
	}
	err = scan(c.db, []byte{keyImage}, func(key, value []byte) error {
		id, disk, err := splitPart(key)
		if err != nil {
			return err
		}
		if _, ok := b.known[id]; !ok && !slices.Contains(removed, id) {
			return nil
		}
		list, err := decodeChunkList(value)
		b.images[id+" "+disk] = list
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, b.count(c)
}

func (b *brute) count(c *Catalog) error {
	for _, list := range b.images {
		for _, no := range list {
			if no != 0 {
				b.refs[no]++
			}
		}
	}
	for no := range b.refs {
		v, err := get(c.db, chunkKey(no))
		if err != nil {
			return fmt.Errorf("chunk %d: %w", no, err)
		}
		k, err := decodeChunk(v)
		if err != nil {
			return err
		}
		b.runs[no] = k.Runs
		for _, a := range addresses(k.Runs) {
			b.slots[a]++
		}
	}
	return nil
}

// addresses are those of all blocks, one for each time there is one.
func addresses(runs []Run) (all []dedup.Addr) {
	for _, r := range runs {
		for i := range dedup.Addr(r.Count) {
			all = append(all, r.Addr+i)
		}
	}
	return all
}

// usage is that of some images, named as in b.images.
func (b *brute) usage(names []string) (u Usage) {
	refs, slots := map[ChunkNo]int{}, map[dedup.Addr]int{}
	for _, name := range names {
		for _, no := range b.images[name] {
			if no != 0 {
				refs[no]++
			}
		}
		u.describe(b.described(name))
	}
	for no, n := range refs {
		for _, a := range addresses(b.runs[no]) {
			if slots[a] += 0; n == b.refs[no] {
				slots[a]++
			}
		}
	}
	for a, n := range slots {
		stored := int64(b.store.stored(a))
		if u.Stored += stored; n == b.slots[a] {
			u.Unique += dedup.BlockSize
			u.UniqueStored += stored
		} else {
			u.Shared += dedup.BlockSize
			u.SharedStored += stored
		}
	}
	return u
}

func (b *brute) described(name string) *Usage {
	id, disk, _ := strings.Cut(name, " ")
	p := b.known[id]
	im := p.image(disk)
	return &Usage{Logical: im.Size, Transferred: im.WrittenBytes, New: im.NewBytes}
}

// names are the images of known points for which pick is true.
func (b *brute) names(pick func(p *Point, disk string) bool) (names []string) {
	for name := range b.images {
		id, disk, _ := strings.Cut(name, " ")
		if p, ok := b.known[id]; ok && pick(&p, disk) {
			names = append(names, name)
		}
	}
	return names
}

// everything is what StoreUsage should say.
func (b *brute) everything() (u Usage) {
	for _, name := range b.names(func(*Point, string) bool { return true }) {
		u.describe(b.described(name))
	}
	for a := range b.slots {
		u.Unique += dedup.BlockSize
		u.UniqueStored += int64(b.store.stored(a))
	}
	u.Stored = u.UniqueStored
	return u
}

// check compares all answers.
func (b *brute) check(c *Catalog, rng *rand.Rand) error {
	b.store.mu.Lock()
	want := map[string]Usage{"store": b.everything()}
	got := map[string]Usage{}
	ask := []func() error{func() (err error) { got["store"], err = c.StoreUsage(); return err }}
	disks := map[[2]string]bool{}
	for id, p := range b.known {
		want[id] = b.usage(b.names(func(p *Point, _ string) bool { return p.ID == id }))
		ask = append(ask, func() (err error) { got[id], err = c.Usage(id); return err })
		for _, im := range p.Images {
			disks[[2]string{p.VM, im.Disk}] = true
		}
	}
	var some []string
	for id := range b.known {
		if rng.IntN(2) == 0 {
			some = append(some, id, id)
		}
	}
	want["some"] = b.usage(b.names(func(p *Point, _ string) bool { return slices.Contains(some, p.ID) }))
	ask = append(ask, func() (err error) { got["some"], err = c.Usage(some...); return err })
	for d := range disks {
		vm, disk := d[0], d[1]
		want[vm] = b.usage(b.names(func(p *Point, _ string) bool { return p.VM == vm }))
		ask = append(ask, func() (err error) { got[vm], err = c.VMUsage(vm); return err })
		name := vm + "/" + disk
		ofDisk := b.names(func(p *Point, d string) bool { return p.VM == vm && d == disk })
		want[name] = b.usage(ofDisk)
		for _, image := range ofDisk {
			id, _, _ := strings.Cut(image, " ")
			want[name+"@"+id] = b.usage([]string{image})
		}
		ask = append(ask, func() (err error) { got[name], err = c.DiskUsage(vm, disk); return err }, func() error {
			chain, err := c.ChainUsage(vm, disk)
			for id, u := range chain {
				got[name+"@"+id] = u
			}
			return err
		})
	}
	b.store.mu.Unlock()
	for _, i := range rng.Perm(len(ask)) {
		if err := ask[i](); err != nil {
			return err
		}
	}
	for what, u := range want {
		if got[what] != u {
			return fmt.Errorf("%s:\n%+v, want\n%+v", what, got[what], u)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d answers, want %d", len(got), len(want))
	}
	return b.checkPages(c)
}

// checkPages compares every count.
func (b *brute) checkPages(c *Catalog) error {
	s, err := getAccountState(c.db)
	if err != nil {
		return err
	}
	n := 0
	err = scan(c.db, []byte{keyAccounts, s.epoch}, func(key, value []byte) error {
		runs, err := decodePage(nil, value)
		pack := uint64(0)
		for _, k := range key[2:] {
			pack = pack<<8 | uint64(k)
		}
		for _, r := range runs {
			for slot := r.first; slot < r.first+r.n; slot++ {
				n++
				if a := dedup.MakeAddr(pack, uint16(slot)); uint64(b.slots[a]) != r.count {
					return fmt.Errorf("block %s has %d references, counted %d", a, b.slots[a], r.count)
				}
			}
		}
		return err
	})
	if err == nil && (n != len(b.slots) || s.live != uint64(n)) {
		err = fmt.Errorf("%d slots counted, %d in all; there are %d", n, s.live, len(b.slots))
	}
	if err != nil {
		return err
	}
	if other := (1 - s.epoch); s.epoch <= 1 {
		err = scan(c.db, []byte{keyAccounts, other}, func(_, _ []byte) error { return fmt.Errorf("pages of epoch %d", other) })
	}
	if err != nil {
		return err
	}
	return scan(c.db, []byte{keyChunk}, func(key, _ []byte) error {
		no := ChunkNo(0)
		for _, k := range key[1:] {
			no = no<<8 | ChunkNo(k)
		}
		if b.refs[no] == 0 {
			return fmt.Errorf("chunk %d is dead and still recorded", no)
		}
		return nil
	})
}

// accountant makes random histories in which much is shared.
type accountant struct {
	rng   *rand.Rand
	store *fakeStore
	made  int
	kinds [8]int
}

// chunk has few blocks at few addresses, and its hash is made of them.
func (g *accountant) chunk() *Chunk {
	var runs []Run
	for block := g.rng.IntN(4); block < 30 && len(runs) < 6; {
		n := 1 + g.rng.IntN(4)
		a := dedup.MakeAddr(1+g.rng.Uint64N(4), uint16(g.rng.IntN(24)))
		if g.rng.IntN(30) == 0 {
			a = dedup.MakeAddr(a.Pack(), uint16(pageSlots-n))
		}
		runs = append(runs, Run{uint16(block), uint16(n), a})
		block += n + 1 + g.rng.IntN(3)
	}
	k := testChunk(0, runs...)
	copy(k.Hash[:], fmt.Appendf(nil, "%v", runs))
	for i, r := range runs {
		k.Hash[8+i%24] ^= byte(r.Addr) + byte(r.Addr>>16)*31 + byte(r.Start)*7 + byte(r.Count)
	}
	return k
}

func (g *accountant) point(c *Catalog) NewPoint {
	g.made++
	n := NewPoint{ID: testID(g.made), VM: fmt.Sprintf("vm%d", g.rng.IntN(2))}
	for _, d := range g.rng.Perm(2)[:1+g.rng.IntN(2)] {
		disk := fmt.Sprintf("vd%c", 'a'+d)
		im := NewImage{Image: Image{Disk: disk, Mode: Full, WrittenBytes: g.rng.Int64N(1000), NewBytes: g.rng.Int64N(1000)}}
		var old []ChunkNo
		if all, _ := c.Points(n.VM); len(all) > 0 && g.rng.IntN(5) > 0 {
			if p := all[g.rng.IntN(len(all))]; p.has(disk) {
				im.Mode, im.Parent = Incremental, p.ID
				old, _ = c.ChunkList(p.ID, disk)
			}
		}
		chunks := 1 + g.rng.IntN(8)
		im.Size = int64(chunks) * dedup.ChunkSize
		for i := range chunks {
			im.Chunks = append(im.Chunks, g.ref(old, i, im.Chunks))
		}
		n.Images = append(n.Images, im)
	}
	return n
}

func (g *accountant) ref(old []ChunkNo, i int, before []ChunkRef) ChunkRef {
	switch k := g.rng.IntN(10); {
	case i < len(old) && k < 6:
		return ChunkRef{No: old[i]}
	case len(old) > 0 && k < 7:
		return ChunkRef{No: old[g.rng.IntN(len(old))]}
	case i > 0 && k < 8:
		return before[g.rng.IntN(i)]
	case k < 9:
		return ChunkRef{New: g.chunk()}
	}
	return ChunkRef{}
}

// step does one random thing.
func (g *accountant) step(c *Catalog) error {
	live, err := c.Points("")
	if err != nil {
		return err
	}
	kind := g.rng.IntN(len(g.kinds))
	if len(live) == 0 {
		kind = 0
	}
	g.kinds[kind]++
	pick := func() *Point { return &live[g.rng.IntN(len(live))] }
	switch kind {
	case 1:
		if len(live) > 3 {
			return c.Remove(pick().ID)
		}
	case 2:
		return c.Trash(pick().ID, time.Now().Add(time.Hour))
	case 3:
		trash, err := c.TrashList()
		if err != nil || len(trash) == 0 {
			return err
		}
		id := trash[g.rng.IntN(len(trash))].ID
		if g.rng.IntN(2) == 0 {
			return c.Remove(id)
		}
		return c.Undelete(id)
	case 4:
		removed, err := c.Removed()
		if err != nil || len(removed) == 0 {
			return err
		}
		return c.Forget(removed[:1+g.rng.IntN(len(removed))]...)
	case 5:
		return g.merge(c, pick())
	case 6:
		g.store.compact(1 + g.rng.Uint64N(4))
		return nil
	}
	_, err = c.Commit(g.point(c))
	return err
}

// merge takes a point and its parent together, one way or the other.
func (g *accountant) merge(c *Catalog, p *Point) error {
	im := &p.Images[g.rng.IntN(len(p.Images))]
	parent, err := c.Point(im.Parent)
	if im.Parent == "" || err != nil || !parent.Trashed.IsZero() {
		return nil
	}
	m := MergeRequest{VM: p.VM, Disk: im.Disk, From: p.ID, Into: im.Parent}
	if g.rng.IntN(2) == 0 {
		m.From, m.Into = m.Into, m.From
	}
	_, err = c.Merge(m)
	return err
}
