package dedup

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// sealAll seals every pack nobody writes to.
func sealAll(t testing.TB, s *Store) {
	t.Helper()
	s.seals.Wait()
	if _, err := s.SealIdle(0); err != nil {
		t.Fatal(err)
	}
}

// storeSealed puts contents, one Put each, with a writer of its own and seals the packs.
func storeSealed(t testing.TB, s *Store, parts ...[]uint64) (addrs []Addr) {
	t.Helper()
	w := s.NewWriter()
	for _, ns := range parts {
		a, _ := mustPut(t, w, blocks(ns...), nil)
		addrs = append(addrs, a...)
	}
	mustSync(t, w)
	w.Close()
	sealAll(t, s)
	return addrs
}

// collect keeps the given blocks and sweeps the rest.
func collect(t testing.TB, s *Store, live []Addr, o SweepOptions) (Tally, SweepProgress) {
	t.Helper()
	c, err := s.BeginCollection()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, a := range live {
		c.Mark(a, 1)
	}
	tally := c.Tally()
	p, err := c.Sweep(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return tally, p
}

// tierFiles is the sizes of all pack files on the tier, by generation.
func tierFiles(t testing.TB, s *Store) map[tier.ID]int64 {
	t.Helper()
	s.spare.pending.Wait()
	ids, err := s.tier.List()
	if err != nil {
		t.Fatal(err)
	}
	sizes := make(map[tier.ID]int64)
	for _, id := range ids {
		if s.spare.file != nil && id == s.spare.id {
			continue
		}
		f, err := s.tier.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		n, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		sizes[id] = n
		f.Close()
	}
	return sizes
}

func sum(sizes map[tier.ID]int64) (n int64) {
	for _, size := range sizes {
		n += size
	}
	return n
}

// checkGone reads addresses that are not there any more.
func checkGone(t testing.TB, s *Store, addrs []Addr) {
	t.Helper()
	for _, a := range addrs {
		if err := s.Read([]Addr{a}, make([]byte, BlockSize)); !errors.Is(err, ErrUnknownAddr) {
			t.Errorf("read of %v: %v, want ErrUnknownAddr", a, err)
		}
	}
}

func evens(addrs []Addr) (even, odd []Addr) {
	for i, a := range addrs {
		if i%2 == 0 {
			even = append(even, a)
		} else {
			odd = append(odd, a)
		}
	}
	return even, odd
}

func TestMarks(t *testing.T) {
	m := newMarks()
	m.add(7, &packRecord{slots: 200, next: 200, bytes: 1}, false)
	m.add(9, &packRecord{slots: 3, next: 70, holes: []byte{1, 0, 0, 0, 0, 0, 0, 0, 34}, bytes: 1}, false)
	m.begin()
	for _, r := range [][2]int{{0, 1}, {63, 65}, {60, 200}, {0, 64}, {64, 128}, {199, 200}, {5, 5}} {
		clear(m.words)
		c := m.of(7)
		if u := m.set(c, r[0], r[1]); u != 0 {
			t.Errorf("%v: %d unknown", r, u)
		}
		got := m.bits(c)
		for i := range uint16(200) {
			if want := int(i) >= r[0] && int(i) < r[1]; hasBit(got, i) != want {
				t.Errorf("%v: slot %d is marked: %v", r, i, !want)
			}
		}
		if m.words[4].Load() != 0 {
			t.Errorf("%v: a neighbour's bits are set", r)
		}
	}
	c := m.of(9)
	if u := m.set(c, 60, 80); u != 10 {
		t.Errorf("%d slots beyond the end, want 10", u)
	}
	if e := c.exists(); !hasBit(e, 0) || !hasBit(e, 65) || !hasBit(e, 69) || countBits(e) != 3 {
		t.Errorf("slots %x", e)
	}
	if m.of(8) != nil {
		t.Error("a candidate that is none")
	}
}

func TestCollectNothingDead(t *testing.T) {
	s, _ := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 60))
	before := tierFiles(t, s)
	tally, p := collect(t, s, addrs, SweepOptions{})
	if tally.Slots != 60 || tally.DeadSlots != 0 || tally.DeadBytes != 0 || tally.UnknownMarks != 0 || tally.LiveBytes != tally.Bytes || p.Victims != 0 {
		t.Errorf("tally %+v, progress %+v", tally, p)
	}
	if after := tierFiles(t, s); sum(after) != sum(before) || len(after) != len(before) {
		t.Errorf("files %v, before %v", after, before)
	}
	checkRead(t, s, addrs, blocks(count(1, 60)...))
}

