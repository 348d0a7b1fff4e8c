package crashfs

import (
	"path"
	"strings"
	"testing"
)

// replaceFile is the textbook way, or one with a step left out.
func replaceFile(t *testing.T, fs *FS, skip Kind) {
	f := create(t, fs, "d/tmp", "1")
	_, err := f.Write([]byte("2"))
	must(t, err)
	if skip != Sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
	must(t, fs.Rename("d/tmp", "d/f"))
	if skip != SyncDir {
		syncDir(t, fs, "d")
	}
	must(t, create(t, fs, "log", "f is there").Sync())
}

func withDir(t *testing.T) *FS {
	fs := New()
	must(t, fs.MkdirAll("d", 0))
	syncDir(t, fs, "/")
	return fs
}

func TestGoldenTrace(t *testing.T) {
	fs := withDir(t)
	trace := Record(fs)
	replaceFile(t, fs, "")
	got := trace.Golden(func(p string) string {
		if p == "/log" {
			return ""
		}
		return path.Base(p)
	})
	want := strings.TrimLeft(`
create  tmp
write   tmp
sync    tmp
rename  tmp -> f
syncdir d
`, "\n")
	if got != want {
		t.Errorf("trace:\n%s\nwant:\n%s", got, want)
	}
}

func TestRuleCatchesMissingSyncs(t *testing.T) {
	for skip, broken := range map[Kind]bool{"": false, Sync: true, SyncDir: true} {
		fs := withDir(t)
		var errs []error
		fs.Enforce(Rule{
			Name:  "the log says only what is durable",
			When:  func(op Op) bool { return op.Kind == Sync && op.Path == "/log" },
			Clean: Under("/d"),
		}, func(err error) { errs = append(errs, err) })
		replaceFile(t, fs, skip)
		if (len(errs) > 0) != broken {
			t.Errorf("without %q: %v", skip, errs)
		}
	}
}

func TestOperationsAreCounted(t *testing.T) {
	fs := withDir(t)
	var seqs []uint64
	fs.Observe(func(at *Instant) { seqs = append(seqs, at.Op.Seq) })
	before := fs.Ops()
	replaceFile(t, fs, "")
	for i, seq := range seqs {
		if seq != before+uint64(i)+1 {
			t.Fatalf("operation numbers %v after %d", seqs, before)
		}
	}
	if fs.Ops() != before+uint64(len(seqs)) || len(seqs) != 9 {
		t.Errorf("%d operations seen, %d counted", len(seqs), fs.Ops()-before)
	}
}
