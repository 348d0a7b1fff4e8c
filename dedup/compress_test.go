package dedup

import (
	"context"
	"errors"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// storeLater puts contents with a writer that does not compress, one Put each.
func storeLater(t testing.TB, s *Store, parts ...[]uint64) (addrs []Addr) {
	t.Helper()
	w := s.NewLaterWriter()
	defer w.Close()
	for _, ns := range parts {
		a, r := mustPut(t, w, blocks(ns...), nil)
		if r.StoredBytes < r.NewBytes {
			t.Errorf("stored at once: %+v", r)
		}
		addrs = append(addrs, a...)
	}
	mustSync(t, w)
	return addrs
}

// sealLater seals what storeLater has left open.
func sealLater(t testing.TB, s *Store) {
	t.Helper()
	s.seals.Wait()
	if _, err := s.SealLater(true); err != nil {
		t.Fatal(err)
	}
}

// compressAll compresses every pack that waits and says how many frames were tried.
func compressAll(t testing.TB, s *Store) (sum CompressResult) {
	t.Helper()
	for _, pack := range s.LaterPacks() {
		r, err := s.CompressPack(context.Background(), pack, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum.Before, sum.After, sum.Frames = sum.Before+r.Before, sum.After+r.After, sum.Frames+r.Frames
	}
	return sum
}

// codecs counts the frames of the packs on the tier by their codec.
func codecs(t testing.TB, s *Store) (n [3]int) {
	t.Helper()
	for _, id := range packFiles(t, s) {
		if v, err := s.view(id.Pack); err == nil {
			for _, f := range v.frames {
				n[f.codec]++
			}
		}
	}
	return n
}

func packInfos(t testing.TB, s *Store) map[uint64]PackInfo {
	t.Helper()
	infos := map[uint64]PackInfo{}
	if err := s.Packs(func(p PackInfo) bool { infos[p.ID.Pack] = p; return true }); err != nil {
		t.Fatal(err)
	}
	return infos
}

// checkLater compares what is said to wait with what the packs hold.
func checkLater(t testing.TB, s *Store) {
	t.Helper()
	var total int64
	for pack, info := range packInfos(t, s) {
		v, err := s.view(pack)
		if err != nil {
			t.Fatal(err)
		}
		if want := v.laterBytes(); info.LaterBytes != want {
			t.Errorf("pack %d: %d bytes wait, want %d", pack, info.LaterBytes, want)
		}
		total += info.LaterBytes
		if listed := slices.Contains(s.LaterPacks(), pack); listed != (!info.Open && info.LaterBytes > 0) {
			t.Errorf("pack %d, %+v: to be compressed: %v", pack, info, listed)
		}
	}
	if got := s.Stats().LaterBytes; got != total {
		t.Errorf("%d bytes wait according to the statistics, %d according to the packs", got, total)
	}
}

// checkShares adds up what the blocks take.
func checkShares(t testing.TB, s *Store, addrs []Addr) {
	t.Helper()
	out := make([]uint32, len(addrs))
	if err := s.StoredBytes(addrs, out); err != nil {
		t.Fatal(err)
	}
	var got, want int64
	for _, n := range out {
		got += int64(n)
	}
	for pack := range packInfos(t, s) {
		v, err := s.view(pack)
		if err != nil {
			t.Fatal(err)
		}
		want += v.bytes()
	}
	if got != want {
		t.Errorf("the blocks take %d bytes, the frames have %d", got, want)
	}
}

// TestCompressLater follows blocks from a writer that does not compress to the
// next generation of their packs.
func TestCompressLater(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	ns := append(count(1, 60), 63, 66, 69, 72) // the last ones do not shrink
	addrs := storeLater(t, s, ns[:14], ns[14:15], ns[15:40], ns[40:60], ns[60:])
	checkRead(t, s, addrs, blocks(ns...)) // open packs
	checkLater(t, s)
	sealLater(t, s)
	if n := codecs(t, s); n[codecLater] == 0 || n[codecRaw]+n[codecZstd] != 0 {
		t.Fatalf("frames by codec: %v", n)
	}
	checkLater(t, s)
	checkRead(t, s, addrs, blocks(ns...))
	checkWhole(t, s)
	checkShares(t, s, addrs)
	hashes, before := make([]Hash, len(addrs)), tierFiles(t, s)
	must2(t, s.Hashes(addrs, hashes))
	versions := map[uint64]uint64{0: s.PackVersion(0)}
	for _, pack := range s.LaterPacks() {
		versions[pack] = s.PackVersion(pack)
	}
	if len(versions) < 4 {
		t.Fatalf("only %d packs", len(versions))
	}

	frames, all := codecs(t, s)[codecLater], s.LaterPacks()
	res := compressAll(t, s)
	if res.Frames != frames || res.Before != sum(before) || res.After != sum(tierFiles(t, s)) || res.After >= res.Before*2/3 {
		t.Errorf("%+v; files were %v and are %v", res, before, tierFiles(t, s))
	}
	if n := codecs(t, s); n[codecLater] != 0 || n[codecRaw] == 0 || n[codecZstd] == 0 {
		t.Errorf("frames by codec: %v", n)
	}
	for pack, v := range versions {
		if s.PackVersion(pack) == v {
			t.Errorf("pack %d still has the version %d", pack, v)
		}
	}
	for pack, info := range packInfos(t, s) {
		if info.Verified.IsZero() || info.ID.Gen != 1 || info.LaterBytes != 0 {
			t.Errorf("pack %d: %+v", pack, info)
		}
	}
	st := s.Stats()
	if st.LaterBytes != 0 || st.Compressions != uint64(len(all)) || st.CompressedIn != uint64(res.Before) || st.CompressedOut != uint64(res.After) || st.PackBytes != res.After {
		t.Errorf("%+v", st)
	}
	check := func() {
		t.Helper()
		checkLater(t, s)
		checkWhole(t, s)
		checkShares(t, s, addrs)
		checkRead(t, s, addrs, blocks(ns...))
		again := make([]Hash, len(addrs))
		must2(t, s.Hashes(addrs, again))
		if !slices.Equal(hashes, again) {
			t.Error("hashes have changed")
		}
		w := s.NewLaterWriter()
		if put, r := mustPut(t, w, blocks(ns...), nil); r.New != 0 || !slices.Equal(put, addrs) {
			t.Errorf("stored again: %+v", r)
		}
		w.Close()
		for _, pack := range all { // nothing is tried twice
			if r, err := s.CompressPack(context.Background(), pack, nil); err != nil || r.Frames != 0 || r.Before != r.After {
				t.Errorf("pack %d again: %+v, %v", pack, r, err)
			}
		}
		for id := range tierFiles(t, s) {
			if id.Gen != 1 {
				t.Errorf("%v is there", id)
			}
		}
	}
	check()
	closeTest(t, s)
	s = openTest(t, o)
	check()
	closeTest(t, s)
	must(t, fs.RemoveAll(indexDir))
	s = openTest(t, o)
	check()
	closeTest(t, s)
}

// TestLaterIsKnownAfterRestarts: what waits is known after every kind of restart.
func TestLaterIsKnownAfterRestarts(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	ns := count(1, 50)
	addrs := storeLater(t, s, ns[:20], ns[20:])
	want := s.Stats().LaterBytes
	check := func(what string, s *Store) {
		t.Helper()
		s.seals.Wait()
		if got := s.Stats().LaterBytes; got != want {
			t.Errorf("%s: %d bytes wait, want %d", what, got, want)
		}
		checkLater(t, s)
		checkRead(t, s, addrs, blocks(ns...))
	}
	check("as stored", s)
	killed := openTest(t, testOptions(t, fs.Kill()))
	check("killed", killed)
	closeTest(t, killed)
	for _, what := range []string{"closed", "without an index", "closed again"} {
		closeTest(t, s)
		if what == "without an index" {
			must(t, fs.RemoveAll(indexDir))
		}
		s = openTest(t, o)
		check(what, s)
	}
	sealLater(t, s)
	check("sealed", s)
	packs := s.LaterPacks()
	if _, err := s.CompressPack(context.Background(), packs[0], nil); err != nil {
		t.Fatal(err)
	}
	want = s.Stats().LaterBytes
	killed = openTest(t, testOptions(t, fs.Kill()))
	check("killed after the first", killed)
	compressAll(t, killed)
	if killed.Stats().LaterBytes != 0 {
		t.Error("something still waits")
	}
	closeTest(t, killed)
	closeTest(t, s)
}

// TestMixedPack: frames that were compressed at once are taken as they are, and
// a pack that writers of both kinds filled is one pack.
func TestMixedPack(t *testing.T) {
	s, fs := newStoreTest(t)
	w := s.NewWriter()
	first, _ := mustPut(t, w, blocks(1, 2, 4, 5), nil)
	w.Close()
	second := storeLater(t, s, []uint64{7, 8, 10, 11, 3, 13, 14}, []uint64{2, 16})
	w = s.NewWriter()
	third, _ := mustPut(t, w, blocks(17, 19), nil)
	w.Close()
	addrs := slices.Concat(first, second, third)
	if first[0].Pack() != third[0].Pack() || second[7] != first[1] {
		t.Fatalf("not in one pack: %v", addrs)
	}
	sealLater(t, s)
	frame := func(a Addr) string {
		v, err := s.view(a.Pack())
		must(t, err)
		f := v.frames[v.slots[v.find(a.Slot())].frame]
		return string(readFile(t, fs, genPath(a.Pack(), int(v.id.Gen)))[f.dataOffset():f.end()])
	}
	was := frame(first[0])
	compressAll(t, s)
	if frame(first[0]) != was {
		t.Error("a compressed frame was made anew")
	}
	if n := codecs(t, s); n[codecLater] != 0 {
		t.Errorf("frames by codec: %v", n)
	}
	checkRead(t, s, addrs, blocks(1, 2, 4, 5, 7, 8, 10, 11, 3, 13, 14, 2, 16, 17, 19))
	decodePack(t, readFile(t, fs, genPath(1, 1)))
}

// TestDamagedPackIsNotCompressed: a pack with a damaged block is left as it is
// until a repair, which compresses it.
func TestDamagedPackIsNotCompressed(t *testing.T) {
	for _, known := range []bool{false, true} {
		s, fs := newStoreTest(t)
		ns := count(1, 9)
		addrs := storeLater(t, s, ns)
		sealLater(t, s)
		spoil(t, s, fs, addrs[4])
		if known {
			_, err := s.VerifyPack(context.Background(), 1, nil)
			must(t, err)
		}
		_, err := s.CompressPack(context.Background(), 1, nil)
		if !isDamage(err) {
			t.Fatalf("known %v: %v", known, err)
		}
		if files := tierFiles(t, s); len(files) != 1 || files[tier.ID{Pack: 1}] == 0 || len(s.LaterPacks()) != 0 || s.Stats().LaterBytes == 0 {
			t.Errorf("known %v: files %v, to be compressed %v", known, files, s.LaterPacks())
		}
		if d := s.Damaged(); !slices.Equal(d, addrs[4:5]) {
			t.Errorf("known %v: damaged %v", known, d)
		}
		good := slices.Concat(addrs[:4], addrs[5:])
		checkRead(t, s, good, blocks(slices.Concat(ns[:4], ns[5:])...))
		if err := s.Read(addrs[4:5], make([]byte, BlockSize)); !isDamage(err) {
			t.Errorf("known %v: the damaged block: %v", known, err)
		}
		storeSealed(t, s, ns)
		res, err := s.RepairPack(context.Background(), 1)
		if err != nil || res.Repaired != 1 || res.Left != 0 {
			t.Errorf("repair: %+v, %v", res, err)
		}
		checkRead(t, s, addrs, blocks(ns...))
		if n := codecs(t, s); n[codecLater] != 0 || s.Stats().LaterBytes != 0 {
			t.Errorf("after the repair: frames by codec %v", n)
		}
		checkWhole(t, s)
		checkLater(t, s)
	}
}

// TestCompressWithoutTables: when both tables of contents are gone the pack
// waits for its repair and is not tried again and again.
func TestCompressWithoutTables(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	addrs := storeLater(t, s, count(1, 9))
	sealLater(t, s)
	v, err := s.view(1)
	must(t, err)
	end := v.end()
	closeTest(t, s)
	bad := readFile(t, fs, packPath(1))
	for _, at := range []int64{end + 20, end + int64(tocSize(len(v.frames), len(v.slots))) + 20} {
		bad[at] ^= 1
	}
	writeFile(t, fs, packPath(1), bad)
	s = openTest(t, o)
	if _, err := s.CompressPack(context.Background(), 1, nil); !isDamage(err) {
		t.Errorf("compressed: %v", err)
	}
	if left := s.LaterPacks(); len(left) != 0 {
		t.Errorf("to be compressed: %v", left)
	}
	_, err = s.RepairPack(context.Background(), 1)
	must(t, err)
	checkRead(t, s, addrs, blocks(count(1, 9)...))
	checkLater(t, s)
	if n := codecs(t, s); n[codecLater] != 0 {
		t.Errorf("frames by codec %v", n)
	}
	closeTest(t, s)
}

// fullTier says how much room there is.
type fullTier struct {
	tier.Store
	usage tier.Usage
	err   error
}

func (f *fullTier) Usage() (tier.Usage, error) { return f.usage, f.err }

// TestLaterOnAFullDisk: with little space left a writer compresses at once, and
// packs are compressed only when there is room for another.
func TestLaterOnAFullDisk(t *testing.T) {
	const reserve = 1 << 30
	o := testOptions(t, crashfs.New())
	disk := &fullTier{Store: o.Tier}
	now := testTime
	o.Tier, o.ReserveBytes, o.Clock = disk, reserve, func() time.Time { now = now.Add(2 * usageEvery); return now }
	s := openTest(t, o)
	w := s.NewLaterWriter()
	for i, c := range []struct {
		free, total uint64
		err         error
		later       bool
	}{
		{free: 100 << 30, total: 200 << 30, later: true},
		{free: reserve + laterRoom, total: 200 << 30, later: true},
		{free: reserve + laterRoom - 1, total: 200 << 30},
		{free: reserve + 1<<29, total: 4 << 30, later: true}, // a small tier
		{free: reserve + 1<<29 - 1, total: 4 << 30},
		{err: tier.ErrUsageUnknown, later: true},
	} {
		disk.usage, disk.err = tier.Usage{Free: c.free, Total: c.total}, c.err
		ns := count(uint64(1+20*i), 5)
		addrs, r := mustPut(t, w, blocks(ns...), nil)
		if later := r.StoredBytes > r.NewBytes; later != c.later {
			t.Errorf("%+v: %+v", c, r)
		}
		checkRead(t, s, addrs, blocks(ns...))
	}
	w.Close()
	sealLater(t, s)
	checkLater(t, s)
	size := tierFiles(t, s)[tier.ID{Pack: 1}]
	disk.usage, disk.err = tier.Usage{Free: uint64(size) - 1, Total: 4 << 30}, nil
	if _, err := s.CompressPack(context.Background(), 1, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("compressed without room: %v", err)
	}
	disk.err = syscall.EIO
	if _, err := s.CompressPack(context.Background(), 1, nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("compressed on a tier that answers nothing: %v", err)
	}
	if files := tierFiles(t, s); files[tier.ID{Pack: 1, Gen: 1}] != 0 {
		t.Errorf("files %v", files)
	}
	disk.usage.Free, disk.err = uint64(size), nil // that is of the reserve
	if r, err := s.CompressPack(context.Background(), 1, nil); err != nil || r.Frames == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	closeTest(t, s)
}

// TestCollectionCompresses: what a collection writes anew is compressed, slots
// without a block stay without, and its shares follow.
func TestCollectionCompresses(t *testing.T) {
	s, _ := newStoreTest(t)
	ns := count(1, 30)
	addrs := storeLater(t, s, ns)
	sealLater(t, s)
	var live []Addr
	var kept []uint64
	for i, a := range addrs {
		if i%4 != 1 {
			live, kept = append(live, a), append(kept, ns[i])
		}
	}
	collect(t, s, live, SweepOptions{})
	checkLater(t, s)
	checkRead(t, s, live, blocks(kept...))
	checkShares(t, s, live)
	for _, pack := range s.LaterPacks() { // none
		t.Errorf("pack %d is not compressed", pack)
	}
	// One whose dead blocks were not worth a compaction loses none by this.
	more := storeLater(t, s, count(100, 12))
	sealLater(t, s)
	c, err := s.BeginCollection()
	must(t, err)
	for _, a := range slices.Concat(live, more[:11]) {
		c.Mark(a, 1)
	}
	_, err = c.Sweep(context.Background(), SweepOptions{DeadRatio: 0.5})
	must(t, err)
	compressAll(t, s)
	c.Close()
	checkRead(t, s, slices.Concat(live, more), blocks(slices.Concat(kept, count(100, 12))...))
	collect(t, s, slices.Concat(live, more[:11]), SweepOptions{})
	checkGone(t, s, more[11:])
	checkRead(t, s, more[:11], blocks(count(100, 11)...))
	checkLater(t, s)
}

// TestCompressRefusals: packs that cannot be compressed.
func TestCompressRefusals(t *testing.T) {
	s, _ := newStoreTest(t)
	addrs := storeLater(t, s, count(1, 5))
	if _, err := s.CompressPack(context.Background(), addrs[0].Pack(), nil); err == nil {
		t.Error("an open pack was compressed")
	}
	if _, err := s.CompressPack(context.Background(), 77, nil); !errors.Is(err, ErrUnknownAddr) {
		t.Errorf("an unknown pack: %v", err)
	}
	sealLater(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.CompressPack(ctx, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if files := tierFiles(t, s); files[tier.ID{Pack: 1, Gen: 1}] != 0 || len(s.LaterPacks()) != 1 {
		t.Errorf("after it was cancelled: files %v, %v", files, s.LaterPacks())
	}
	checkRead(t, s, addrs, blocks(count(1, 5)...))
}

// TestCrashWhileCompressing cuts the power at every operation of runs that store
// without compressing, compress, collect and compress again.
func TestCrashWhileCompressing(t *testing.T) {
	t.Parallel()
	every := uint64(1)
	if raceEnabled {
		every = 19
	}
	for _, seed := range seeds(1) {
		fs := crashfs.New()
		testOptions(t, fs)
		l := &lifeLedger{live: map[Addr]uint64{}}
		var states func() []lifeState
		for round := range uint64(2) {
			s := openTest(t, lifeOptions(t, fs))
			ns := count(1+round*9, 12)
			l.add(storeLater(t, s, ns), ns)
			sealLater(t, s)
			if round == 0 {
				states = l.crashes(fs, seed, every)
			}
			packs := s.LaterPacks()
			if round == 1 {
				l.drop(func(a Addr, n uint64) bool { return n%4 == 1 })
				collect(t, s, slices.Collect(maps.Keys(l.snapshot())), SweepOptions{DeadRatio: 0.3})
			}
			for _, pack := range packs {
				_, err := s.CompressPack(context.Background(), pack, nil)
				must(t, err)
			}
			checkLive(t, "running", s, l.snapshot())
			closeTest(t, s)
		}
		all := states()
		t.Logf("seed %d: %d states", seed, len(all))
		for _, st := range all {
			checkLifeState(t, st)
		}
	}
}

// TestEveryFailingOperationOfACompression fails each operation on the tier once,
// in every way, while packs are sealed and compressed.
func TestEveryFailingOperationOfACompression(t *testing.T) {
	t.Parallel()
	base := crashfs.New()
	testOptions(t, base)
	s := openTest(t, lifeOptions(t, base))
	ns := count(1, 20)
	addrs := storeLater(t, s, ns)
	closeTest(t, s)
	live := map[Addr]uint64{}
	for i, a := range addrs {
		live[a] = ns[i]
	}
	faults(t, base, func(t *testing.T, name string, s *Store) (errs []error) {
		_, err := s.SealLater(true)
		errs = append(errs, err)
		for _, pack := range s.LaterPacks() {
			_, err := s.CompressPack(context.Background(), pack, nil)
			if isDamage(err) { // what cannot be read is taken for damaged, and left
				err = nil
			}
			errs = append(errs, err)
		}
		return errs
	}, live, nil)
}
