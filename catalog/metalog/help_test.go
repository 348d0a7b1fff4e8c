package metalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const testDir = "/tier0/meta"

var testStore = [16]byte{0xaa, 0xbb}

func testOptions(fs vfs.FS) Options {
	return Options{FS: fs, Dir: testDir, StoreID: testStore, Domain: 7}
}

// record and txn are the model of what a log holds.
type record struct {
	typ     uint16
	payload []byte
}

type txn []record

func (t txn) String() string {
	s := ""
	for _, r := range t {
		s += fmt.Sprintf("%d:%.8x(%d) ", r.typ, r.payload, len(r.payload))
	}
	return s
}

// randomTxn mixes empty payloads, small ones and some of a few sectors.
func randomTxn(rng *rand.Rand) txn {
	t := make(txn, 1+rng.IntN(4))
	for i := range t {
		p := make([]byte, []int{0, 1, 30, 600, 3000}[rng.IntN(5)])
		for j := range p {
			p[j] = byte(rng.Uint32())
		}
		t[i] = record{uint16(2 + rng.IntN(6)), p}
	}
	return t
}

func mustOpen(t testing.TB, o Options, applied uint64) *Log {
	t.Helper()
	l, err := Open(o, applied)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

// write commits one transaction.
func (l *Log) write(t txn) (uint64, error) {
	w, err := l.Begin()
	if err != nil {
		return 0, err
	}
	for _, r := range t {
		w.Add(r.typ, r.payload)
	}
	return w.Commit()
}

func mustWrite(t testing.TB, l *Log, txns ...txn) {
	t.Helper()
	for _, x := range txns {
		if _, err := l.write(x); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
}

// replayed reads what Open left to be applied.
func replayed(l *Log) (all []txn, err error) {
	var cur txn
	err = l.Replay(func(typ uint16, p []byte) error {
		cur = append(cur, record{typ, bytes.Clone(p)})
		return nil
	}, func(uint64) error {
		all, cur = append(all, cur), nil
		return nil
	})
	if err == nil && cur != nil {
		err = errors.New("the replay ended within a transaction")
	}
	return all, err
}

func sameTxns(a, b []txn) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func readFile(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, category)
	if err == nil {
		_, err = f.Write(bytes.Clone(b))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// built is a log of three files, of 2, 2 and 3 transactions, as bytes.
func built(t testing.TB) (files map[string][]byte, names []string, txns []txn) {
	fs := vfs.NewMem()
	rng := rand.New(rand.NewPCG(5, 5))
	l := mustOpen(t, testOptions(fs), 0)
	for _, n := range []int{2, 2, 3} {
		for range n {
			x := randomTxn(rng)
			mustWrite(t, l, x)
			txns = append(txns, x)
		}
		l.giveUp()
	}
	files = map[string][]byte{}
	for _, f := range mustList(t, l) {
		names = append(names, f.path)
		files[f.path] = readFile(t, fs, f.path)
	}
	return files, names, txns
}

func mustList(t testing.TB, l *Log) []file {
	t.Helper()
	files, _, err := l.list()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// restored is a file system holding the given files.
func restored(t testing.TB, files map[string][]byte) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll(testDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, b := range files {
		writeFile(t, fs, path, b)
	}
	return fs
}
