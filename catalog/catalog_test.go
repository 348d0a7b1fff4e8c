package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
)

// testRoot stands in for (*dedup.Store).RootHash.
func testRoot(size int64, chunks []dedup.Hash) dedup.Hash {
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, size)
	for _, c := range chunks {
		h.Write(c[:])
	}
	return dedup.Hash(h.Sum(nil))
}

// testClock goes on by a second each time it is read.
func testClock() func() time.Time {
	t := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return func() time.Time {
		t = t.Add(time.Second)
		return t
	}
}

func newFS() *vfs.MemFS { return vfs.NewMem() }

func testOptions(fs vfs.FS) Options {
	return Options{FS: fs, Dir: "/data/catalog", MetaDir: "/data/tier0/meta", StoreID: [16]byte{1, 2, 3},
		RootHash: testRoot, Clock: testClock(), idle: true}
}

func mustOpen(t testing.TB, o Options) *Catalog {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return c
}

func mustClose(t testing.TB, c *Catalog) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func mustCommit(t testing.TB, c *Catalog, n NewPoint) Point {
	t.Helper()
	p, err := c.Commit(n)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return p
}

// testID makes a valid id from a number.
func testID(n int) string { return fmt.Sprintf("%016d", n) }

// testChunk is a full-length chunk whose hash is made from seed.
func testChunk(seed uint64, runs ...Run) *Chunk {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	if runs == nil {
		runs = []Run{{Start: 0, Count: 1024, Addr: dedup.MakeAddr(seed+1, 0)}}
	}
	return &Chunk{Hash: sha256.Sum256(b[:]), Length: dedup.ChunkSize, Runs: runs}
}

// onePoint is a point of one disk of the given chunks.
func onePoint(id int, vm string, refs ...ChunkRef) NewPoint {
	return NewPoint{ID: testID(id), VM: vm, Images: []NewImage{{
		Image:  Image{Disk: "vda", Size: int64(len(refs)) * dedup.ChunkSize, Mode: Full},
		Chunks: refs,
	}}}
}

