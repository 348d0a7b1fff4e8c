package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
)

const testDiskSize = 3*dedup.ChunkSize + 777

// sampleJournal has one record of every type.
func sampleJournal(t testing.TB, fs vfs.FS) *journal {
	t.Helper()
	j, err := createJournal(fs, "j", "a disk", testDiskSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	a := newAddrs()
	setRun(a[10:20], dedup.MakeAddr(3, 5))
	setRun(a[30:40], 0)
	steps := []func() error{
		func() error { return j.mark(recDirty) },
		func() error {
			return j.appendMap(counts{1, 2, 3, 4}, []mapped{{0, 2, dedup.MakeAddr(1, 0)}, {9, 1, 0}})
		},
		func() error { _, err := j.appendRaw(65536*5+12, []byte("raw bytes")); return err },
		func() error { return j.appendZero(100, 1<<20, true) },
		func() error {
			j.begin(recChunk)
			j.buf = encodeChunk(j.buf, 2, a)
			_, err := j.finish()
			return err
		},
		func() error { return j.mark(recClean) },
		func() error {
			return j.appendFile(&fileEnd{length: 123456, modified: time.Unix(1_700_000_000, 5), mode: 0o640})
		},
	}
	for _, s := range steps {
		if err := s(); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// readAll reads records until the journal ends.
func readAll(t testing.TB, fs vfs.FS) (types []recordType, j *journal) {
	t.Helper()
	j, err := openJournal(fs, "j", "a disk", testDiskSize)
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := j.next(j.file)
		if errors.Is(err, errTorn) {
			return types, j
		}
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, rec.typ)
	}
}

func TestJournalRoundTrip(t *testing.T) {
	fs := vfs.NewMem()
	w := sampleJournal(t, fs)
	types, r := readAll(t, fs)
	if want := []recordType{recDirty, recMap, recRaw, recZero, recChunk, recClean, recFile}; !slices.Equal(types, want) {
		t.Fatalf("read back %v, want %v", types, want)
	}
	if r.end != w.end || r.seq != w.seq {
		t.Fatalf("replay ends at %d, record %d; written %d, %d", r.end, r.seq, w.end, w.seq)
	}
}

// TestJournalDamage flips every byte in turn: replay keeps exactly the records
// before the damage.
func TestJournalDamage(t *testing.T) {
	fs := vfs.NewMem()
	w := sampleJournal(t, fs)
	image := make([]byte, w.end)
	if err := readFull(w.file, image, 0); err != nil {
		t.Fatal(err)
	}
	var ends []int64
	_, r := readAll(t, fs)
	for r.end, r.seq = journalHeaderSize, 0; ; {
		ends = append(ends, r.end)
		if _, err := r.next(r.file); err != nil {
			break
		}
	}
	for at := range image {
		damaged := slices.Clone(image)
		damaged[at] ^= 0x10
		f := vfs.NewMem()
		h, err := f.OpenReadWrite("j", journalCategory)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.WriteAt(damaged, 0); err != nil {
			t.Fatal(err)
		}
		if at < journalHeaderSize {
			if _, err := openJournal(f, "j", "a disk", testDiskSize); err == nil {
				t.Fatalf("byte %d of the header: accepted", at)
			}
			continue
		}
		_, got := readAll(t, f)
		want := ends[0]
		for _, e := range ends {
			if e <= int64(at) {
				want = e
			}
		}
		if got.end != want {
			t.Fatalf("byte %d: replay ends at %d, want %d", at, got.end, want)
		}
	}
}

// TestJournalForgery lets a client write bytes that are a record in all but the
// salt, and a crash tear the record that carries them.
func TestJournalForgery(t *testing.T) {
	fs := vfs.NewMem()
	j := sampleJournal(t, fs)
	forged := make([]byte, recordHeaderSize)
	forged[4] = byte(recClean)
	binary.LittleEndian.PutUint64(forged[8:], j.seq)
	forged = binary.LittleEndian.AppendUint32(forged, crc32.Checksum(forged, castagnoli))
	if _, err := j.file.WriteAt(forged, j.end); err != nil {
		t.Fatal(err)
	}
	if types, _ := readAll(t, fs); len(types) != 7 {
		t.Fatalf("replay took the forged record: %v", types)
	}
}

func TestChunkCodec(t *testing.T) {
	for name, set := range map[string]func(*addrs){
		"untouched": func(*addrs) {},
		"zero":      func(a *addrs) { *a = addrs{} },
		"one run":   func(a *addrs) { setRun(a[:], dedup.MakeAddr(7, 100)) },
		"scattered": func(a *addrs) {
			for i := range a {
				a[i] = []dedup.Addr{inherit, 0, dedup.MakeAddr(uint64(i+1), uint16(i))}[i%3]
			}
		},
		"ends": func(a *addrs) { a[0], a[1023] = dedup.MakeAddr(1, 8191), 0 },
	} {
		a := newAddrs()
		set(a)
		i, got, err := decodeChunk(encodeChunk(nil, 3, a), 4)
		if err != nil || i != 3 || *got != *a {
			t.Errorf("%s: chunk %d, %v, equal %v", name, i, err, got != nil && *got == *a)
		}
	}
}

func FuzzJournal(f *testing.F) {
	fs := vfs.NewMem()
	j := sampleJournal(f, fs)
	body := make([]byte, j.end-journalHeaderSize)
	if err := readFull(j.file, body, journalHeaderSize); err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(body[:len(body)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &journal{end: 0, seed: j.seed}
		for {
			rec, err := r.next(bytes.NewReader(body))
			if err != nil {
				return
			}
			decodePayload(rec)
		}
	})
}

// FuzzRecords feeds payloads to the decoders as if their checksums were right.
func FuzzRecords(f *testing.F) {
	fs := vfs.NewMem()
	_ = sampleJournal(f, fs)
	r, err := openJournal(fs, "j", "a disk", testDiskSize)
	if err != nil {
		f.Fatal(err)
	}
	for {
		rec, err := r.next(r.file)
		if err != nil {
			break
		}
		f.Add(byte(rec.typ), bytes.Clone(rec.payload))
	}
	f.Add(byte(recMark), bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 2))
	f.Fuzz(func(t *testing.T, typ byte, payload []byte) {
		decodePayload(record{typ: recordType(typ), payload: payload})
	})
}