func TestCollectWholePacks(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 60))
	files := tierFiles(t, s)
	if st := s.Stats(); st.PackBytes != sum(files) {
		t.Errorf("PackBytes %d, files have %d", st.PackBytes, sum(files))
	}
	highest := s.packs.highest()
	var kept, dead []Addr
	for _, a := range addrs {
		if a.Pack() == 2 {
			kept = append(kept, a)
		} else {
			dead = append(dead, a)
		}
	}
	var told []SweepProgress
	tally, p := collect(t, s, kept, SweepOptions{Progress: func(p SweepProgress) { told = append(told, p) }})
	if tally.LiveSlots != int64(len(kept)) || tally.DeadSlots != int64(len(dead)) {
		t.Errorf("tally %+v", tally)
	}
	if p.Done != p.Victims || p.CondemnedBytes != p.TotalBytes || p.TotalBytes != tally.DeadBytes || len(told) == 0 {
		t.Errorf("progress %+v, told %d times", p, len(told))
	}
	after := tierFiles(t, s)
	if len(after) != 2 || p.FreedBytes != sum(files)-sum(after) {
		t.Errorf("files %v, freed %d of %d", after, p.FreedBytes, sum(files))
	}
	if after[tier.ID{Pack: highest, Gen: 1}] == 0 {
		t.Errorf("the highest pack is not compacted to nothing: %v", after)
	}
	if st := s.Stats(); st.PackBytes != sum(after) || st.PacksRemoved != uint64(len(files)-2) || st.FreedBytes != uint64(p.FreedBytes) || st.Packs != 2 {
		t.Errorf("stats %+v", st)
	}
	checkGone(t, s, dead)
	var ns []uint64
	for i, a := range addrs {
		if a.Pack() == 2 {
			ns = append(ns, uint64(i+1))
		}
	}
	check := func() {
		t.Helper()
		checkRead(t, s, kept, blocks(ns...))
		w := s.NewWriter()
		defer w.Close()
		again, r := mustPut(t, w, blocks(count(1, 60)...), addrs)
		if int(r.New) > len(dead) {
			t.Errorf("put again: %+v", r)
		}
		for i, a := range again {
			if a != addrs[i] && a.Pack() <= highest {
				t.Errorf("a block came back at %v", a)
			}
		}
		checkRead(t, s, again, blocks(count(1, 60)...))
	}
	check()
	closeTest(t, s)
	s = openTest(t, o)
	defer func() { closeTest(t, s) }()
	check()
}

// TestIndexForgets: the index must not grow with every pack there ever was.
func TestIndexForgets(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 40))
	half, _ := evens(addrs)
	collect(t, s, half[:3], SweepOptions{})
	keys := 0
	it, err := s.index.db.NewIter(nil)
	must2(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		if it.Key()[0] == 'b' {
			keys++
		}
	}
	must2(t, it.Close())
	if keys != 3 {
		t.Errorf("%d blocks in the index, want 3", keys)
	}
	closeTest(t, s)
}

