package metalog

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzOpen gives Open any file: it may fail, but not panic, and what it shows
// must be the same at the next Open and after more was written.
func FuzzOpen(f *testing.F) {
	files, names, _ := built(f)
	f.Add(files[names[0]])
	f.Add(files[names[0]][:headerSize+100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerSize { // let the mutations reach the records
			b = bytes.Clone(b)
			copy(b[12:], []byte{7, 0, 0, 0})
			copy(b[16:], testStore[:])
			fixHeader(b)
		}
		fs := restored(t, map[string][]byte{testDir + "/" + fileName(1): b})
		l, err := Open(testOptions(fs), 0)
		if err != nil {
			return
		}
		got, err := replayed(l)
		if err != nil {
			t.Fatal(err)
		}
		extra := txn{{9, []byte("more")}}
		mustWrite(t, l, extra)
		l.Close()
		again, err := verdict(t, fs, 0)
		if err != nil || !sameTxns(again, append(got, extra)) {
			t.Fatalf("%d transactions, then %d, %v", len(got), len(again), err)
		}
	})
}

// FuzzHeader: whatever is accepted is encoded the same.
func FuzzHeader(f *testing.F) {
	h := header{domain: 1, store: testStore, first: 99, salt: [8]byte{1}}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		if again, err := decodeHeader(h.encode()); err != nil || again != h {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

func BenchmarkCommitSmall(b *testing.B) {
	l := mustOpen(b, testOptions(vfs.NewMem()), 0)
	x := txn{{2, make([]byte, 1000)}, {3, make([]byte, 300)}}
	for b.Loop() {
		mustWrite(b, l, x)
	}
}
