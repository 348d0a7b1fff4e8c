package crashfs

import (
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// seeded gives a random source whose seed is printed; STRONGROOM_SEED repeats it.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		seed = n
	}
	t.Logf("repeat with STRONGROOM_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fs *FS, name, text string) vfs.File {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write([]byte(text))
	must(t, err)
	return f
}

// durable makes a file that a power cut cannot touch.
func durable(t testing.TB, fs *FS, name, text string) {
	t.Helper()
	f := create(t, fs, name, text)
	must(t, f.Sync())
	must(t, f.Close())
	syncDir(t, fs, fs.PathDir(name))
}

func syncDir(t testing.TB, fs *FS, dir string) {
	t.Helper()
	d, err := fs.OpenDir(dir)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
}

// text is a file's content, "<none>" when there is no such file.
func text(t testing.TB, fs *FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if os.IsNotExist(err) {
		return "<none>"
	}
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

// soak is how many times longer than usual the random tests run:
// STRONGROOM_SOAK, or 1.
func soak(t testing.TB) int {
	s := os.Getenv("STRONGROOM_SOAK")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}
