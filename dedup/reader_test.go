package dedup

import (
	"bytes"
	"errors"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

func openReaderTest(t *testing.T, fs *crashfs.FS) *Reader {
	t.Helper()
	ts, err := tier.OpenDir(fs, tierDir, testStore)
	must(t, err)
	r, err := OpenReader(ReaderOptions{Tier: ts, Key: testKey, StoreID: testStore})
	must(t, err)
	return r
}

func readerReads(t *testing.T, r *Reader, addrs []Addr, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := r.Read(addrs, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read of %v: %v", addrs, err)
	}
}

// TestReader reads sealed, open, compacted and damaged packs of a store that
// was killed, and changes no byte.
func TestReader(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	a := storeSealed(t, s, count(1, 12))
	b := storeSealed(t, s, count(21, 12))
	storeSealed(t, s, []uint64{50})
	live, _ := evens(a)
	var ns []uint64
	for i := range live {
		ns = append(ns, uint64(1+2*i))
	}
	collect(t, s, append(append(live[:len(live):len(live)], b...), MakeAddr(3, 0)), SweepOptions{})
	gen1 := readFile(t, fs, genPath(1, 1))
	live, ns = live[1:], ns[1:]
	collect(t, s, append(append(live[:len(live):len(live)], b...), MakeAddr(3, 0)), SweepOptions{})
	w := s.NewWriter()
	open, _ := mustPut(t, w, blocks(count(61, 5)...), nil)
	dead := fs.Kill()
	w.Close()
	closeTest(t, s)

	// The newest generation of pack 1 has rotted and the one before is still
	// there; both tables of pack 2 are damaged.
	writeFile(t, dead, genPath(1, 1), gen1)
	rotten := readFile(t, dead, genPath(1, 2))
	rotten[packHeaderSize+maxFrameHeader+40] ^= 1
	writeFile(t, dead, genPath(1, 2), rotten)
	tables := readFile(t, dead, packPath(2))
	length := tocSize(3, 12)
	tables[len(tables)-footerSize-length+3] ^= 1
	tables[len(tables)-footerSize-2*length+3] ^= 1
	writeFile(t, dead, packPath(2), tables)

	before := packContents(t, dead)
	mark := dead.Ops()
	r := openReaderTest(t, dead)
	readerReads(t, r, live, blocks(ns...))
	readerReads(t, r, b, blocks(count(21, 12)...))
	readerReads(t, r, open, blocks(count(61, 5)...))
	hashes := make([]Hash, len(open))
	must(t, r.Hashes(open, hashes))
	if hashes[0] != s.BlockHash(block(61)) {
		t.Error("another hash")
	}
	if err := r.Read([]Addr{MakeAddr(open[0].Pack(), 999)}, make([]byte, BlockSize)); !errors.Is(err, ErrUnknownAddr) {
		t.Errorf("%v", err)
	}
	must(t, r.Close())
	if err := r.Read(live, make([]byte, len(live)*BlockSize)); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if n := dead.Ops() - mark; n != 0 {
		t.Errorf("the reader did %d operations that change something", n)
	}

	// What it did not change, a start can still put in order.
	s = openTest(t, testOptions(t, dead))
	checkRead(t, s, live, blocks(ns...))
	checkRead(t, s, b, blocks(count(21, 12)...))
	checkRead(t, s, open, blocks(count(61, 5)...))
	closeTest(t, s)
	if now := packContents(t, dead); now["0000000/0000000001.g2.pack"] != "" || len(now) >= len(before) {
		t.Error("a generation that does not count is still there")
	}
}

// TestReaderOfGivenUpPack serves what was durable, and no more.
func TestReaderOfGivenUpPack(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	safe, _ := mustPut(t, w, blocks(1, 2, 3), nil)
	mustSync(t, w)
	lost, _ := mustPut(t, w, blocks(4, 5), nil)
	fs.Inject(&crashfs.Fault{Match: packOp(crashfs.Sync), Effect: crashfs.DropDirty})
	if err := w.Sync(); err == nil {
		t.Fatal("the sync did not fail")
	}
	w.Close()
	dead := fs.Kill()
	closeTest(t, s)
	r := openReaderTest(t, dead)
	readerReads(t, r, safe, blocks(1, 2, 3))
	if err := r.Read(lost[:1], make([]byte, BlockSize)); !errors.Is(err, ErrUnknownAddr) {
		t.Errorf("%v", err)
	}
	must(t, r.Close())
}

// TestGenerations starts with every combination of two generations.
func TestGenerations(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	s := openTest(t, o)
	addrs := storeSealed(t, s, count(1, 8))
	storeSealed(t, s, []uint64{50})
	closeTest(t, s)
	old := readFile(t, fs, packPath(1))
	s = openTest(t, o)
	collect(t, s, []Addr{addrs[0], addrs[1], MakeAddr(2, 0)}, SweepOptions{})
	closeTest(t, s)
	young := readFile(t, fs, genPath(1, 1))
	rot := func(b []byte) []byte {
		c := bytes.Clone(b)
		c[packHeaderSize+frameHeaderSize(2)+40] ^= 1
		return c
	}
	none := []byte(nil)
	for name, c := range map[string]struct {
		low, high []byte
		counts    int // generation
		left      int // files
	}{
		"both good":            {old, young, 1, 1},
		"high unfinished":      {old, young[:len(young)-200], 0, 1},
		"high empty":           {old, none, 0, 1},
		"high rotten":          {old, rot(young), 0, 1},
		"low rotten":           {rot(old), young, 1, 1},
		"both rotten":          {rot(old), rot(young), 1, 2},
		"low rotten, high cut": {rot(old), young[:100], 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			fs := fs.Kill()
			writeFile(t, fs, packPath(1), c.low)
			writeFile(t, fs, genPath(1, 1), c.high)
			r := openReaderTest(t, fs)
			if gen, _ := r.s.packs.gen(1); int(gen) != c.counts {
				t.Errorf("generation %d counts for a reader, want %d", gen, c.counts)
			}
			must(t, r.Close())
			for range 2 {
				s := openTest(t, testOptions(t, fs))
				if gen, _ := s.packs.gen(1); int(gen) != c.counts {
					t.Errorf("generation %d counts, want %d", gen, c.counts)
				}
				n := 0
				for id := range tierFiles(t, s) {
					if id.Pack == 1 {
						n++
					}
				}
				if n != c.left {
					t.Errorf("%d generations are left, want %d", n, c.left)
				}
				if name != "both rotten" && name != "low rotten, high cut" {
					checkRead(t, s, addrs[:2], blocks(1, 2))
				}
				closeTest(t, s)
			}
		})
	}
}
