package catalog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// fileOf is a file of whole chunks.
func fileOf(name, disk string, refs ...ChunkRef) NewFile {
	return NewFile{FileImage{Name: name, Disk: disk, Size: int64(len(refs)) * dedup.ChunkSize, Modified: time.UnixMilli(1e12).UTC(),
		WrittenBytes: 100, NewBytes: 10, StoredBytes: 1}, refs}
}

func TestPointOfFilesOnly(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	n := NewPoint{ID: testID(1), VM: "web1", Files: []NewFile{fileOf("b", "", ChunkRef{New: testChunk(1)}), fileOf("a/é", "")}}
	mustCommit(t, c, n)
	mustClose(t, c)
	if err := fs.RemoveAll(testOptions(fs).Dir); err != nil {
		t.Fatal(err)
	}
	c = mustOpen(t, testOptions(fs))
	defer mustClose(t, c)
	p, err := c.Point(testID(1))
	if err != nil || len(p.Images) != 0 || len(p.Files) != 2 || p.Files[0].Name != "a/é" || p.Files[1].Size != dedup.ChunkSize ||
		!p.Files[1].Modified.Equal(time.UnixMilli(1e12)) {
		t.Fatalf("%+v, %v", p, err)
	}
	if list, err := c.ChunkList(p.ID, FileKey("b")); err != nil || !slices.Equal(list, []ChunkNo{1}) {
		t.Fatalf("%v, %v", list, err)
	}
	if list, err := c.ChunkList(p.ID, FileKey("a/é")); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, key := range []string{"b", FileKey("a"), FileKey("")} {
		if _, err := c.ChunkList(p.ID, key); !errors.Is(err, ErrNotFound) {
			t.Errorf("chunks of %q: %v", key, err)
		}
	}
	if latest, found, err := c.Latest("web1", ""); err != nil || !found || latest.ID != p.ID {
		t.Fatalf("%+v, %v, %v", latest, found, err)
	}
	if v, err := c.VMs(); err != nil || v[0].Images != 0 || v[0].LogicalBytes != dedup.ChunkSize || len(v[0].Disks) != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	bad, err := c.Affected(context.Background(), func(dedup.Addr, int) bool { return true })
	if err != nil || len(bad) != 1 || bad[0].Disk != FileKey("b") || bad[0].Blocks == 0 {
		t.Fatalf("%+v, %v", bad, err)
	}
	if err := errors.Join(c.Trash(p.ID, time.Now().Add(time.Hour)), c.Undelete(p.ID), c.Remove(p.ID), c.Forget(p.ID)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Mark(context.Background(), func([]Run) { t.Error("something is marked") }); err != nil || n.Images != 0 {
		t.Fatalf("%+v, %v", n, err)
	}
}

func TestFileNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, ".hidden": true, "a b/c": true, "ü": true, "...": true, strings.Repeat("a", 255): true, "1/2/3/4/5/6/7/8": true,
		"": false, "/a": false, "a/": false, "a//b": false, ".": false, "..": false, "a/../b": false, "a/.": false, "a\x00b": false,
		"a\nb": false, "\x7f": false, "\u0085": false, "\xff": false, strings.Repeat("a", 256): false, "1/2/3/4/5/6/7/8/9": false,
	} {
		if err := CheckFileName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestFilesRefused(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	with := func(files ...NewFile) NewPoint {
		n := onePoint(1, "web1", ChunkRef{})
		n.Files = files
		return n
	}
	short := fileOf("a", "", ChunkRef{})
	short.Size++
	negative := fileOf("a", "")
	negative.NewBytes = -1
	many := make([]NewFile, MaxFiles+1)
	for i := range many {
		many[i] = fileOf(strings.Repeat("a", 1+i/26)+string(rune('a'+i%26)), "")
	}
	for what, n := range map[string]NewPoint{
		"nothing": {ID: testID(1), VM: "web1"}, "name": with(fileOf("..", "")), "twice": with(fileOf("a", ""), fileOf("a", "")),
		"another's disk": with(fileOf("a", "vdb")), "chunks": with(short), "count": with(negative), "many": with(many...),
	} {
		if _, err := c.Commit(n); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestMergeTakesFiles: a file goes with the image it became.
func TestMergeTakesFiles(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	for i := 1; i <= 4; i++ {
		n := onePoint(i, "web1", ChunkRef{New: testChunk(uint64(i))})
		n.Files = []NewFile{fileOf("vda.qcow2", "vda", ChunkRef{New: testChunk(uint64(100 + i))})}
		if i == 2 {
			n.Files = append(n.Files, fileOf("notes", "", ChunkRef{New: testChunk(200)}))
		}
		if i > 1 {
			n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(i-1)
		}
		mustCommit(t, c, n)
	}
	files := func(id int) (names []string) {
		p, err := c.Point(testID(id))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Files {
			names = append(names, f.Name)
		}
		return names
	}
	r, err := c.Merge(MergeRequest{"web1", "vda", testID(1), testID(3)}) // pull
	if err != nil || !slices.Equal(r.Gone, []string{testID(1), testID(2)}) || !slices.Equal(r.Points, []string{testID(1)}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := files(2); !slices.Equal(got, []string{"notes"}) {
		t.Errorf("the point whose image went has %v", got)
	}
	if got := files(3); !slices.Equal(got, []string{"vda.qcow2"}) {
		t.Errorf("the point that keeps its content has %v", got)
	}
	r, err = c.Merge(MergeRequest{"web1", "vda", testID(4), testID(3)}) // commit
	if err != nil || !slices.Equal(r.Points, []string{testID(4)}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := files(3); len(got) != 0 {
		t.Errorf("the point that has another's content has %v", got)
	}
	stats, err := c.Mark(context.Background(), func([]Run) {})
	if err != nil || stats.Images != 2 || stats.Chunks != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestUsageOfFiles: a disk that came as a file is there once, and so is what the
// file adds to it.
func TestUsageOfFiles(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	data := testChunk(1, Run{0, 10, dedup.MakeAddr(1, 0)})
	moved := testChunk(2, Run{3, 11, dedup.MakeAddr(1, 0)}) // the same blocks elsewhere, and one more
	n := onePoint(1, "web1", ChunkRef{New: data})
	n.Images[0].WrittenBytes = 10 << 16
	n.Files = []NewFile{fileOf("vda.qcow2", "vda", ChunkRef{New: moved}), fileOf("notes", "", ChunkRef{New: testChunk(3, Run{0, 1, dedup.MakeAddr(1, 100)})})}
	mustCommit(t, c, n)
	u, err := c.Usage(testID(1))
	if err != nil || u.Logical != 2*dedup.ChunkSize || u.Transferred != 10<<16+100 || u.New != 20 || u.Unique != 12<<16 || u.Shared != 0 {
		t.Errorf("point: %+v, %v", u, err)
	}
	u, err = c.DiskUsage("web1", "vda")
	if err != nil || u.Logical != dedup.ChunkSize || u.Transferred != 10<<16 || u.Unique != 11<<16 {
		t.Errorf("disk: %+v, %v", u, err)
	}
	u, err = c.VMUsage("web1")
	if err != nil || u.Logical != 2*dedup.ChunkSize || u.Unique != 12<<16 {
		t.Errorf("VM: %+v, %v", u, err)
	}
	all, err := c.ChainUsage("web1", "vda")
	if err != nil || len(all) != 1 || all[testID(1)].Logical != dedup.ChunkSize || all[testID(1)].Shared != 10<<16 || all[testID(1)].Unique != 0 {
		t.Errorf("chain: %+v, %v", all, err)
	}
}