// dump is the whole logical content of the catalog.
func dump(t testing.TB, c *Catalog) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// dumpKeys is the content of the database byte for byte, but for what the
// accounts make of it.
func dumpKeys(t testing.TB, c *Catalog) string {
	t.Helper()
	var b bytes.Buffer
	it, err := c.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.IndexByte([]byte("fwvrxPtdibcCnyq"), it.Key()[0]) >= 0 {
			fmt.Fprintf(&b, "%q %x\n", it.Key(), it.Value())
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// forgetRemoved forgets everything removed.
func forgetRemoved(t testing.TB, c *Catalog) {
	t.Helper()
	ids, err := c.Removed()
	if err == nil {
		err = c.Forget(ids...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommitReadReopenRebuild(t *testing.T) {
	fs := vfs.NewMem()
	c := mustOpen(t, testOptions(fs))
	n := onePoint(1, "web1", ChunkRef{New: testChunk(1)}, ChunkRef{}, ChunkRef{New: testChunk(1)}, ChunkRef{New: testChunk(2)})
	n.Labels = map[string]string{"b": "2", "a": "1"}
	n.Blobs = []Blob{{"vm.xml", []byte("<domain/>")}, {"nvram", nil}}
	p := mustCommit(t, c, n)
	if want := testRoot(p.Images[0].Size, []dedup.Hash{testChunk(1).Hash, {}, testChunk(1).Hash, testChunk(2).Hash}); p.Images[0].Root != want {
		t.Errorf("root %x, want %x", p.Images[0].Root, want)
	}
	mustCommit(t, c, onePoint(2, "web1", ChunkRef{No: 1}, ChunkRef{New: testChunk(2)}))
	if err := c.Remove(testID(1)); err != nil {
		t.Fatal(err)
	}
	list, err := c.ChunkList(testID(2), "vda")
	if err != nil || fmt.Sprint(list) != "[1 2]" {
		t.Errorf("chunk list %v, %v", list, err)
	}
	forgetRemoved(t, c)
	before := dump(t, c)
	mustClose(t, c)

	c = mustOpen(t, testOptions(fs))
	if got := dump(t, c); got != before {
		t.Errorf("after reopen:\n%s\nwant:\n%s", got, before)
	}
	mustClose(t, c)
	if err := fs.RemoveAll("/data/catalog"); err != nil {
		t.Fatal(err)
	}
	c = mustOpen(t, testOptions(fs))
	if got := dump(t, c); got != before {
		t.Errorf("after rebuild:\n%s\nwant:\n%s", got, before)
	}
	mustClose(t, c)
}

// TestTimeIsStrictlyIncreasing with a clock that stands still or goes back, over
// restarts and removals.
func TestTimeIsStrictlyIncreasing(t *testing.T) {
	fs := newFS()
	clock := time.Date(2026, 5, 1, 0, 0, 0, 999_999, time.UTC)
	o := testOptions(fs)
	o.Clock = func() time.Time { return clock }
	last := time.Time{}
	for i := range 12 {
		c := mustOpen(t, o)
		p := mustCommit(t, c, onePoint(i+1, "vm", ChunkRef{}))
		if !p.Time.After(last) || p.Time.Nanosecond()%1e6 != 0 || p.Time.Location() != time.UTC {
			t.Fatalf("point %d at %v, the one before at %v", i, p.Time, last)
		}
		last = p.Time
		if latest, _, err := c.Latest("vm", ""); err != nil || latest.ID != p.ID {
			t.Fatalf("latest is %s, %v; want %s", latest.ID, err, p.ID)
		}
		if i%3 == 0 {
			if err := c.Remove(p.ID); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, c)
		clock = clock.Add(time.Duration(i%3-1) * time.Hour)
		if i == 5 {
			clock = time.Unix(-1e9, 0)
		}
	}
}

// TestTimeOfTheTrash: no time is given twice, with a clock that stands still.
func TestTimeOfTheTrash(t *testing.T) {
	o := testOptions(newFS())
	clock := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	o.Clock = func() time.Time { return clock }
	c := mustOpen(t, o)
	chain(t, c, 1, 3)
	mustDo(t, c.Trash(testID(3), clock.AddDate(1, 0, 0)))
	trashed, err := c.Point(testID(3))
	mustDo(t, err)
	r, err := c.Merge(MergeRequest{"vm", "vda", testID(2), testID(1)})
	mustDo(t, err)
	mustClose(t, c)
	c = mustOpen(t, o)
	defer mustClose(t, c)
	p := mustCommit(t, c, onePoint(4, "vm", ChunkRef{}))
	if m := r.Point.Images[0].Merged; !m.After(trashed.Trashed) || !trashed.Trashed.After(trashed.Time) || !p.Time.After(m) {
		t.Errorf("committed %v, trashed %v, merged %v, committed %v", trashed.Time, trashed.Trashed, m, p.Time)
	}
}

func TestIDsAreUsedOnce(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{}))
	if _, err := c.Commit(onePoint(1, "vm2", ChunkRef{})); !errors.Is(err, ErrExists) {
		t.Errorf("an id in use: %v", err)
	}
	if err := c.Remove(testID(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(onePoint(1, "vm", ChunkRef{})); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("the id of a removed point: %v", err)
	}
	if err := c.Remove(testID(1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing twice: %v", err)
	}
}

func TestRemovedParent(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{New: testChunk(1)}))
	child := onePoint(2, "vm", ChunkRef{No: 1})
	child.Images[0].Mode, child.Images[0].Parent = Incremental, testID(1)
	for _, step := range []func() error{
		func() error { _, err := c.Commit(child); return err },
		func() error { return c.Remove(testID(1)) },
		func() error { child.ID = testID(3); _, err := c.Commit(child); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{testID(2), testID(3)} {
		if list, err := c.ChunkList(id, "vda"); err != nil || fmt.Sprint(list) != "[1]" {
			t.Errorf("%s: %v, %v", id, list, err)
		}
	}
}

func TestNotFoundMessages(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	n := onePoint(1, "vm", ChunkRef{New: testChunk(1)})
	n.Blobs = []Blob{{"domain.xml", []byte("x")}}
	mustCommit(t, c, n)
	_, e1 := c.Point(testID(2))
	_, e2 := c.ChunkList(testID(2), "vda")
	_, e3 := c.ChunkList(testID(1), "vdb")
	_, e4 := c.Blob(testID(1), "nvram")
	_, e5 := c.Chunk(7)
	for want, err := range map[string]error{
		"point " + testID(2): e1, "point " + testID(2) + " ": e2, "the point has vda": e3,
		"the point has domain.xml": e4, "chunk 7": e5,
	} {
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want ErrNotFound and %q", err, want)
		}
	}
}

func TestAfterClose(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	mustClose(t, c)
	mustClose(t, c)
	_, e1 := c.Commit(onePoint(1, "vm", ChunkRef{}))
	_, e2 := c.Points("")
	_, e3 := c.Chunk(1)
	_, e4 := c.Resolve(Ref{VM: "vm"})
	for _, err := range []error{e1, e2, e3, e4, c.Remove(testID(1))} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
	if s := c.Stats(); s.Pebble != nil {
		t.Error("statistics of a closed catalog")
	}
}
