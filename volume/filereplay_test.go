package volume

import (
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
)

// record appends a type, a payload's length and the payload.
func fuzzRecord(b []byte, typ recordType, payload []byte) []byte {
	return append(append(b, byte(typ), byte(len(payload))), payload...)
}

// FuzzFileReplay applies records, whose checksums would be right, to a file:
// whatever they say, nothing lies behind the file's end.
func FuzzFileReplay(f *testing.F) {
	j := &journal{}
	take := func(t recordType, append func()) []byte {
		j.begin(t)
		append()
		return j.buf[recordHeaderSize:]
	}
	words := func(v ...uint64) func() {
		return func() {
			for _, v := range v {
				j.buf = binary.LittleEndian.AppendUint64(j.buf, v)
			}
		}
	}
	length := func(n uint64) []byte {
		return append([]byte(nil), take(recFile, func() { words(n, 1)(); j.buf = append(j.buf, 0x80, 1, 0, 0) })...)
	}
	var b []byte
	b = fuzzRecord(b, recFile, length(3*dedup.ChunkSize+5))
	b = fuzzRecord(b, recMap, take(recMap, func() { words(1, 0, 0, 0, 0, 1<<16)(); j.buf = append(j.buf, 9, 0, 0, 0) }))
	b = fuzzRecord(b, recRaw, take(recRaw, func() { words(100)(); j.buf = append(j.buf, "raw"...) }))
	b = fuzzRecord(b, recZero, take(recZero, func() { words(dedup.BlockSize+1, 2*dedup.ChunkSize)(); j.buf = append(j.buf, 1) }))
	b = fuzzRecord(b, recChunk, take(recChunk, func() { j.buf = append(j.buf, 0, 0, 0, 0) }))
	b = fuzzRecord(b, recFile, length(70_000))
	b = fuzzRecord(b, recFile, length(maxFileSize))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &Manager{}
		m.cache = newAddrCache(nil)
		x := newFile(&session{m: m}, &fileEntry{ID: 1, Names: []string{"a"}})
		d := x.d
		file, err := vfs.NewMem().OpenReadWrite("empty", journalCategory)
		if err != nil {
			t.Fatal(err)
		}
		d.journal = &journal{file: file}
		for len(b) >= 2 {
			n := min(int(b[1]), len(b)-2)
			if d.redo(record{typ: recordType(b[0]), payload: b[2 : 2+n], at: recordHeaderSize}) != nil {
				return // the file is lost
			}
			b = b[2+n:]
		}
		if d.s.space.Load() != d.file.length || d.file.length < 0 || d.file.length > maxFileSize {
			t.Fatalf("length %d, space %d", d.file.length, d.s.space.Load())
		}
		last := blocksOf(d.file.length)
		for i, c := range d.chunks {
			if int64(i)*dedup.ChunkBlocks >= last {
				t.Fatalf("chunk %d of a file of %d blocks", i, last)
			}
			for b := range c.patches {
				if int64(i)*dedup.ChunkBlocks+int64(b) >= last {
					t.Fatalf("raw bytes over block %d of chunk %d, the file has %d", b, i, last)
				}
			}
			for b := range dedup.ChunkBlocks {
				if c.blocks != nil && int64(i)*dedup.ChunkBlocks+int64(b) >= last && c.blocks[b] != 0 && c.blocks[b] != inherit {
					t.Fatalf("block %d of chunk %d, the file has %d", b, i, last)
				}
			}
		}
	})
}