func must2(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCompaction(t *testing.T) {
	for name, keep := range map[string]func(i int) bool{
		"every other":       func(i int) bool { return i%2 == 0 },
		"one of four":       func(i int) bool { return i%4 == 1 },
		"three of four":     func(i int) bool { return i%4 != 2 },
		"a run":             func(i int) bool { return i > 8 && i < 20 },
		"the last":          func(i int) bool { return i == 59 },
		"mixed frames":      func(i int) bool { return i%8 < 3 || i%8 == 4 },
		"all but the first": func(i int) bool { return i != 0 },
	} {
		t.Run(name, func(t *testing.T) {
			fs := crashfs.New()
			o := testOptions(t, fs)
			s := openTest(t, o)
			addrs := storeSealed(t, s, count(1, 60))
			var live, dead []Addr
			var ns []uint64
			for i, a := range addrs {
				if keep(i) {
					live, ns = append(live, a), append(ns, uint64(i+1))
				} else {
					dead = append(dead, a)
				}
			}
			before := tierFiles(t, s)
			_, p := collect(t, s, live, SweepOptions{})
			after := tierFiles(t, s)
			if p.MovedBytes == 0 || p.FreedBytes != sum(before)-sum(after) || s.Stats().PackBytes != sum(after) {
				t.Errorf("%+v; files %v, before %v; PackBytes %d", p, after, before, s.Stats().PackBytes)
			}
			for id := range after {
				if id.Gen != 1 && before[id] != after[id] {
					t.Errorf("unexpected %v", id)
				}
			}
			check := func() {
				t.Helper()
				checkRead(t, s, live, blocks(ns...))
				checkGone(t, s, dead)
				checkWhole(t, s)
			}
			check()
			// A second collection of the same has nothing to do, and one that
			// takes more away works on what the first has left.
			if _, p := collect(t, s, live, SweepOptions{}); p.Victims != 0 {
				t.Errorf("again: %+v", p)
			}
			collect(t, s, live[:1], SweepOptions{})
			dead = append(dead, live[1:]...)
			live, ns = live[:1], ns[:1]
			check()
			closeTest(t, s)
			s = openTest(t, o)
			check()
			closeTest(t, s)
			must2(t, fs.RemoveAll(indexDir))
			s = openTest(t, o)
			check()
			closeTest(t, s)
		})
	}
}

// checkWhole verifies every pack.
func checkWhole(t testing.TB, s *Store) {
	t.Helper()
	var packs []uint64
	must2(t, s.Packs(func(p PackInfo) bool { packs = append(packs, p.ID.Pack); return true }))
	if !slices.IsSorted(packs) {
		t.Errorf("packs %v", packs)
	}
	for _, pack := range packs {
		r, err := s.VerifyPack(context.Background(), pack, nil)
		if err != nil || !r.Whole || r.Unreadable != nil || len(r.Damaged) > 0 {
			t.Errorf("pack %d: %+v, %v", pack, r, err)
		}
	}
}

// TestCompactionKeepsFrames copies what is mostly alive as it is, and the
// format's other decoder reads it.
func TestCompactionKeepsFrames(t *testing.T) {
	s, fs := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 8)) // two frames
	if addrs[7].Pack() != 1 {
		t.Fatal("not one pack")
	}
	old := readFile(t, fs, packPath(1))
	live := append(slices.Clone(addrs[:3]), addrs[5], addrs[6]) // three of the first, two of the second
	collect(t, s, live, SweepOptions{})
	pack := readFile(t, fs, genPath(1, 1))
	v, err := s.view(1)
	must2(t, err)
	if len(v.frames) != 2 || v.frames[0].count != 4 || v.frames[1].count != 2 || v.id.Gen != 1 {
		t.Errorf("frames %+v", v.frames)
	}
	f := v.frames[0]
	if !bytes.Equal(old[f.dataOffset():f.end()], pack[f.dataOffset():f.end()]) {
		t.Error("the payload of a frame that was copied has changed")
	}
	checkRead(t, s, live, blocks(1, 2, 3, 6, 7))
}

func genPath(pack uint64, gen int) string {
	p := packPath(pack)
	return p[:len(p)-len("0.pack")] + string(rune('0'+gen)) + ".pack"
}

