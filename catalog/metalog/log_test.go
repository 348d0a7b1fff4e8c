package metalog

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// TestHistories writes random transactions over many sessions and checks that
// every later reader sees exactly what it has not applied.
func TestHistories(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewMem()
		o := testOptions(fs)
		o.RotateBytes = int64(1 + rng.IntN(20000))
		var all []txn
		var ends []uint64
		for range 8 {
			known := rng.IntN(len(all) + 1)
			applied := uint64(0)
			if known > 0 {
				applied = ends[known-1]
			}
			l := mustOpen(t, o, applied)
			got, err := replayed(l)
			if err != nil || !sameTxns(got, all[known:]) {
				t.Fatalf("seed %d: replay after %d of %d: %v\n%v\nwant\n%v", seed, known, len(all), err, got, all[known:])
			}
			for range rng.IntN(5) {
				x := randomTxn(rng)
				end, err := l.write(x)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				all, ends = append(all, x), append(ends, end)
			}
			if rng.IntN(3) == 0 { // a transaction that is not finished
				w, err := l.Begin()
				if err != nil {
					t.Fatal(err)
				}
				w.Add(2, make([]byte, rng.IntN(2*writeBuffer)))
				w.Abort()
			}
			checkSize(t, l)
			l.Close()
		}
	}
}

// checkSize compares the counters with the directory.
func checkSize(t *testing.T, l *Log) {
	t.Helper()
	var files, size int64
	for _, f := range mustList(t, l) {
		if f.first < l.next || l.w != nil && l.w.first == f.first {
			files++
			size += f.size
		}
	}
	if f, b := l.Size(); f != files || b != size {
		t.Fatalf("Size says %d files, %d bytes; the directory has %d, %d", f, b, files, size)
	}
}

func TestNewerAndForeignFilesAreRefusedUnchanged(t *testing.T) {
	fs := crashfs.New()
	l := mustOpen(t, testOptions(fs), 0)
	mustWrite(t, l, txn{{2, []byte("x")}})
	l.Close()
	path := testDir + "/" + fileName(1)
	good := readFile(t, fs, path)

	newer := append([]byte(nil), good...)
	newer[8]++
	fixHeader(newer)
	writeFile(t, fs, path, newer)
	trace := crashfs.Record(fs)
	if _, err := Open(testOptions(fs), 0); !errors.Is(err, ErrNewer) {
		t.Errorf("newer version: %v", err)
	}
	writeFile(t, fs, path, good)
	trace = crashfs.Record(fs)
	for _, o := range []Options{{StoreID: [16]byte{1}, Domain: 7}, {StoreID: testStore, Domain: 8}} {
		o.FS, o.Dir = fs, testDir
		if _, err := Open(o, 0); err == nil || errors.Is(err, ErrCorrupt) {
			t.Errorf("store %x, domain %d: %v", o.StoreID, o.Domain, err)
		}
	}
	for _, op := range trace.Ops() {
		if op.Kind != crashfs.SyncDir {
			t.Errorf("a refused log was changed: %v", op)
		}
	}
}

// TestForgedRecords: a torn transaction whose payload looks like records of a
// later one is still a torn tail.
func TestForgedRecords(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, testOptions(fs), 0)
	mustWrite(t, l, txn{{2, []byte("first")}})
	var salt [8]byte // the forger does not know it
	var forged []byte
	for i := range uint64(50) {
		forged = appendRecord(forged, &salt, recordHeader{seq: 100 + i, txn: 100, typ: 3}, nil)
	}
	mustWrite(t, l, txn{{2, forged}})
	l.Close()
	path := testDir + "/" + fileName(1)
	b := readFile(t, fs, path)
	writeFile(t, fs, path, b[:len(b)-(recordOverhead+commitPayload)-1])
	l = mustOpen(t, testOptions(fs), 0)
	if got, err := replayed(l); err != nil || len(got) != 1 {
		t.Errorf("%d transactions, %v; want the first", len(got), err)
	}
}

func TestRecordLimits(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.NewMem()), 0)
	for _, r := range []record{{typeCommit, nil}, {2, make([]byte, MaxPayload+1)}} {
		if _, err := l.write(txn{r}); err == nil {
			t.Errorf("type %d, %d bytes: no error", r.typ, len(r.payload))
		}
	}
	mustWrite(t, l, txn{{2, []byte("x")}})
	if l.next != 3 {
		t.Errorf("next %d, want 3", l.next)
	}
}

func TestRotation(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.RotateBytes = 1000
	l := mustOpen(t, o, 0)
	defer l.Close()
	for range 10 {
		mustWrite(t, l, txn{{2, make([]byte, 500)}})
	}
	files := mustList(t, l)
	if len(files) != 5 || files[1].first != 5 {
		t.Errorf("%d files, the second from record %d; want 5, from 5", len(files), files[1].first)
	}
	if got, err := verdict(t, o.FS, 0); err != nil || len(got) != 10 {
		t.Errorf("%d transactions, %v", len(got), err)
	}
}

// TestCommitRecord: records that are good one by one, of a transaction that
// never was.
func TestCommitRecord(t *testing.T) {
	h := header{domain: 7, store: testStore, first: 1, salt: [8]byte{3}}
	d := newDigest()
	b := appendRecord(h.encode(), &h.salt, recordHeader{length: 1, seq: 1, txn: 1, typ: 2}, []byte("a"))
	d.add(b[headerSize+4:headerSize+28], []byte("b"))
	b = appendRecord(b, &h.salt, recordHeader{length: commitPayload, seq: 2, txn: 1, typ: typeCommit}, d.commit())
	fs := restored(t, map[string][]byte{testDir + "/" + fileName(1): b})
	if got, err := verdict(t, fs, 0); err != nil || len(got) != 0 {
		t.Errorf("%d transactions, %v; want none", len(got), err)
	}
}
