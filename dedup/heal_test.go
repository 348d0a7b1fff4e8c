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

// spoil changes a byte of the frame of a block on disk.
func spoil(t *testing.T, s *Store, fs *crashfs.FS, a Addr) {
	t.Helper()
	v, err := s.view(a.Pack())
	must(t, err)
	e := v.slots[v.find(a.Slot())]
	f := v.frames[e.frame]
	off := f.dataOffset() + 20
	if f.codec == codecRaw {
		off += int64(e.pos) * BlockSize
	}
	path := genPath(a.Pack(), int(v.id.Gen))
	bad := readFile(t, fs, path)
	bad[off] ^= 0x80
	writeFile(t, fs, path, bad)
	s.files.clear()
	s.frames.clear()
}

// TestHeal follows a block from the moment it rots.
func TestHeal(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	var events []*DamageError
	o.Events.Damage = func(d *DamageError) { events = append(events, d) }
	s := openTest(t, o)
	ns := []uint64{1, 3, 6, 9, 12, 4, 7} // the middle ones are stored raw
	addrs := storeSealed(t, s, ns)
	storeSealed(t, s, []uint64{50})
	spoil(t, s, fs, addrs[2])
	if err := s.Read(addrs, make([]byte, len(addrs)*BlockSize)); !isDamage(err) {
		t.Fatalf("read: %v", err)
	}
	damaged := s.Damaged()
	if len(damaged) == 0 || len(events) == 0 {
		t.Fatalf("damaged %v, %d events", damaged, len(events))
	}
	r, err := s.VerifyPack(context.Background(), 1, nil)
	must(t, err)
	if r.Whole || r.Unreadable != nil || !slices.Equal(r.Damaged, s.Damaged()) || r.Blocks != len(ns)-len(r.Damaged) || !slices.Contains(r.Damaged, addrs[2]) {
		t.Errorf("verification: %+v, damaged %v", r, s.Damaged())
	}
	if res, err := s.RepairPack(context.Background(), 1); err != nil || res.Repaired != 0 || res.Left != len(r.Damaged) || tierFiles(t, s)[tier.ID{Pack: 1}] == 0 {
		t.Errorf("repair without another copy: %+v, %v", res, err)
	}

	// The quarantine outlives a restart, also an unclean one.
	kill := fs.Kill()
	s2 := openTest(t, testOptions(t, kill))
	if !slices.Equal(s2.Damaged(), r.Damaged) {
		t.Errorf("after a kill: damaged %v, want %v", s2.Damaged(), r.Damaged)
	}
	closeTest(t, s2)
	closeTest(t, s)
	s = openTest(t, o)
	if !slices.Equal(s.Damaged(), r.Damaged) {
		t.Errorf("after a restart: damaged %v, want %v", s.Damaged(), r.Damaged)
	}

	w := s.NewWriter()
	again, put := mustPut(t, w, blocks(ns...), addrs)
	if int(put.New) != len(r.Damaged) {
		t.Errorf("put again: %+v", put)
	}
	checkRead(t, s, addrs, blocks(ns...)) // from the open pack
	mustSync(t, w)
	w.Close()
	if s.Stats().HealedReads == 0 {
		t.Error("no healed read was counted")
	}
	sealAll(t, s)
	checkRead(t, s, addrs, blocks(ns...)) // through the index
	checkRead(t, s, again, blocks(ns...))
	closeTest(t, s)
	must(t, fs.RemoveAll(indexDir)) // a new index leads to the good copies too
	s = openTest(t, o)
	checkRead(t, s, addrs, blocks(ns...))
	if len(s.Damaged()) == 0 {
		t.Error("the reads did not find the damage again")
	}

	res, err := s.RepairPack(context.Background(), 1)
	if err != nil || res.Repaired != len(r.Damaged) || res.Left != 0 {
		t.Errorf("repair: %+v, %v", res, err)
	}
	if len(s.Damaged()) != 0 || tierFiles(t, s)[tier.ID{Pack: 1}] != 0 || tierFiles(t, s)[tier.ID{Pack: 1, Gen: 1}] == 0 {
		t.Errorf("after the repair: damaged %v, files %v", s.Damaged(), tierFiles(t, s))
	}
	healed := s.Stats().HealedReads
	checkRead(t, s, addrs, blocks(ns...))
	if s.Stats().HealedReads != healed {
		t.Error("a repaired block is healed")
	}
	checkWhole(t, s)
	closeTest(t, s)
}