func TestDeadRatioAndOrder(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	s := openTest(t, o)
	defer closeTest(t, s)
	addrs := storeSealed(t, s, count(1, 120))
	kept := map[uint64]int{} // of pack n so many blocks stay
	var live []Addr
	for _, a := range addrs {
		if a.Pack()%3 != 0 && kept[a.Pack()] < int(a.Pack()%3) {
			kept[a.Pack()]++
			live = append(live, a)
		}
	}
	_, p := collect(t, s, live, SweepOptions{DeadRatio: 1})
	for id := range tierFiles(t, s) {
		if id.Pack%3 == 0 && id.Pack != s.packs.highest() || id.Gen > 0 && id.Pack != s.packs.highest() {
			t.Errorf("%v is there", id)
		}
	}
	wanted := p.FreedBytes / int64(p.Victims)
	_, p = collect(t, s, live, SweepOptions{FreeWanted: wanted})
	if p.Done == 0 || p.Done == p.Victims || p.FreedBytes < wanted {
		t.Errorf("wanted %d: %+v", wanted, p)
	}
	for id := range tierFiles(t, s) { // those with one live block went first
		if id.Gen > 0 && id.Pack%3 == 2 && id.Pack != s.packs.highest() && p.Done < 5 {
			t.Errorf("%v was compacted before packs with less in them", id)
		}
	}
}

func TestOneCollectionAtATime(t *testing.T) {
	s, _ := newStoreTest(t)
	c, err := s.BeginCollection()
	must2(t, err)
	if _, err := s.BeginCollection(); !errors.Is(err, ErrCollecting) {
		t.Errorf("a second collection: %v", err)
	}
	c.Close()
	if _, err := c.Sweep(context.Background(), SweepOptions{}); err == nil {
		t.Error("sweep of a closed collection")
	}
	c2, err := s.BeginCollection()
	must2(t, err)
	c.Close() // again: not the other's
	if _, err := s.BeginCollection(); !errors.Is(err, ErrCollecting) {
		t.Errorf("after a second Close: %v", err)
	}
	c2.Close()
}

func TestUnknownMarks(t *testing.T) {
	s, _ := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 8))
	half, rest := evens(addrs)
	collect(t, s, half, SweepOptions{})
	c, err := s.BeginCollection()
	must2(t, err)
	defer c.Close()
	c.Mark(addrs[0], 8)           // 4 of them are gone; the last is beyond the end
	c.Mark(MakeAddr(99, 0), 5)    // no such pack
	c.Mark(0, 3)                  // zeros
	c.Mark(MakeAddr(1, 8191), 10) // beyond the end
	if got := c.Tally(); got.UnknownMarks != 4+5+10 || got.LiveSlots != 4 || got.DeadSlots != 0 {
		t.Errorf("%+v; %v are gone", got, rest)
	}
	if b := c.Live(addrs[0].Pack()); !hasBit(b, addrs[0].Slot()) {
		t.Error("Live does not show a mark")
	}
}

