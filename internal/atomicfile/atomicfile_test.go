package atomicfile

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestWriteSurvivesPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	if err := Write(fs, "a", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := Write(fs, "a", []byte("two")); err != nil {
		t.Fatal(err)
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(1, 1))})
	if got, err := Read(after, "a", 10); err != nil || string(got) != "two" {
		t.Fatalf("after a power cut: %q, %v; want two", got, err)
	}
}

func TestReadLimit(t *testing.T) {
	fs := vfs.NewMem()
	if err := Write(fs, "a", make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for limit, ok := range map[int64]bool{9: false, 10: true, 11: true} {
		if _, err := Read(fs, "a", limit); (err == nil) != ok {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}
