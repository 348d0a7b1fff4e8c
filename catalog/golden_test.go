package catalog

import (
	"os"
	"testing"
)

const goldenLog = "testdata/v1/0000000000000001.mlog"

// TestFormatV1 reads a metadata log made once by version 1 of the format. The
// log is never made anew: what reads it must not change.
func TestFormatV1(t *testing.T) {
	if *rewrite {
		makeGoldenLog(t)
	}
	b, err := os.ReadFile(goldenLog)
	if err != nil {
		t.Fatal(err)
	}
	fs := newFS()
	if err := fs.MkdirAll("/data/tier0/meta", 0o700); err != nil {
		t.Fatal(err)
	}
	spill(t, fs, "/data/tier0/meta/0000000000000001.mlog", b)
	c := mustOpen(t, testOptions(fs))
	defer mustClose(t, c)
	golden(t, "testdata/v1/dump.txt", dumpKeys(t, c))
}

// makeGoldenLog refuses to replace a log.
func makeGoldenLog(t *testing.T) {
	if _, err := os.Stat(goldenLog); err == nil {
		return
	}
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
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
	mustClose(t, c)
	if err := os.MkdirAll("testdata/v1", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenLog, slurp(t, fs, "/data/tier0/meta/0000000000000001.mlog"), 0o666); err != nil {
		t.Fatal(err)
	}
}
