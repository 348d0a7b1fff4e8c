package metalog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fixHeader makes a header's checksum right.
func fixHeader(b []byte) {
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
}

// lastStart is where the last transaction of a file begins.
func lastStart(t testing.TB, files map[string][]byte, path string) int64 {
	t.Helper()
	l := &Log{o: testOptions(restored(t, files))}
	h, err := decodeHeader(files[path])
	if err != nil {
		t.Fatal(err)
	}
	l.files = []file{{path: path, header: h}}
	end, err := l.scan(0, 1<<63, discard, func(span) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return end.last.start
}

// verdict opens a damaged log that nothing has been applied of.
func verdict(t testing.TB, fs vfs.FS, applied uint64) ([]txn, error) {
	t.Helper()
	l, err := Open(testOptions(fs), applied)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return replayed(l)
}

// TestEveryBitFlip flips one bit of every byte. Only the last transaction may
// be taken for torn, and only if it was not applied.
func TestEveryBitFlip(t *testing.T) {
	files, names, txns := built(t)
	last := names[len(names)-1]
	start := lastStart(t, files, last)
	applied := uint64(0)
	for _, x := range txns {
		applied += uint64(len(x)) + 1
	}
	for _, path := range names {
		b := files[path]
		for off := range b {
			b[off] ^= 1 << (off % 8)
			fs := restored(t, files)
			got, err := verdict(t, fs, 0)
			torn := path == last && int64(off) >= start
			switch {
			case torn && (err != nil || !sameTxns(got, txns[:len(txns)-1])):
				t.Fatalf("%s byte %d: %d transactions, %v; want all but the last", path, off, len(got), err)
			case !torn && !errors.Is(err, ErrCorrupt):
				t.Fatalf("%s byte %d: %d transactions, %v; want ErrCorrupt", path, off, len(got), err)
			case !torn && off >= headerSize:
				checkNamed(t, err, path, int64(off))
			}
			if path == last {
				_, err := verdict(t, restored(t, files), applied)
				if checkNamed(t, err, path, int64(off)); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s byte %d, all applied: %v; want ErrCorrupt", path, off, err)
				}
			}
			b[off] ^= 1 << (off % 8)
		}
	}
}

// checkNamed wants the file and the offset of the record in the error.
func checkNamed(t *testing.T, err error, path string, off int64) {
	t.Helper()
	var d *DamageError
	if !errors.As(err, &d) || d.File != path || d.Offset > off || off-d.Offset > 3100 {
		t.Fatalf("%s byte %d: %v", path, off, err)
	}
}

// TestEveryTruncation cuts files short.
func TestEveryTruncation(t *testing.T) {
	files, names, txns := built(t)
	applied := uint64(0)
	for _, x := range txns {
		applied += uint64(len(x)) + 1
	}
	for i, path := range names {
		whole := files[path]
		for n := range len(whole) {
			files[path] = whole[:n]
			got, err := verdict(t, restored(t, files), 0)
			if i < len(names)-1 {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s cut to %d: %v; want ErrCorrupt", path, n, err)
				}
				continue
			}
			if err != nil || len(got) < 4 || !sameTxns(got, txns[:len(got)]) {
				t.Fatalf("%s cut to %d: %d transactions, %v", path, n, len(got), err)
			}
			if _, err := verdict(t, restored(t, files), applied); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d, all applied: %v; want ErrCorrupt", path, n, err)
			}
		}
		files[path] = whole
	}
}

func TestMissingAndMisplacedFiles(t *testing.T) {
	files, names, txns := built(t)
	for i, path := range names {
		whole := files[path]
		delete(files, path)
		got, err := verdict(t, restored(t, files), 0)
		if i < len(names)-1 && !errors.Is(err, ErrCorrupt) {
			t.Errorf("without %s: %v; want ErrCorrupt", path, err)
		}
		if i == len(names)-1 && (err != nil || !sameTxns(got, txns[:4])) {
			t.Errorf("without the last file: %d transactions, %v", len(got), err)
		}
		files[path] = whole
	}
	files[names[0]], files[names[1]] = files[names[1]], files[names[0]]
	if _, err := verdict(t, restored(t, files), 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("two files swapped: %v", err)
	}
	if _, err := verdict(t, restored(t, nil), 17); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no file, 17 records applied: %v", err)
	}
}

// TestSwappedRecords: records with good checksums in the wrong order.
func TestSwappedRecords(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, testOptions(fs), 0)
	x := txn{{2, []byte("one")}}
	mustWrite(t, l, x, txn{{2, []byte("two")}}, txn{{2, []byte("six")}})
	l.Close()
	path := testDir + "/" + fileName(1)
	b := readFile(t, fs, path)
	n := (len(b) - headerSize) / 3
	first, second := b[headerSize:headerSize+n], b[headerSize+n:headerSize+2*n]
	swapped := append(append(append(append([]byte(nil), b[:headerSize]...), second...), first...), b[headerSize+2*n:]...)
	writeFile(t, fs, path, swapped)
	if _, err := verdict(t, fs, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("swapped transactions: %v", err)
	}
	writeFile(t, fs, path, append(append([]byte(nil), b...), first...))
	if got, err := verdict(t, fs, 0); err != nil || len(got) != 3 {
		t.Errorf("a repeated transaction at the end: %d transactions, %v", len(got), err)
	}
}
