package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestRefsCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		var counts, got refCounts
		for i := 0; i < refPage; {
			n, count := 1+rng.IntN(200), rng.Int64N(3)*rng.Int64N(1<<40)
			for ; n > 0 && i < refPage; n, i = n-1, i+1 {
				counts[i] = count
			}
		}
		if err := decodeRefs(appendRefs(nil, &counts), &got); err != nil || got != counts {
			t.Fatalf("%v, %v; want %v", got, err, counts)
		}
	}
}

// TestRefsSize: what a full backup references takes few bytes.
func TestRefsSize(t *testing.T) {
	var counts refCounts
	for i := range counts {
		counts[i] = 7
	}
	if n := len(appendRefs(nil, &counts)); n > 3 {
		t.Errorf("a page of equal counts takes %d bytes", n)
	}
}

// TestDeadChunks: a chunk dies with its last image and not before; then no
// commit can name it, and its hash is recorded anew.
func TestDeadChunks(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	mustCommit(t, c, onePoint(1, "vm", ChunkRef{New: testChunk(1)}, ChunkRef{New: testChunk(1)}))
	mustCommit(t, c, onePoint(2, "vm", ChunkRef{No: 1}))
	mustDo(t, c.Remove(testID(1)), c.Forget(testID(1)))
	mustCommit(t, c, onePoint(3, "vm", ChunkRef{New: testChunk(1)})) // found: point 2 has it
	mustDo(t, c.Remove(testID(2)), c.Remove(testID(3)))
	mustCommit(t, c, onePoint(4, "vm", ChunkRef{No: 1})) // not forgotten yet
	mustDo(t, c.Forget(testID(2), testID(3)), c.Remove(testID(4)))
	if k, err := c.Chunk(1); err != nil || k.Hash != testChunk(1).Hash {
		t.Errorf("a chunk of a removed point: %+v, %v", k, err)
	}
	if n := c.chunks.size(); n == 0 {
		t.Error("it is not cached")
	}
	mustDo(t, c.Forget(testID(4)))
	if n := c.chunks.size(); n != 0 || c.chunks.get(1) != nil {
		t.Errorf("it is still cached, in %d bytes", n)
	}
	was := dump(t, c)
	if _, err := c.Commit(onePoint(5, "vm", ChunkRef{No: 1})); !errors.Is(err, ErrNotFound) {
		t.Errorf("a commit that names a dead chunk: %v", err)
	}
	if is := dump(t, c); is != was {
		t.Errorf("it changed the catalog to\n%s\nfrom\n%s", is, was)
	}
	again := testChunk(1, Run{0, 5, 77 << 16})
	mustCommit(t, c, onePoint(6, "vm", ChunkRef{New: again}))
	if list, err := c.ChunkList(testID(6), "vda"); err != nil || fmt.Sprint(list) != "[2]" {
		t.Errorf("made anew as %v, %v", list, err)
	}
	was = dump(t, c)
	mustClose(t, c)
	mustDo(t, fs.RemoveAll("/data/catalog"))
	c = mustOpen(t, testOptions(fs))
	defer mustClose(t, c)
	if is := dump(t, c); is != was {
		t.Errorf("rebuilt\n%s\nbefore\n%s", is, was)
	}
}

// TestRemovedIsForgottenAtOpen: nobody reads it any more.
func TestRemovedIsForgottenAtOpen(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	chain(t, c, 1, 2)
	mustDo(t, c.Remove(testID(1)))
	if ids, err := c.Removed(); err != nil || fmt.Sprint(ids) != fmt.Sprint([]string{testID(1)}) {
		t.Errorf("removed %v, %v", ids, err)
	}
	if list, err := c.ChunkList(testID(1), "vda"); err != nil || len(list) != 2 {
		t.Errorf("its chunks: %v, %v", list, err)
	}
	mustClose(t, c)
	c = mustOpen(t, testOptions(fs))
	defer mustClose(t, c)
	if ids, err := c.Removed(); err != nil || len(ids) != 0 {
		t.Errorf("removed %v, %v", ids, err)
	}
	if list, err := c.ChunkList(testID(1), "vda"); !errors.Is(err, ErrNotFound) {
		t.Errorf("its chunks: %v, %v", list, err)
	}
	if n, err := newRefReader(c.db).count(1); err != nil || n != 0 {
		t.Errorf("%d references, %v", n, err)
	}
}

// TestReferencesTooFew: counts that do not fit the lists are damage.
func TestReferencesTooFew(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer c.Close()
	chain(t, c, 1, 1)
	mustDo(t, c.Remove(testID(1)), c.db.Delete(refsKey(0), nil))
	if err := c.Forget(testID(1)); !errors.Is(err, ErrCorrupt) || !errors.Is(c.Err(), ErrReadOnly) {
		t.Errorf("%v; Err %v", err, c.Err())
	}
}
