package catalog

import (
	"flag"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// ioLabel leaves out Pebble's housekeeping and numbers.
func ioLabel(p string) string {
	switch {
	case isWAL(p):
		return "catalog/WAL"
	case strings.HasPrefix(p, "/data/tier0/meta"):
		return "meta" + strings.TrimPrefix(p, "/data/tier0/meta")
	}
	return ""
}

// TestIOOrder holds the order of operations of every kind of change, the first
// and one into a new log file among them, against testdata/io-order.txt.
func TestIOOrder(t *testing.T) {
	fs := crashfs.New()
	o := testOptions(fs)
	o.LogFileBytes = 1050
	c := mustOpen(t, o)
	defer mustClose(t, c)
	var b strings.Builder
	record := func(what string, do func()) {
		trace := crashfs.Record(fs)
		do()
		b.WriteString(what + "\n" + trace.Golden(ioLabel) + "\n")
	}
	record("first commit", func() { mustCommit(t, c, onePoint(1, "vm", ChunkRef{New: testChunk(1)})) })
	record("commit", func() { mustCommit(t, c, onePoint(2, "vm", ChunkRef{New: testChunk(2)})) })
	record("remove", func() {
		if err := c.Remove(testID(1)); err != nil {
			t.Fatal(err)
		}
	})
	for _, x := range []struct {
		what string
		do   func() error
	}{
		{"forget", func() error { return c.Forget(testID(1)) }},
		{"forget again", func() error { return c.Forget(testID(1)) }},
		{"hold", func() error { return c.Hold(testID(2), "why") }},
		{"hold again", func() error { return c.Hold(testID(2), "why") }},
		{"policy", func() error { return c.SetPolicy("vm", Policy{TrashKeep: new(time.Duration)}) }},
	} {
		record(x.what, func() { mustDo(t, x.do()) })
	}
	record("commit into the next file", func() { mustCommit(t, c, onePoint(3, "vm", ChunkRef{})) })
	golden(t, "testdata/io-order.txt", b.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		os.MkdirAll(path.Dir(file), 0o777)
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("got\n%s\nwant (%s, %v)\n%s", got, file, err, want)
	}
}
