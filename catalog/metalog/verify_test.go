package metalog

import (
	"errors"
	"testing"
)

// TestVerify: every flipped bit, every missing file and every lost end of what
// was applied is found; what comes after it is not looked at.
func TestVerify(t *testing.T) {
	files, names, txns := built(t)
	held := uint64(0)
	for _, x := range txns {
		held += uint64(len(x)) + 1
	}
	last := names[len(names)-1]
	start, before := lastStart(t, files, last), held-uint64(len(txns[len(txns)-1]))-1
	if err := Verify(testOptions(restored(t, files)), held); err != nil {
		t.Fatalf("an undamaged log: %v", err)
	}
	bad := func(what, path string, data []byte, changesLast bool) {
		t.Helper()
		whole := files[path]
		defer func() { files[path] = whole }()
		if files[path] = data; data == nil {
			delete(files, path)
		}
		fs := restored(t, files)
		if err := Verify(testOptions(fs), held); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s of %s: %v", what, path, err)
		}
		if err := Verify(testOptions(fs), before); (err == nil) != changesLast {
			t.Fatalf("%s of %s, where the last transaction does not count: %v", what, path, err)
		}
	}
	for _, path := range names {
		b := files[path]
		for off := 0; off < len(b); off += 5 {
			x := append([]byte(nil), b...)
			x[off] ^= 1 << (off % 8)
			bad("a flipped bit", path, x, path == last && int64(off) >= start)
		}
		bad("the last byte", path, b[:len(b)-1], path == last)
		bad("all", path, nil, path == last && start == headerSize)
	}
}