// TestRepairKeepsPlaces: blocks without a good copy keep their slots and hashes,
// and are healed when they are stored again later.
func TestRepairKeepsPlaces(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	ns := []uint64{1, 4, 7, 10, 3, 6, 9, 12}
	addrs := storeSealed(t, s, ns)
	storeSealed(t, s, []uint64{50})
	spoil(t, s, fs, addrs[1]) // a compressed frame: all four
	spoil(t, s, fs, addrs[6]) // raw: only this one
	_, err := s.VerifyPack(context.Background(), 1, nil)
	must(t, err)
	if d := s.Damaged(); len(d) != 5 {
		t.Fatalf("damaged %v", d)
	}
	storeSealed(t, s, []uint64{4, 7})
	res, err := s.RepairPack(context.Background(), 1)
	if err != nil || res.Repaired != 2 || res.Left != 3 {
		t.Errorf("repair: %+v, %v", res, err)
	}
	check := func() {
		t.Helper()
		good := []Addr{addrs[1], addrs[2], addrs[4], addrs[5], addrs[7]}
		checkRead(t, s, good, blocks(4, 7, 3, 6, 12))
		hashes := make([]Hash, len(addrs))
		must(t, s.Hashes(addrs, hashes))
		for i, n := range ns {
			if hashes[i] != s.BlockHash(block(n)) {
				t.Errorf("hash of %v has changed", addrs[i])
			}
		}
		for _, a := range []Addr{addrs[0], addrs[3], addrs[6]} {
			var d *DamageError
			if err := s.Read([]Addr{a}, make([]byte, BlockSize)); !errors.As(err, &d) || d.Pack != 1 || d.Slot != int(a.Slot()) {
				t.Errorf("lost %v: %v", a, err)
			}
			if s.Have([]Addr{a}) == nil {
				t.Errorf("lost %v is there", a)
			}
			if err := s.Read(addrs, make([]byte, len(addrs)*BlockSize)); !isDamage(err) {
				t.Errorf("read with lost blocks: %v", err)
			}
		}
		if d := s.Damaged(); !slices.Equal(d, []Addr{addrs[0], addrs[3], addrs[6]}) {
			t.Errorf("damaged %v", d)
		}
		r, err := s.VerifyPack(context.Background(), 1, nil)
		if err != nil || len(r.Damaged) != 3 || r.Whole {
			t.Errorf("verification: %+v, %v", r, err)
		}
	}
	check()
	closeTest(t, s)
	s = openTest(t, o)
	check()
	closeTest(t, s)
	must(t, fs.RemoveAll(indexDir))
	s = openTest(t, o)
	check2 := s.Damaged()
	if len(check2) != 0 { // it is a hint, found again by
		t.Errorf("damaged %v", check2)
	}
	check()
	// A collection leaves the pack alone while a lost block is wanted, and not
	// when none is.
	c, err := s.BeginCollection()
	must(t, err)
	c.Mark(addrs[0], 2)
	c.Mark(MakeAddr(2, 0), 1)
	c.Mark(MakeAddr(3, 0), 2)
	p, err := c.Sweep(context.Background(), SweepOptions{})
	c.Close()
	if err != nil || p.Skipped != 1 {
		t.Errorf("sweep: %+v, %v", p, err)
	}
	check()
	w := s.NewWriter()
	again, _ := mustPut(t, w, blocks(ns...), addrs)
	checkRead(t, s, addrs, blocks(ns...))
	w.Close()
	collect(t, s, append(addrs[1:3:3], again...), SweepOptions{})
	checkRead(t, s, addrs[1:3], blocks(4, 7))
	checkRead(t, s, again, blocks(ns...))
	checkWhole(t, s)
	closeTest(t, s)
}

