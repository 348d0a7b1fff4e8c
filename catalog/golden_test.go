package catalog

import (
	"os"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/dedup"
)

const logName = "0000000000000001.mlog"

// TestFormats reads metadata logs made once: one of the records the first
// version wrote, one with all there are, and one of points with files. The logs are never made anew: what
// reads them must not change.
func TestFormats(t *testing.T) {
	for dir, history := range map[string]func(*testing.T, *Catalog){
		"testdata/v1/": historyV1, "testdata/v2/": historyV2, "testdata/v3/": historyV3,
	} {
		if *rewrite {
			makeGoldenLog(t, dir, history)
		}
		b, err := os.ReadFile(dir + logName)
		if err != nil {
			t.Fatal(err)
		}
		fs := newFS()
		if err := fs.MkdirAll("/data/tier0/meta", 0o700); err != nil {
			t.Fatal(err)
		}
		spill(t, fs, "/data/tier0/meta/"+logName, b)
		c := mustOpen(t, testOptions(fs))
		golden(t, dir+"dump.txt", dumpKeys(t, c))
		golden(t, dir+"text.txt", dump(t, c))
		mustClose(t, c)
	}
}

// makeGoldenLog refuses to replace a log.
func makeGoldenLog(t *testing.T, dir string, history func(*testing.T, *Catalog)) {
	if _, err := os.Stat(dir + logName); err == nil {
		return
	}
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	history(t, c)
	mustClose(t, c)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+logName, slurp(t, fs, "/data/tier0/meta/"+logName), 0o666); err != nil {
		t.Fatal(err)
	}
}

func historyV1(t *testing.T, c *Catalog) {
	n := onePoint(1, "web1", ChunkRef{New: testChunk(1)}, ChunkRef{}, ChunkRef{New: testChunk(2)}, ChunkRef{New: testChunk(1)})
	n.Labels = map[string]string{"job": "nightly", "site": "b"}
	n.Blobs = []Blob{{"domain.xml", []byte("<domain/>")}, {"empty", nil}}
	n.Images[0].Checkpoint, n.Images[0].WrittenBytes = "cp1", 12345
	mustCommit(t, c, n)
	m := onePoint(2, "web1", ChunkRef{No: 1}, ChunkRef{New: testChunk(3, Run{3, 5, 1<<16 | 7}, Run{9, 1, 1<<16 | 12}, Run{10, 2, 1 << 16})},
		ChunkRef{No: 2}, ChunkRef{})
	m.Images[0].Mode, m.Images[0].Parent = Incremental, testID(1)
	mustCommit(t, c, m)
	mustCommit(t, c, onePoint(3, "db2", ChunkRef{}))
	if err := c.Remove(testID(3)); err != nil {
		t.Fatal(err)
	}
}

// historyV2 has a chain of eight points with a branch, two disks in some, which
// loses images in every way there is.
func historyV2(t *testing.T, c *Catalog) {
	for i := 1; i <= 8; i++ {
		n := onePoint(i, "web1", ChunkRef{New: testChunk(uint64(i))}, ChunkRef{New: testChunk(100)})
		n.Manual = i%2 == 0
		n.Images[0].WrittenBytes, n.Images[0].NewBytes = int64(i), int64(i*i)
		if i == 3 || i == 6 {
			n.Images = append(n.Images, NewImage{Image{Disk: "vdb", Size: dedup.ChunkSize, Mode: Full}, []ChunkRef{{}}})
			n.Blobs = []Blob{{"domain.xml", []byte("<domain/>")}}
		}
		if i > 1 {
			n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(i-1)
		}
		if i == 8 {
			n.Images[0].Parent = testID(3) // a branch
		}
		mustCommit(t, c, n)
	}
	keep, until := 7*24*time.Hour, time.Date(2031, 1, 1, 0, 0, 0, 500, time.UTC)
	mustCommit(t, c, onePoint(9, "db2", ChunkRef{New: testChunk(9)}))
	for _, err := range []error{
		c.Hold(testID(9), "case 17"), c.Lock(testID(9), until),
		c.SetPolicy("web1", Policy{Keep: &retention.Keep{Daily: 7, Weekly: 4}, TrashKeep: &keep}), c.SetPolicy("db2", Policy{TrashKeep: &keep}),
		c.SetPolicy("db2", Policy{}),
		c.Trash(testID(2), until), c.Undelete(testID(2)), c.Remove(testID(2)),
		c.Trash(testID(5), until), c.Remove(testID(5)), c.Forget(testID(5)), c.Trash(testID(7), until),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	mustCommit(t, c, onePoint(10, "db2", ChunkRef{New: testChunk(5)})) // that died with point 5
	for _, r := range []MergeRequest{
		{"web1", "vda", testID(1), testID(4)}, // pull
		{"web1", "vda", testID(6), testID(4)}, // commit
	} {
		if _, err := c.Merge(r); err != nil {
			t.Fatal(err)
		}
	}
}

// historyV3 has points with files, with and without disks, and loses some of the
// files with the images they became.
func historyV3(t *testing.T, c *Catalog) {
	for i := 1; i <= 4; i++ {
		n := onePoint(i, "web1", ChunkRef{New: testChunk(uint64(i))}, ChunkRef{})
		n.Files = []NewFile{fileOf("vda.qcow2", "vda", ChunkRef{New: testChunk(uint64(50 + i))}, ChunkRef{New: testChunk(1)})}
		if i%2 == 0 {
			n.Files = append(n.Files, fileOf("a folder/\u00fc", "", ChunkRef{}), fileOf(".empty", ""))
			n.Files[1].Modified = time.Time{}
		}
		if i > 1 {
			n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(i-1)
		}
		mustCommit(t, c, n)
	}
	mustCommit(t, c, NewPoint{ID: testID(5), VM: "web1", Files: []NewFile{fileOf("manifest.json", "", ChunkRef{New: testChunk(70)})}, Manual: true})
	mustCommit(t, c, NewPoint{ID: testID(6), VM: "db2", Files: []NewFile{fileOf("dump.sql", "", ChunkRef{New: testChunk(71)})}})
	for _, r := range []MergeRequest{
		{"web1", "vda", testID(1), testID(2)}, // pull
		{"web1", "vda", testID(4), testID(3)}, // commit
	} {
		if _, err := c.Merge(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Remove(testID(6)); err != nil {
		t.Fatal(err)
	}
}
