package crashfs

import "testing"

func TestDiscard(t *testing.T) {
	fs := New()
	must(t, fs.MkdirAll("d", 0))
	f := create(t, fs, "d/f", "text")
	clone := fs.Kill()
	fs.Discard()
	if n, _ := f.ReadAt(make([]byte, 4), 0); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	if got := text(t, clone, "d/f"); got != "text" {
		t.Errorf("a clone has lost its data: %q", got)
	}
}