func decodePayload(rec record) {
	blocks := int64(testDiskSize+dedup.BlockSize-1) / dedup.BlockSize
	switch rec.typ {
	case recMap:
		_, _ = decodeMap(rec.payload, blocks, func(m mapped) error {
			if m.block < 0 || m.block+int64(m.count) > blocks {
				panic("mapping outside the disk")
			}
			return nil
		})
	case recRaw:
		if off, n, err := decodeRaw(rec.payload, testDiskSize); err == nil && (off < 0 || off+int64(n) > testDiskSize) {
			panic("raw extent outside the disk")
		}
	case recZero:
		if off, n, _, err := decodeZero(rec.payload, testDiskSize); err == nil && (off < 0 || off+n > testDiskSize) {
			panic("zero extent outside the disk")
		}
	case recChunk:
		_, _, _ = decodeChunk(rec.payload, 4)
	case recMark:
		if safe, synced, err := decodeMark(rec.payload, 7); err == nil && (safe > 7 || synced > 7) {
			panic("a mark of records that are not there")
		}
	case recFile:
		if e, err := decodeFile(rec.payload); err == nil && (e.length < 0 || e.length > maxFileSize || e.mode > maxFileMode) {
			panic("a file that cannot be")
		}
	}
}

func FuzzSessionFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"01hzx3k9q2m8v7wt","vm":"a","state":"open","disks":[{"disk":"vda","size":1,"mode":"full","token":"t"}]}`))
	f.Add([]byte(`{`))
	f.Add([]byte(`{"format":1,"id":"01hzx3k9q2m8v7wt","vm":"a","state":"open","disks":[{"disk":"vda","size":1,"mode":"full","imported":true,"source":1}],` +
		`"keeps_files":true,"files":[{"id":1,"names":["a","b/c"],"created":"2026-11-20T12:00:00Z","mode":384}],"next_file":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeSessionFile("01hzx3k9q2m8v7wt", data)
		if err != nil {
			return
		}
		if len(s.Disks) == 0 && !s.KeepsFiles || len(s.Files) > 0 && !s.KeepsFiles || len(s.Files) > maxFiles {
			t.Fatalf("accepted a session of %d disks and %d files", len(s.Disks), len(s.Files))
		}
		for _, e := range s.Files {
			if e.ID == 0 || e.ID >= s.NextFile || len(e.Names) == 0 {
				t.Fatalf("accepted file %+v", e)
			}
		}
	})
}

// TestRecordsBehindATornOneStayVoid: of three records in flight a power cut
// tears the first; a new one of the same length must not revive the others.
func TestRecordsBehindATornOneStayVoid(t *testing.T) {
	fs := vfs.NewMem()
	w := sampleJournal(t, fs)
	end := w.end
	for range 3 {
		if err := w.appendZero(0, 512, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.file.WriteAt([]byte{0xff}, end+20); err != nil {
		t.Fatal(err)
	}
	before, r := readAll(t, fs)
	if r.end != end {
		t.Fatalf("replay ends at %d, want %d", r.end, end)
	}
	if err := r.clearRest(); err != nil {
		t.Fatal(err)
	}
	if err := r.appendZero(0, 1024, false); err != nil {
		t.Fatal(err)
	}
	if after, _ := readAll(t, fs); len(after) != len(before)+1 {
		t.Errorf("%d records before the cut and one after it read back as %d", len(before), len(after))
	}
}