// TestCompactionHeals: a damaged live block with another copy does not keep its
// pack from being compacted.
func TestCompactionHeals(t *testing.T) {
	s, fs := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 12))
	storeSealed(t, s, []uint64{50})
	spoil(t, s, fs, addrs[1])
	_, err := s.VerifyPack(context.Background(), 1, nil)
	must(t, err)
	again := storeSealed(t, s, count(1, 12))
	live := append(slices.Clone(addrs[:6]), again[:4]...)
	_, p := collect(t, s, append(live, MakeAddr(2, 0)), SweepOptions{})
	if p.Done == 0 || p.Skipped != 0 || len(s.Damaged()) != 0 {
		t.Errorf("%+v, damaged %v", p, s.Damaged())
	}
	checkRead(t, s, addrs[:6], blocks(count(1, 6)...))
	checkWhole(t, s)
}

// TestRotInCompactedPack flips bytes of every class in a pack that was
// compacted: found by a verification, no wrong byte served, made good by a
// repair where the frames allow it.
func TestRotInCompactedPack(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 24))
	storeSealed(t, s, []uint64{50})
	var live []Addr
	var ns []uint64
	for i, a := range addrs {
		if i%4 != 1 && (i < 8 || i%2 == 0) {
			live, ns = append(live, a), append(ns, uint64(i+1))
		}
	}
	collect(t, s, append(live[:len(live):len(live)], MakeAddr(2, 0)), SweepOptions{})
	v, err := s.view(1)
	must(t, err)
	toc1 := v.end()
	closeTest(t, s)
	path := genPath(1, 1)
	whole := readFile(t, fs, path)
	wanted := map[uint16]bool{}
	for _, a := range live {
		wanted[a.Slot()] = true
	}
	for _, at := range rotPlaces(v.toc, int64(len(whole))) {
		bad := bytes.Clone(whole)
		bad[at] ^= 4
		rot := fs.Kill()
		writeFile(t, rot, path, bad)
		s := openTest(t, testOptions(t, rot))
		r, err := s.VerifyPack(context.Background(), 1, nil)
		must(t, err)
		if r.Whole && r.Unreadable == nil {
			t.Errorf("byte %d (frames end at %d): the damage was not found", at, toc1)
		}
		for i, a := range live {
			got := make([]byte, BlockSize)
			err := s.Read([]Addr{a}, got)
			if err == nil && !bytes.Equal(got, block(ns[i])) {
				t.Errorf("byte %d: wrong bytes of %v", at, a)
			}
			if bad := slices.Contains(r.Damaged, a); (err == nil) == bad {
				t.Errorf("byte %d: read of %v: %v; damaged according to the verification: %v", at, a, err, bad)
			}
		}
		w := s.NewWriter()
		again, _ := mustPut(t, w, blocks(ns...), live)
		mustSync(t, w)
		w.Close()
		checkRead(t, s, again, blocks(ns...))
		res, err := s.RepairPack(context.Background(), 1)
		if err != nil || res.Left != 0 && res.Repaired > 0 {
			t.Errorf("byte %d: repair: %+v, %v", at, res, err)
		}
		if res.Left == 0 {
			checkRead(t, s, live, blocks(ns...))
			if r, err := s.VerifyPack(context.Background(), 1, nil); err != nil || !r.Whole {
				t.Errorf("byte %d: after the repair: %+v, %v", at, r, err)
			}
		}
		closeTest(t, s)
	}
}

// rotPlaces picks bytes of every class of a pack that mean something. (The
// bytes of dead blocks in frames copied whole are among them: a checksum covers
// them.)
func rotPlaces(t *toc, size int64) []int64 {
	at := []int64{0, 9, 30, 59, 63}
	for _, f := range t.frames {
		at = append(at, int64(f.offset)+1, int64(f.offset)+22, f.dataOffset()-2, f.dataOffset()+9, f.dataOffset()+int64(f.payload)/2, f.end()-1)
	}
	length := int64(tocSize(len(t.frames), len(t.slots)))
	for _, toc := range []int64{t.end(), t.end() + length} {
		at = append(at, toc, toc+9, toc+20, toc+length/2, toc+length-1)
	}
	for _, off := range []int64{96, 88, 80, 60, 13, 1} {
		at = append(at, size-off)
	}
	return at
}

