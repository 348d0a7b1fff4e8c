package dedup

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testStore = [16]byte{0xde, 0xad}
	testKey   = [32]byte{7}
	testTime  = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
)

const (
	tierDir  = "/data/tier0"
	indexDir = "/data/index"
	packDir  = tierDir + "/packs"
)

// testOptions are a small store's on fs.
func testOptions(t testing.TB, fs vfs.FS) Options {
	t.Helper()
	ts, err := tier.CreateDir(fs, tierDir, testStore)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		FS: fs, Dir: indexDir, Tier: ts, Key: testKey, StoreID: testStore, PackSize: 1 << 20,
		Clock: func() time.Time { return testTime },
	}
}

func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeTest(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// newStoreTest opens a store on a new file system and closes it when the test
// ends.
func newStoreTest(t testing.TB) (*Store, *crashfs.FS) {
	t.Helper()
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	t.Cleanup(func() { closeTest(t, s) })
	return s, fs
}

// block is the content number n: 0 is zeros, the others differ and are by turns
// text-like, random and sparse. The result is shared: do not change it.
func block(n uint64) []byte {
	if b, ok := madeBlocks.Load(n); ok {
		return b.([]byte)
	}
	b := makeBlock(n)
	madeBlocks.Store(n, b)
	return b
}

var madeBlocks sync.Map

func makeBlock(n uint64) []byte {
	b := make([]byte, BlockSize)
	if n == 0 {
		return b
	}
	rng := rand.New(rand.NewPCG(n, 99))
	switch n % 3 {
	case 0:
		rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	case 1:
		words := make([][]byte, 64)
		for i := range words {
			words[i] = randomBytes(4 + rng.IntN(12))
		}
		for at := 0; at < len(b); {
			at += copy(b[at:], words[rng.IntN(len(words))])
		}
	case 2:
		for range 8 {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
	}
	binary.LittleEndian.PutUint64(b[BlockSize-8:], n)
	return b
}

func blocks(ns ...uint64) []byte {
	var data []byte
	for _, n := range ns {
		data = append(data, block(n)...)
	}
	return data
}

func count(from, n uint64) []uint64 {
	ns := make([]uint64, n)
	for i := range ns {
		ns[i] = from + uint64(i)
	}
	return ns
}

func mustPut(t testing.TB, w *Writer, data []byte, hints []Addr) ([]Addr, PutResult) {
	t.Helper()
	out := make([]Addr, len(data)/BlockSize)
	r, err := w.Put(data, hints, out)
	if err != nil {
		t.Fatal(err)
	}
	return out, r
}

func mustSync(t testing.TB, w *Writer) {
	t.Helper()
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
}

// checkRead reads addresses together, and each alone.
func checkRead(t testing.TB, s *Store, addrs []Addr, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := s.Read(addrs, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("read other bytes than were stored")
	}
	for i := range addrs {
		b := make([]byte, BlockSize)
		if err := s.Read(addrs[i:i+1], b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, want[i*BlockSize:(i+1)*BlockSize]) {
			t.Fatalf("block %d (%v) read alone has other bytes than were stored", i, addrs[i])
		}
	}
}

// packFiles lists the tier's packs in order.
func packFiles(t testing.TB, s *Store) []tier.ID {
	t.Helper()
	ids, err := s.countingPacks(false)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func readFile(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if len(b) > 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := fs.Create(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func packPath(pack uint64) string {
	return packDir + "/" + hexDigits(pack>>12, 7) + "/" + hexDigits(pack, 10) + ".g0.pack"
}

func hexDigits(n uint64, width int) string {
	const digits = "0123456789abcdef"
	b := make([]byte, width)
	for i := width - 1; i >= 0; i-- {
		b[i], n = digits[n&15], n>>4
	}
	return string(b)
}

func sortAddrs(a []Addr) { slices.Sort(a) }

// seeds are those of a test's runs: STRONGROOM_SEED alone, or n of them; with
// STRONGROOM_SOAK=k, k times as many.
func seeds(n uint64) []uint64 {
	number := func(name string) (uint64, bool) {
		v, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		return v, err == nil
	}
	if seed, ok := number("STRONGROOM_SEED"); ok {
		return []uint64{seed}
	}
	if k, ok := number("STRONGROOM_SOAK"); ok {
		n *= k
	}
	return count(0, n)
}

func newRNG(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1234)) }
