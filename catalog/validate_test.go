package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
)

// TestCommitRefuses breaks each rule once; nothing may be left behind.
func TestCommitRefuses(t *testing.T) {
	const size = dedup.ChunkSize
	addr := dedup.MakeAddr
	runs := func(r ...Run) func(*NewPoint) {
		return func(n *NewPoint) { n.Images[0].Chunks[0] = ChunkRef{New: testChunk(1, r...)} }
	}
	image := func(f func(*NewImage)) func(*NewPoint) { return func(n *NewPoint) { f(&n.Images[0]) } }
	many := map[string]string{}
	for i := range MaxLabels + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, change := range map[string]func(*NewPoint){
		"no id":              func(n *NewPoint) { n.ID = "" },
		"bad id":             func(n *NewPoint) { n.ID = "UPPERCASEISNOTID" },
		"no VM":              func(n *NewPoint) { n.VM = "" },
		"bad VM":             func(n *NewPoint) { n.VM = "a/b" },
		"no disks":           func(n *NewPoint) { n.Images = nil },
		"too many disks":     func(n *NewPoint) { n.Images = make([]NewImage, MaxDisks+1) },
		"disk twice":         func(n *NewPoint) { n.Images = append(n.Images, n.Images[0]) },
		"bad disk":           image(func(im *NewImage) { im.Disk = ".." }),
		"no size":            image(func(im *NewImage) { im.Size, im.Chunks = 0, nil }),
		"negative size":      image(func(im *NewImage) { im.Size = -1 }),
		"too large":          image(func(im *NewImage) { im.Size = MaxDiskSize + 1 }),
		"too few chunks":     image(func(im *NewImage) { im.Size++ }),
		"too many chunks":    image(func(im *NewImage) { im.Chunks = append(im.Chunks, ChunkRef{}) }),
		"no mode":            image(func(im *NewImage) { im.Mode = "" }),
		"full with parent":   image(func(im *NewImage) { im.Parent = testID(1) }),
		"no parent":          image(func(im *NewImage) { im.Mode = Incremental }),
		"other VM's parent":  image(func(im *NewImage) { im.Mode, im.Parent = Incremental, testID(1) }),
		"bad checkpoint":     image(func(im *NewImage) { im.Checkpoint = "a b" }),
		"negative count":     image(func(im *NewImage) { im.ZeroedBytes = -1 }),
		"unknown chunk":      image(func(im *NewImage) { im.Chunks[0].No = 77 }),
		"impossible chunk":   image(func(im *NewImage) { im.Chunks[0].No = maxChunkNo + 1 }),
		"chunk too long":     image(func(im *NewImage) { im.Size--; im.Chunks[0].No = 1 }),
		"new chunk too long": image(func(im *NewImage) { im.Size--; im.Chunks[0].New = testChunk(9) }),
		"no length":          image(func(im *NewImage) { im.Chunks[0].New = &Chunk{} }),
		"hash of zeros": image(func(im *NewImage) {
			im.Chunks[0].New = &Chunk{Length: size, Runs: []Run{{0, 1, addr(1, 0)}}}
		}),
		"empty run":       runs(Run{5, 0, addr(1, 0)}),
		"run past end":    runs(Run{1023, 2, addr(1, 0)}),
		"run overflows":   runs(Run{0xffff, 2, addr(1, 0)}),
		"overlap":         runs(Run{0, 5, addr(1, 0)}, Run{4, 1, addr(1, 90)}),
		"not sorted":      runs(Run{9, 1, addr(1, 0)}, Run{4, 1, addr(1, 90)}),
		"zero address":    runs(Run{0, 1, 0}),
		"no pack":         runs(Run{0, 1, 5}),
		"pack too large":  runs(Run{0, 1, addr(1<<40, 0)}),
		"slots past pack": runs(Run{0, 2, addr(1, 0xffff)}),
		"not maximal":     runs(Run{0, 2, addr(1, 0)}, Run{2, 1, addr(1, 2)}),
		"too many labels": func(n *NewPoint) { n.Labels = many },
		"bad label":       func(n *NewPoint) { n.Labels = map[string]string{"a b": ""} },
		"label too long":  func(n *NewPoint) { n.Labels = map[string]string{"a": strings.Repeat("x", MaxLabelBytes+1)} },
		"label not UTF-8": func(n *NewPoint) { n.Labels = map[string]string{"a": "\xff"} },
		"too many blobs":  func(n *NewPoint) { n.Blobs = make([]Blob, MaxBlobs+1) },
		"bad blob":        func(n *NewPoint) { n.Blobs = []Blob{{"../x", nil}} },
		"blob twice":      func(n *NewPoint) { n.Blobs = []Blob{{"x", nil}, {"x", nil}} },
		"blob too large":  func(n *NewPoint) { n.Blobs = []Blob{{"x", make([]byte, MaxBlobBytes+1)}} },
		"blobs too large": func(n *NewPoint) {
			for i := range MaxPointBlobBytes/MaxBlobBytes + 1 {
				n.Blobs = append(n.Blobs, Blob{fmt.Sprint(i), make([]byte, MaxBlobBytes)})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustOpen(t, testOptions(newFS()))
			defer mustClose(t, c)
			mustCommit(t, c, onePoint(1, "other", ChunkRef{New: testChunk(500)}))
			before := dump(t, c)
			n := onePoint(2, "web1", ChunkRef{})
			change(&n)
			p, err := c.Commit(n)
			if !errors.Is(err, ErrInvalid) && (name != "unknown chunk" || !errors.Is(err, ErrNotFound)) {
				t.Errorf("point %s, %v", p.ID, err)
			}
			if after := dump(t, c); after != before || c.Err() != nil {
				t.Errorf("the catalog has changed, Err %v", c.Err())
			}
		})
	}
}

