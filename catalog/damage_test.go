package catalog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// set changes a value behind the catalog's back.
func (c *Catalog) set(t *testing.T, key, value []byte) {
	t.Helper()
	if err := c.db.Set(key, value, pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

func TestNewerCatalogIsRefusedUnchanged(t *testing.T) {
	fs := crashfs.New()
	c := mustOpen(t, testOptions(fs))
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{}))
	f := encodeFormat(c.o.StoreID)
	f[0]++
	c.set(t, []byte{keyFormat}, f)
	mustClose(t, c)
	checkRefused(t, fs, testOptions(fs), ErrNewer)
}

func TestForeignStoreIsRefusedUnchanged(t *testing.T) {
	fs := crashfs.New()
	c := mustOpen(t, testOptions(fs))
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{}))
	mustClose(t, c)
	o := testOptions(fs)
	o.StoreID[0]++
	checkRefused(t, fs, o, nil)
	o.Dir = "/data/other"
	checkRefused(t, fs, o, nil)
}

// checkRefused allows Pebble its lock file, and syncs.
func checkRefused(t *testing.T, fs *crashfs.FS, o Options, want error) {
	t.Helper()
	trace := crashfs.Record(fs)
	c, err := Open(o)
	if err == nil {
		mustClose(t, c)
	}
	if err == nil || want != nil && !errors.Is(err, want) {
		t.Errorf("open: %v; want %v", err, want)
	}
	for _, op := range trace.Ops() {
		if op.Kind != crashfs.SyncDir && !strings.HasSuffix(op.Path, "/LOCK") {
			t.Errorf("a refused catalog was changed: %v", op)
		}
	}
}

// TestDamagedValues: what cannot be decoded is ErrCorrupt and says so.
func TestDamagedValues(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	n := onePoint(1, "vm", ChunkRef{New: testChunk(1)})
	n.Blobs = []Blob{{"x", []byte("abc")}}
	p := mustCommit(t, c, n)
	for name, x := range map[string]struct {
		key  []byte
		read func() error
	}{
		"place": {pointVMKey(p.ID), func() error { _, err := c.Point(p.ID); return err }},
		"point": {pointKey("vm", p.Time), func() error { _, err := c.Points("vm"); return err }},
		"vm":    {vmKey("vm"), func() error { _, err := c.VMs(); return err }},
		"image": {imageKey(p.ID, "vda"), func() error { _, err := c.ChunkList(p.ID, "vda"); return err }},
		"blob":  {blobKey(p.ID, "x"), func() error { _, err := c.Blob(p.ID, "x"); return err }},
		"chunk": {chunkKey(1), func() error { _, err := c.Chunk(1); return err }},
		"hash": {chunkHashKey(testChunk(1).Hash), func() error {
			_, err := c.Commit(onePoint(2, "vm2", ChunkRef{New: testChunk(1)}))
			return err
		}},
	} {
		good, err := get(c.db, x.key)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, bad := range [][]byte{nil, {0xff}, append(bytes.Clone(good), 0), good[:len(good)-1]} {
			if name == "place" && len(bad) >= len(good)-1 {
				continue // only the VM's name ends differently
			}
			c.set(t, x.key, bad)
			if err := x.read(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s as %x: %v; want ErrCorrupt", name, bad, err)
			}
		}
		c.set(t, x.key, good)
		if name == "hash" {
			continue
		}
		if err := x.read(); err != nil {
			t.Errorf("%s restored: %v", name, err)
		}
	}
}

// TestLogCutBehindTheDatabase: the database knows more than the log.
func TestLogCutBehindTheDatabase(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{}))
	mustClose(t, c)
	if err := fs.RemoveAll("/data/tier0/meta"); err != nil {
		t.Fatal(err)
	}
	if c, err := Open(testOptions(fs)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open without the log: %v, %v", c, err)
	}
}

// TestDamagedDatabase flips bits all over Pebble's files: Open fails with
// ErrCorrupt and what to do, or what is read is right or refused; and with the
// directory gone everything is back.
func TestDamagedDatabase(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	g := &generator{rng: rand.New(rand.NewPCG(5, 5))}
	m := newModel()
	for range 20 {
		m = step(t, g, m, c)
	}
	if err := c.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		m = step(t, g, m, c)
	}
	mustClose(t, c)
	m = m.forgotten()
	names, err := fs.List("/data/catalog")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	refused := 0
	for _, name := range names {
		path := "/data/catalog/" + name
		whole := slurp(t, fs, path)
		for range min(len(whole), 12) {
			bad := bytes.Clone(whole)
			bad[g.rng.IntN(len(bad))] ^= 1 << g.rng.IntN(8)
			copied := cloneFS(t, fs)
			spill(t, copied, path, bad)
			c, err := Open(testOptions(copied))
			if err == nil {
				err = m.check(c)
				c.Close()
			}
			switch {
			case err == nil:
			case errors.Is(err, ErrCorrupt), strings.Contains(err.Error(), "move the directory away"):
				refused++
			default:
				t.Errorf("%s: %v", name, err)
			}
			if err := copied.RemoveAll("/data/catalog"); err != nil {
				t.Fatal(err)
			}
			if c, err = Open(testOptions(copied)); err != nil {
				t.Fatalf("%s damaged, then removed: %v", name, err)
			}
			if err := m.check(c); err != nil {
				t.Fatalf("%s damaged, then removed: %v", name, err)
			}
			mustClose(t, c)
		}
	}
	t.Logf("%d refused", refused)
}

func slurp(t *testing.T, fs vfs.FS, path string) []byte {
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

func spill(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func cloneFS(t *testing.T, from vfs.FS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	if ok, err := vfs.Clone(from, to, "/data", "/data"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return to
}

// TestDamageStopsCommits: a damaged block met while reading makes the catalog
// read-only, and it says what to do.
func TestDamageStopsCommits(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	for i := range 50 {
		mustCommit(t, c, onePoint(i, "vm", ChunkRef{New: testChunk(uint64(i))}))
	}
	if err := c.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	names, err := fs.List("/data/catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			b := slurp(t, fs, "/data/catalog/"+name)
			b[200] ^= 1 // in the first block: chunk hashes
			spill(t, fs, "/data/catalog/"+name, b)
		}
	}
	c = mustOpen(t, testOptions(fs))
	defer c.Close()
	first := readHashes(c)
	_, err = c.Commit(onePoint(100, "vm", ChunkRef{}))
	if !errors.Is(first, ErrCorrupt) || !errors.Is(c.Err(), ErrReadOnly) || !errors.Is(err, ErrReadOnly) ||
		!strings.Contains(err.Error(), "rebuilt from the metadata log") || !c.Stats().ReadOnly {
		t.Errorf("reading: %v; Err: %v; commit: %v", first, c.Err(), err)
	}
	if err := c.Remove(testID(1)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("remove: %v", err)
	}
}

// readHashes reads every chunk hash.
func readHashes(c *Catalog) error {
	return scan(c.db, []byte{keyChunkHash}, func(_, _ []byte) error { return nil })
}
