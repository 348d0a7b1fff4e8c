package catalog

import (
	"fmt"
	"reflect"
	"testing"
)

// shape shows the images of a disk: point, mode's first letter, parent, chunks,
// bytes written, checkpoint.
func shape(t *testing.T, c *Catalog, disk string) (lines []string) {
	t.Helper()
	points, err := c.Points("")
	mustDo(t, err)
	for _, p := range points {
		im := p.image(disk)
		if im == nil {
			continue
		}
		list, err := c.ChunkList(p.ID, disk)
		mustDo(t, err)
		short := func(id string) string {
			if id == "" {
				return "-"
			}
			return id[15:]
		}
		lines = append(lines, fmt.Sprintf("%s %c %s %v %d %s", short(p.ID), im.Mode[0], short(im.Parent), list, im.WrittenBytes, im.Checkpoint))
	}
	return lines
}

// TestMerge shows both directions on a chain of five with a branch off the
// second and one off the fourth: what is left, and of whom it descends.
func TestMerge(t *testing.T) {
	for name, x := range map[string]struct {
		from, into   int
		left         []string
		gone, points []string
	}{
		"commit the top into its base": {5, 1, []string{"1 f - [6 2] 62 cp5", "6 i 1 [1] 0 ", "7 i 1 [1] 0 "},
			[]string{testID(2), testID(3), testID(4), testID(5)}, []string{testID(2), testID(3), testID(4), testID(5)}},
		"commit one": {2, 1, []string{"1 f - [3 2] 6 cp2", "3 i 1 [4 2] 8 cp3", "4 i 3 [5 2] 16 cp4", "5 i 4 [6 2] 32 cp5", "6 i 1 [1] 0 ", "7 i 4 [1] 0 "},
			[]string{testID(2)}, []string{testID(2)}},
		"pull all bases": {1, 5, []string{"5 f - [6 2] 62 cp5", "6 i - [1] 0 ", "7 i - [1] 0 "},
			[]string{testID(1), testID(2), testID(3), testID(4)}, []string{testID(1), testID(2), testID(3), testID(4)}},
		"pull some": {3, 5, []string{"1 f - [1 2] 2 cp1", "2 i 1 [3 2] 4 cp2", "5 i 2 [6 2] 56 cp5", "6 i 2 [1] 0 ", "7 i 2 [1] 0 "},
			[]string{testID(3), testID(4)}, []string{testID(3), testID(4)}},
		"pull one": {4, 5, []string{"1 f - [1 2] 2 cp1", "2 i 1 [3 2] 4 cp2", "3 i 2 [4 2] 8 cp3", "5 i 3 [6 2] 48 cp5", "6 i 2 [1] 0 ", "7 i 3 [1] 0 "},
			[]string{testID(4)}, []string{testID(4)}},
		"commit into the middle": {4, 2, []string{"1 f - [1 2] 2 cp1", "2 i 1 [5 2] 28 cp4", "5 i 2 [6 2] 32 cp5", "6 i 2 [1] 0 ", "7 i 2 [1] 0 "},
			[]string{testID(3), testID(4)}, []string{testID(3), testID(4)}},
	} {
		c := mustOpen(t, testOptions(newFS()))
		chain(t, c, 1, 5)
		for id, parent := range map[int]int{6: 2, 7: 4} {
			n := onePoint(id, "vm", ChunkRef{No: 1})
			n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(parent)
			mustCommit(t, c, n)
		}
		r, err := c.Merge(MergeRequest{"vm", "vda", testID(x.from), testID(x.into)})
		mustDo(t, err)
		left := shape(t, c, "vda")
		for i := range left { // 6 and 7 were committed in any order
			if i > 0 && left[i][0] < left[i-1][0] {
				left[i], left[i-1] = left[i-1], left[i]
			}
		}
		if !reflect.DeepEqual(left, x.left) || !reflect.DeepEqual(r.Gone, x.gone) || !reflect.DeepEqual(r.Points, x.points) {
			t.Errorf("%s: left are\n%q, want\n%q; gone %v, %v", name, left, x.left, r.Gone, r.Points)
		}
		p, err := c.Point(testID(x.into))
		if err != nil || !reflect.DeepEqual(p, r.Point) || p.Images[0].MergedFrom != testID(x.from) || p.Images[0].Merged.IsZero() {
			t.Errorf("%s: %+v, %v; returned %+v", name, p, err, r.Point)
		}
		mustClose(t, c)
	}
}

// TestMergeOfOneDisk leaves the other disks of the points alone.
func TestMergeOfOneDisk(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	for i := 1; i <= 4; i++ {
		n := onePoint(i, "vm", ChunkRef{New: testChunk(uint64(i))})
		if i%2 == 0 {
			im := n.Images[0]
			im.Disk = "vdb"
			n.Images = append(n.Images, im)
		}
		if i > 1 {
			n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(i-1)
		}
		mustCommit(t, c, n)
	}
	other := shape(t, c, "vdb")
	r, err := c.Merge(MergeRequest{"vm", "vda", testID(4), testID(1)})
	if err != nil || !reflect.DeepEqual(r.Gone, []string{testID(2), testID(3), testID(4)}) || !reflect.DeepEqual(r.Points, []string{testID(3)}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if is := shape(t, c, "vdb"); !reflect.DeepEqual(is, other) {
		t.Errorf("vdb is now %q, was %q", is, other)
	}
	if _, err := c.Commit(onePoint(3, "vm", ChunkRef{})); err == nil {
		t.Error("the id of a point merged away was used again")
	}
	if removed, err := c.Removed(); err != nil || len(removed) != 0 {
		t.Errorf("to be forgotten: %v, %v", removed, err)
	}
}
