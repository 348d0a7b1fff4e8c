package catalog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

func TestChunkCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		k := testChunk(rng.Uint64(), randomRuns(rng)...)
		got, err := decodeChunk(appendChunk(nil, k))
		if err != nil || !reflect.DeepEqual(got, k) {
			t.Fatalf("%+v, %v; want %+v", got, err, k)
		}
	}
}

// TestChunkSize: a freshly written chunk takes few bytes.
func TestChunkSize(t *testing.T) {
	k := testChunk(1, Run{0, 700, dedup.MakeAddr(500, 24)}, Run{700, 324, dedup.MakeAddr(501, 0)})
	if n := len(appendChunk(nil, k)); n > 32+4+1+2*8 {
		t.Errorf("%d bytes", n)
	}
}

func TestChunkListCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for range 500 {
		var list []ChunkNo
		for range rng.IntN(20) {
			first := []ChunkNo{0, 1, maxChunkNo, ChunkNo(1 + rng.Uint64N(1000)), ChunkNo(1 + rng.Uint64N(maxChunkNo))}[rng.IntN(5)]
			for i := range ChunkNo(1 + rng.IntN(30)) {
				list = append(list, min(first+i*min(first, 1), maxChunkNo))
			}
		}
		got, err := decodeChunkList(appendChunkList(nil, list))
		if err != nil || !reflect.DeepEqual(append([]ChunkNo{}, got...), append([]ChunkNo{}, list...)) {
			t.Fatalf("%v, %v; want %v", got, err, list)
		}
	}
}

func TestChunkListSize(t *testing.T) {
	list := make([]ChunkNo, 16<<10) // 1 TiB, all new
	for i := range list {
		list[i] = ChunkNo(1_000_000 + i)
	}
	if n := len(appendChunkList(nil, list)); n > 12 {
		t.Errorf("a full 1 TiB image takes %d bytes", n)
	}
	for i := range 100 { // and an incremental on top
		list[i*160] = ChunkNo(2_000_000 + i)
	}
	if n := len(appendChunkList(nil, list)); n > 1200 {
		t.Errorf("with 100 changed chunks it takes %d bytes", n)
	}
}

// seeds of valid values for the fuzz targets below.
func somePoint() *Point {
	return &Point{ID: testID(1), VM: "web1", Time: time.UnixMilli(1e12).UTC(), Start: time.UnixMilli(9e11).UTC(),
		Labels: map[string]string{"a": "b"}, Images: []Image{{Disk: "vda", Size: 5, Mode: Incremental, Parent: testID(0),
			Root: dedup.Hash{1}, Checkpoint: "c", WrittenBytes: 1, ZeroedBytes: 2, NewBytes: 3, StoredBytes: 4}},
		Blobs: []BlobInfo{{"x", 3, dedup.Hash{2}}}}
}

func somePointOfFiles() *Point {
	p := somePoint()
	p.Files = []FileImage{{Name: "a/b ü.qcow2", Size: 0, Root: dedup.Hash{3}},
		{Name: "vda.raw", Size: 7, Modified: time.UnixMilli(5).UTC(), Disk: "vda", Root: dedup.Hash{4}, WrittenBytes: 1, NewBytes: 2, StoredBytes: 3}}
	return p
}

// someRecords are one of each kind of the records of a point's later life.
func someRecords() []interface{ records(visitor) error } {
	at := time.UnixMilli(1e12).UTC()
	return []interface{ records(visitor) error }{
		&tombstone{testID(1), at},
		&described{testID(1), Attributes{Manual: true, Hold: "case 17", LockedUntil: at}},
		&described{testID(1), Attributes{Trashed: at, Purge: at.Add(time.Hour)}},
		&ruled{"vm", []byte(`{"keep":{"keep-last":3},"label_keep":{"a=b":{"keep-daily":1}},"trash_keep":5}`)},
		&ruled{"vm", nil},
		&merged{"vm", "vda", testID(1), testID(3), mergePull, at, []string{testID(2), testID(3)}},
	}
}

func someVM() *VM {
	v := &VM{Name: "web1"}
	v.add(somePoint())
	return v
}

// FuzzChunk: what is accepted is a good record and encodes to the same bytes.
func FuzzChunk(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	f.Add(appendChunk(nil, testChunk(1)))
	f.Add(appendChunk(nil, testChunk(2, randomRuns(rng)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeChunk(b)
		if err != nil {
			return
		}
		if err := checkChunk(k); err != nil {
			t.Fatal(err)
		}
		if again := appendChunk(nil, k); !bytes.Equal(again, b) {
			t.Fatalf("%x is encoded as %x", b, again)
		}
		if h, n, err := decodeChunkHead(b); err != nil || h != k.Hash || n != k.Length {
			t.Fatalf("head %x, %d, %v", h, n, err)
		}
	})
}

// FuzzChunkList: what is accepted is read back the same from its own encoding.
func FuzzChunkList(f *testing.F) {
	f.Add(appendChunkList(nil, []ChunkNo{0, 0, 1, 2, 3, 0, 9, 7, maxChunkNo}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeChunkList(b)
		if err != nil || len(list) > 100_000 {
			return
		}
		for _, no := range list {
			if no > maxChunkNo {
				t.Fatalf("number %d", no)
			}
		}
		again, err := decodeChunkList(appendChunkList(nil, list))
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%v, %v; want %v", again, err, list)
		}
	})
}