// TestCommitAccepts goes to the limits.
func TestCommitAccepts(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	addr := dedup.MakeAddr
	long := strings.Repeat("n", 128)
	n := NewPoint{ID: testID(1), VM: long, Labels: map[string]string{}}
	for i := range MaxLabels {
		n.Labels[fmt.Sprint(i)] = strings.Repeat("é", MaxLabelBytes/2)
	}
	for i := range MaxPointBlobBytes / MaxBlobBytes {
		n.Blobs = append(n.Blobs, Blob{fmt.Sprint(i), make([]byte, MaxBlobBytes)})
	}
	chunk := testChunk(1, Run{0, 1, addr(1<<40-1, 0xffff)}, Run{1, 1, addr(1, 0)}, Run{2, 1022, addr(1, 0xffff-1021)})
	for i := range MaxDisks {
		n.Images = append(n.Images, NewImage{Image{Disk: fmt.Sprint(i), Size: 1 << 26, Mode: Incremental, Parent: testID(404)},
			[]ChunkRef{{New: chunk}}})
	}
	n.Images[0].Size, n.Images[0].Chunks = 1, []ChunkRef{{New: &Chunk{Hash: dedup.Hash{1}, Length: 1, Runs: []Run{{0, 1, addr(1, 0)}}}}}
	p := mustCommit(t, c, n)
	got, err := c.Point(p.ID)
	if err != nil || len(got.Images) != MaxDisks || len(got.Labels) != MaxLabels || len(got.Blobs) != 16 {
		t.Errorf("%d images, %d labels, %d blobs, %v", len(got.Images), len(got.Labels), len(got.Blobs), err)
	}
	if s := c.Stats(); s.Chunks != 2 {
		t.Errorf("%d chunk records, want 2", s.Chunks)
	}
	k, err := c.Chunk(2)
	if err != nil || fmt.Sprint(k) != fmt.Sprint(chunk) {
		t.Errorf("%v, %v; want %v", k, err, chunk)
	}
}

// TestHugeDisk: 64 TiB.
func TestHugeDisk(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	const chunks = 1 << 20
	n := onePoint(1, "big", make([]ChunkRef, chunks)...)
	n.Images[0].Chunks[chunks-1].New = testChunk(1)
	mustCommit(t, c, n)
	list, err := c.ChunkList(testID(1), "vda")
	if err != nil || len(list) != chunks || list[chunks-1] != 1 || list[0] != 0 {
		t.Errorf("%d chunks, %v", len(list), err)
	}
}

// TestGrownDisk: the short last chunk must be recorded anew.
func TestGrownDisk(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	short := testChunk(1, Run{0, 3, dedup.MakeAddr(1, 0)})
	short.Length = 200_000
	n := onePoint(1, "vm", ChunkRef{New: short})
	n.Images[0].Size = 200_000
	mustCommit(t, c, n)
	grown := onePoint(2, "vm", ChunkRef{No: 1}, ChunkRef{})
	if _, err := c.Commit(grown); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "record it anew") {
		t.Errorf("a short chunk in a long place: %v", err)
	}
	grown.Images[0].Chunks[0] = ChunkRef{New: testChunk(2, short.Runs...)}
	mustCommit(t, c, grown)
}