// TestBothTablesDamaged loses the tables and the header of a frame: what is
// left is found, and what is not keeps its place.
func TestBothTablesDamaged(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 12))
	storeSealed(t, s, []uint64{50})
	v, err := s.view(1)
	must(t, err)
	path := packPath(1)
	bad := readFile(t, fs, path)
	bad[v.frames[1].offset+1] ^= 1
	bad[v.end()+3] ^= 1
	bad[v.end()+int64(tocSize(3, 12))+3] ^= 1
	writeFile(t, fs, path, bad)
	closeTest(t, s)
	s = openTest(t, o)
	r, err := s.VerifyPack(context.Background(), 1, nil)
	must(t, err)
	if r.Whole || !slices.Equal(r.Damaged, addrs[4:8]) || r.Blocks != 8 {
		t.Fatalf("%+v", r)
	}
	res, err := s.RepairPack(context.Background(), 1)
	if err != nil || res.Left != 4 || res.Repaired != 0 {
		t.Errorf("repair: %+v, %v", res, err)
	}
	for range 2 {
		checkRead(t, s, addrs[:4], blocks(count(1, 4)...))
		checkRead(t, s, addrs[8:], blocks(count(9, 4)...))
		for _, a := range addrs[4:8] {
			if err := s.Read([]Addr{a}, make([]byte, BlockSize)); !isDamage(err) {
				t.Errorf("read of %v: %v", a, err)
			}
			if err := s.Hashes([]Addr{a}, make([]Hash, 1)); !isDamage(err) {
				t.Errorf("hash of %v: %v", a, err)
			}
		}
		out := make([]uint32, len(addrs))
		must(t, s.StoredBytes(addrs, out))
		if out[4] != 0 || out[3] == 0 || out[8] == 0 {
			t.Errorf("stored bytes %v", out)
		}
		closeTest(t, s)
		s = openTest(t, o)
	}
	closeTest(t, s)
}

// TestUnreadableDisk heals what a disk does not give.
func TestUnreadableDisk(t *testing.T) {
	s, fs := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 12))
	storeSealed(t, s, []uint64{50})
	v, err := s.view(1)
	must(t, err)
	f := v.frames[1]
	sick := func(op crashfs.Op) bool {
		return op.Kind == crashfs.Read && op.Path == packPath(1) && op.Off < f.end() && op.Off+op.Len > f.dataOffset()
	}
	fs.Inject(&crashfs.Fault{Match: sick, Sticky: true})
	if err := s.Read(addrs, make([]byte, 12*BlockSize)); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	r, err := s.VerifyPack(context.Background(), 1, nil)
	if err != nil || r.Whole || len(r.Damaged) == 0 {
		t.Errorf("verification: %+v, %v", r, err)
	}
	again := storeSealed(t, s, count(1, 12))
	checkRead(t, s, addrs, blocks(count(1, 12)...))
	checkRead(t, s, again, blocks(count(1, 12)...))
	if s.Stats().HealedReads == 0 {
		t.Error("nothing was healed")
	}
	fs.Heal()
	if r, err := s.VerifyPack(context.Background(), 1, nil); err != nil || !r.Whole || len(s.Damaged()) != 0 {
		t.Errorf("the disk is well again: %+v, %v, damaged %v", r, err, s.Damaged())
	}
}