// FuzzPoint: what is accepted is read back the same from its own encoding.
func FuzzPoint(f *testing.F) {
	f.Add(appendPoint(nil, somePoint()))
	f.Add(appendPoint(nil, &Point{}))
	f.Add(appendPoint(nil, somePointOfFiles()))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePoint(b)
		if err != nil {
			return
		}
		for _, f := range p.Files {
			if CheckFileName(f.Name) != nil {
				t.Fatalf("file name %q", f.Name)
			}
		}
		if again, err := decodePoint(appendPoint(nil, &p)); err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v, %v; want %+v", again, err, p)
		}
	})
}

// FuzzSmallValues is for the values of one line: summaries, places, watermarks.
func FuzzSmallValues(f *testing.F) {
	w := newWatermark()
	f.Add(appendVM(nil, someVM()))
	f.Add(appendPlace(nil, place{time.UnixMilli(1e12), "web1", true}))
	f.Add(w.encode())
	f.Add(encodeFormat([16]byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := decodeVM("x", b); err == nil {
			if again, err := decodeVM("x", appendVM(nil, &v)); err != nil || !reflect.DeepEqual(again, v) {
				t.Fatalf("%+v, %v; want %+v", again, err, v)
			}
		}
		if p, err := decodePlace(b); err == nil {
			if again, err := decodePlace(appendPlace(nil, p)); err != nil || again != p {
				t.Fatalf("%+v, %v; want %+v", again, err, p)
			}
		}
		if w, err := decodeWatermark(b); err == nil {
			if again, err := decodeWatermark(w.encode()); err != nil || again != w {
				t.Fatalf("%+v, %v; want %+v", again, err, w)
			}
		}
		checkFormat(b, "/x", [16]byte{1})
	})
}

// FuzzRecords: a log with good checksums and any payload is refused or applied,
// not more.
func FuzzRecords(f *testing.F) {
	for _, r := range someRecords() {
		r.records(func(typ uint16, b []byte) error { f.Add(typ, bytes.Clone(b)); return nil })
	}
	x := &transaction{point: *somePoint(), lists: [][]ChunkNo{{1}}, first: 1, news: []*Chunk{testChunk(1)}, blobs: []Blob{{"x", []byte("abc")}}}
	x.records(func(typ uint16, b []byte) error { f.Add(typ, bytes.Clone(b)); return nil })
	c := mustOpen(f, testOptions(newFS()))
	f.Cleanup(func() { c.Close() })
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		a := newApplier(c.db, newWatermark(), func(chunkRun) {})
		defer a.close()
		if len(b) < batchBytes {
			a.visit(typ, b)
		}
	})
}

// again decodes a record and encodes what came of it.
func again(typ uint16, b []byte) (out []byte, err error) {
	var r interface{ records(visitor) error }
	switch typ {
	case recTombstone:
		r, err = decodeTombstone(b)
	case recAttributes:
		r, err = decodeDescribed(b)
	case recPolicy:
		r, err = decodeRuled(b)
	case recMerge:
		r, err = decodeMerged(b)
	default:
		return nil, errDecode
	}
	if err == nil {
		err = r.records(func(_ uint16, b []byte) error { out = bytes.Clone(b); return nil })
	}
	return out, err
}

func TestRecordCodecs(t *testing.T) {
	for _, r := range someRecords() {
		r.records(func(typ uint16, b []byte) error {
			if out, err := again(typ, b); err != nil || !bytes.Equal(out, b) {
				t.Errorf("type %d: %x, %v; want %x", typ, out, err, b)
			}
			for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0)} {
				if typ == recPolicy && len(bad) == len(b)-1 && bad[len(bad)-1] == 'm' {
					continue
				}
				if out, err := again(typ, bad); !errors.Is(err, ErrCorrupt) {
					t.Errorf("type %d, %x: %x, %v", typ, bad, out, err)
				}
			}
			return nil
		})
	}
}

// FuzzLife: a record of a point's later life that is accepted is read back the
// same from its own encoding.
func FuzzLife(f *testing.F) {
	for _, r := range someRecords() {
		r.records(func(typ uint16, b []byte) error { f.Add(typ, bytes.Clone(b)); return nil })
	}
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		once, err := again(typ, b)
		if err != nil {
			return
		}
		if twice, err := again(typ, once); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("type %d: %x becomes %x, %v", typ, once, twice, err)
		}
	})
}

// FuzzStored is for the values of points and references in the database.
func FuzzStored(f *testing.F) {
	p := somePoint()
	p.Attributes = Attributes{Manual: true, Hold: "x", LockedUntil: p.Time, Trashed: p.Time, Purge: p.Time}
	p.Images[0].Merged, p.Images[0].MergedFrom = p.Time, testID(4)
	p.Images[0].Gone = 7
	f.Add(appendStored(nil, p))
	f.Add(appendRefs(nil, &refCounts{0, 0, 5, 5, 1 << 40}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodeStored(b); err == nil {
			if again, err := decodeStored(appendStored(nil, &p)); err != nil || !reflect.DeepEqual(again, p) {
				t.Fatalf("%+v, %v; want %+v", again, err, p)
			}
		}
		var counts, same refCounts
		if decodeRefs(b, &counts) == nil {
			if err := decodeRefs(appendRefs(nil, &counts), &same); err != nil || same != counts {
				t.Fatalf("%v, %v; want %v", same, err, counts)
			}
		}
	})
}