// TestGrace keeps files for their time and gives up waiting when asked to.
func TestGrace(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 40))
	before := tierFiles(t, s)
	c, err := s.BeginCollection()
	must2(t, err)
	c.Mark(addrs[0], 1)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = c.Sweep(ctx, SweepOptions{Grace: time.Hour, Progress: func(p SweepProgress) {
		if p.Done == p.Victims {
			cancel()
		}
	}})
	c.Close()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("sweep: %v", err)
	}
	if n := s.Stats().PendingRemoval; n != len(before) {
		t.Errorf("%d files wait to be removed, want %d", n, len(before))
	}
	for id := range before {
		if tierFiles(t, s)[id] == 0 {
			t.Errorf("%v went before its time", id)
		}
	}
	if st := s.Stats(); st.PackBytes != sum(tierFiles(t, s)) {
		t.Errorf("PackBytes %d, files have %d", st.PackBytes, sum(tierFiles(t, s)))
	}
	checkRead(t, s, addrs[:1], block(1))
	dead := fs.Kill()
	closeTest(t, s)
	s = openTest(t, o)
	if n := len(tierFiles(t, s)); n != 2 {
		t.Errorf("%d files after Close, want 2", n)
	}
	checkRead(t, s, addrs[:1], block(1))
	closeTest(t, s)

	s = openTest(t, testOptions(t, dead)) // the death of the process is no less clean
	checkRead(t, s, addrs[:1], block(1))
	checkWhole(t, s)
	collect(t, s, addrs[:1], SweepOptions{})
	if n := len(tierFiles(t, s)); n != 2 {
		t.Errorf("%d files after a kill and a collection: %v", n, tierFiles(t, s))
	}
	closeTest(t, s)
}

func TestSweepLimiter(t *testing.T) {
	s, _ := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 30))
	half, _ := evens(addrs)
	c, err := s.BeginCollection()
	must2(t, err)
	defer c.Close()
	for _, a := range half {
		c.Mark(a, 1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Sweep(ctx, SweepOptions{Limiter: rate.NewLimiter(1, 1)}); err == nil {
		t.Error("a sweep at one byte a second ended")
	}
	checkRead(t, s, addrs, blocks(count(1, 30)...)) // all of it: nothing was taken away
	for id := range tierFiles(t, s) {
		if id.Gen > 0 {
			t.Errorf("%v was left behind", id)
		}
	}
}

// TestFullDiskSweep: what a full disk takes no more of, compaction does not
// need, deletion works, and an unfinished file goes.
func TestFullDiskSweep(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.PackSize = MinPackSize
	s := openTest(t, o)
	defer closeTest(t, s)
	addrs := storeSealed(t, s, count(1, 90))
	var live []Addr
	dead := map[uint64]bool{1: true, 4: true}
	for i, a := range addrs {
		if !dead[a.Pack()] && i%2 == 0 {
			live = append(live, a)
		}
	}
	sweep := func(wantFull bool) {
		t.Helper()
		c, err := s.BeginCollection()
		must2(t, err)
		defer c.Close()
		for _, a := range live {
			c.Mark(a, 1)
		}
		_, err = c.Sweep(context.Background(), SweepOptions{})
		if errors.Is(err, syscall.ENOSPC) != wantFull || !wantFull && err != nil {
			t.Errorf("sweep: %v", err)
		}
		for _, a := range live {
			must2(t, s.Read([]Addr{a}, make([]byte, BlockSize)))
		}
	}
	full := &crashfs.Fault{Match: packOp(crashfs.Write), Err: syscall.ENOSPC, Sticky: true, Effect: crashfs.Short}
	fs.Inject(full)
	sweep(true)
	for id := range tierFiles(t, s) {
		if dead[id.Pack] || id.Gen > 0 {
			t.Errorf("%v is there", id)
		}
	}
	fs.Heal()
	sweep(false)
	if n := s.Stats().PacksCompacted; n == 0 {
		t.Error("nothing was compacted once there was room")
	}
}

// TestReserveIsForSweeps: ingest is refused what compaction may take.
func TestReserveIsForSweeps(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	o.ReserveBytes = 1 << 40
	s := openTest(t, o)
	s.space.reserve = 0
	addrs := storeSealed(t, s, count(1, 20))
	s.space.reserve = 1 << 62
	s.space.checked = time.Time{}
	fs.SetCapacity(1 << 30)
	w := s.NewWriter()
	if _, err := w.Put(block(100), nil, make([]Addr, 1)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("put: %v", err)
	}
	w.Close()
	half, _ := evens(addrs)
	if _, p := collect(t, s, half, SweepOptions{}); p.MovedBytes == 0 {
		t.Errorf("%+v", p)
	}
	closeTest(t, s)
}