// TestMissingPackIsRemembered until it is back, or nobody needs it.
func TestMissingPackIsRemembered(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 8))
	top := storeSealed(t, s, []uint64{50, 51})
	closeTest(t, s)
	kept := [][]byte{readFile(t, fs, packPath(1)), readFile(t, fs, packPath(2))}
	must(t, o.Tier.Remove(tier.ID{Pack: 1}))
	must(t, o.Tier.Remove(tier.ID{Pack: 2}))
	for range 2 { // a second start still knows
		s = openTest(t, o)
		if got := s.DamagedPacks(); !slices.Equal(got, []uint64{1, 2}) || s.Stats().LostPacks != 2 {
			t.Errorf("missing packs %v", got)
		}
		if err := s.Read(addrs, make([]byte, 8*BlockSize)); !errors.Is(err, ErrUnknownAddr) || !isDamage(err) {
			t.Errorf("read: %v", err)
		}
		if r, err := s.VerifyPack(context.Background(), 1, nil); err != nil || r.Unreadable == nil || r.Whole {
			t.Errorf("verification: %+v, %v", r, err)
		}
		n := 0
		must(t, s.Packs(func(p PackInfo) bool {
			if n++; p.ID.Pack < 3 && (!p.Missing || p.Open) {
				t.Errorf("%+v", p)
			}
			return true
		}))
		w := s.NewWriter()
		if got, _ := mustPut(t, w, block(60), nil); got[0].Pack() <= 2 {
			t.Errorf("a missing pack's number is used again: %v", got)
		}
		mustSync(t, w)
		w.Close()
		closeTest(t, s)
	}
	writeFile(t, fs, packPath(1), kept[0])
	s = openTest(t, o)
	checkRead(t, s, addrs, blocks(count(1, 8)...))
	if got := s.DamagedPacks(); !slices.Equal(got, []uint64{2}) {
		t.Errorf("one came back; missing packs %v", got)
	}
	c, err := s.BeginCollection()
	must(t, err)
	c.Mark(addrs[0], 8)
	c.Mark(top[0], 1)
	// The one that came back, and the one block 60 went to.
	if tally := c.Tally(); tally.Packs != 2 || tally.UnknownMarks != 0 {
		t.Errorf("%+v", tally)
	}
	_, err = c.Sweep(context.Background(), SweepOptions{})
	c.Close()
	if err != nil || len(s.DamagedPacks()) != 1 {
		t.Errorf("a missing pack somebody needs was forgotten: %v", err)
	}
	collect(t, s, addrs, SweepOptions{})
	if got := s.DamagedPacks(); len(got) != 0 {
		t.Errorf("missing packs %v after nobody needed them", got)
	}
	closeTest(t, s)
	s = openTest(t, o)
	if got := s.DamagedPacks(); len(got) != 0 {
		t.Errorf("missing packs %v after a restart", got)
	}
	closeTest(t, s)
}

// TestVerifiedTime is kept over restarts, and over compaction.
func TestVerifiedTime(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	now := testTime
	o.Clock = func() time.Time { return now }
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 8))
	storeSealed(t, s, []uint64{50})
	times := func() (out []time.Time) {
		t.Helper()
		must(t, s.Packs(func(p PackInfo) bool { out = append(out, p.Verified); return true }))
		return out
	}
	if got := times(); !got[0].IsZero() {
		t.Errorf("%v", got)
	}
	now = now.Add(time.Hour)
	if r, err := s.VerifyPack(context.Background(), 1, rate.NewLimiter(rate.Inf, 0)); err != nil || !r.Whole || r.Bytes < tierFiles(t, s)[tier.ID{Pack: 1}] || r.Blocks != 8 {
		t.Errorf("%+v, %v", r, err)
	}
	closeTest(t, s)
	s = openTest(t, o)
	if got := times(); !got[0].Equal(now) || !got[1].IsZero() {
		t.Errorf("%v, want %v and never", got, now)
	}
	spoil(t, s, fs, addrs[0])
	was := now
	now = now.Add(time.Hour)
	_, err := s.VerifyPack(context.Background(), 1, nil)
	must(t, err)
	if got := times(); !got[0].Equal(was) {
		t.Errorf("%v after a bad verification, want %v", got, was)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.VerifyPack(ctx, 2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.VerifyPack(context.Background(), 77, nil); !errors.Is(err, ErrUnknownAddr) {
		t.Errorf("%v", err)
	}
	closeTest(t, s)
}

// TestStoredBytes adds up to the frames.
func TestStoredBytes(t *testing.T) {
	s, _ := newStoreTest(t)
	addrs := storeSealed(t, s, count(1, 30))
	ask := append([]Addr{0, MakeAddr(1, 8000), MakeAddr(1234, 1)}, addrs...)
	out := make([]uint32, len(ask))
	must(t, s.StoredBytes(ask, out))
	if out[0] != 0 || out[1] != 0 || out[2] != 0 {
		t.Errorf("%v", out[:3])
	}
	var got, want int64
	for _, n := range out {
		got += int64(n)
	}
	must(t, s.eachPage('p', func(pack uint64, v []byte) error {
		r, err := parsePackRecord(v)
		want += r.bytes
		return err
	}))
	if got != want {
		t.Errorf("shares add up to %d, frames have %d bytes", got, want)
	}
}
