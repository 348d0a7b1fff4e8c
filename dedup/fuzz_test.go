package dedup

import (
	"bytes"
	"testing"

	"github.com/strongroom-backup/strongroom/tier"
)

func FuzzPackHeader(f *testing.F) {
	f.Add(packHeader{pack: 5, gen: 1, created: testTime, store: testStore}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parsePackHeader(b)
		if err == nil && !bytes.Equal(maskReserved(h.append(nil), 56, 60), maskReserved(b[:packHeaderSize], 56, 60)) {
			t.Fatalf("%x parses to %+v, which is written differently", b, h)
		}
	})
}

// maskReserved copies a checksummed structure without its zero bytes and its
// checksum, which readers ignore and check.
func maskReserved(b []byte, from, to int) []byte {
	b = bytes.Clone(b)
	clear(b[from:to])
	clear(b[to : to+4])
	return b
}

func FuzzFrameHeader(f *testing.F) {
	for n := 1; n <= FrameBlocks; n++ {
		h := frameHeader{count: uint8(n), codec: codecZstd, payload: 99, pack: 3, slots: [4]uint16{slotUnused, slotUnused, slotUnused, slotUnused}}
		for i := range n {
			h.slots[i], h.hashes[i] = uint16(i), Hash{byte(i)}
		}
		b := make([]byte, frameHeaderSize(n))
		h.put(b)
		f.Add(b, false)
		f.Add(b, true)
		h.codec, h.payload = codecLater, uint32(n*BlockSize)
		h.put(b)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) > frameFixed && int(b[6]) <= FrameBlocks && len(b) >= frameHeaderSize(int(b[6])) { // get past the checksum
			end := frameFixed + 32*int(b[6])
			b = bytes.Clone(b)
			copy(b[end:], crcBytes(b[:end]))
		}
		h, err := parseFrameHeader(b)
		if err != nil {
			return
		}
		again := make([]byte, frameHeaderSize(int(h.count)))
		h.put(again)
		if !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("%x parses to %+v, which is written %x", b, h, again)
		}
	})
}

func FuzzTOC(f *testing.F) {
	t := new(toc)
	f.Add(t.append(nil), false)
	t.add(&frameHeader{count: 2, codec: codecZstd, payload: 100, slots: [4]uint16{0, 1}}, packHeaderSize, 0)
	t.add(&frameHeader{count: 1, codec: codecRaw, payload: BlockSize, slots: [4]uint16{5}}, 500, slotDamaged)
	f.Add(t.append(nil), false)
	f.Add(t.append(nil), true)
	t.add(&frameHeader{count: 1, codec: codecLater, payload: BlockSize, slots: [4]uint16{6}}, 1<<20, 0)
	f.Add(t.append(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) > tocHashSize { // get past the hash
			b = appendHash(bytes.Clone(b[:len(b)-tocHashSize]))
		}
		table, err := parseTOC(b, maxPackFile)
		if err != nil {
			return
		}
		for i, s := range table.slots {
			if table.find(s.slot) != i {
				t.Fatalf("slot %d of entry %d is found at %d", s.slot, i, table.find(s.slot))
			}
			f := &table.frames[s.frame]
			if s.pos >= f.count || f.end() > maxPackFile || f.dataOffset() < packHeaderSize {
				t.Fatalf("entry %d leads to %+v", i, f)
			}
		}
		if again, err := parseTOC(table.append(nil), maxPackFile); err != nil || len(again.slots) != len(table.slots) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

func FuzzFooter(f *testing.F) {
	tail := appendTail(nil, new(toc), 1, 0, packHeaderSize)
	f.Add(tail[len(tail)-footerSize:], int64(packHeaderSize+len(tail)), false)
	f.Fuzz(func(t *testing.T, b []byte, size int64, fix bool) {
		if fix && len(b) == footerSize {
			b = bytes.Clone(b)
			copy(b[84:], crcBytes(b[:84]))
			copy(b[88:], footerMagic)
		}
		foot, err := parseFooter(b, size)
		if err != nil {
			return
		}
		if foot.length > tocSize(MaxPackSlots, MaxPackSlots) || foot.toc1 < packHeaderSize || foot.toc2+int64(foot.length) > size || foot.toc1+int64(foot.length) > size {
			t.Fatalf("footer %+v of a file of %d bytes", foot, size)
		}
	})
}

func FuzzIndexValues(f *testing.F) {
	f.Add(appendBlockValue(nil, MakeAddr(maxPack, MaxPackSlots-1)))
	f.Add(openRecord{gen: 1, slots: 2, size: 3}.append(nil))
	f.Add(newPackRecord(7, new(toc), 200).append(nil))
	f.Add(noteBytes(1, 2, 3))
	f.Add((&packRecord{gen: 1, slots: 2, next: 9, frames: 1, bytes: 5, size: 9, holes: []byte{1, 1}}).append(nil))
	f.Add((&damageRecord{structure: true, slots: []uint16{0, 7, MaxPackSlots - 1}}).append(nil))
	f.Add(appendVerified(nil, testTime))
	f.Add(appendLater(nil, maxPackFile))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parsePackRecord(b); err == nil {
			n := 0
			for slot := range uint16(MaxPackSlots) {
				if r.has(slot) {
					n++
				}
			}
			if n != int(r.slots) || !bytes.Equal(r.append(nil), b) {
				t.Fatalf("pack record %x means %+v, %d slots", b, r, n)
			}
		}
		if r, err := parseDamageRecord(b); err == nil && !bytes.Equal(r.append(nil), b) {
			t.Fatalf("damage record %x means %+v", b, r)
		}
		if v, err := parseVerified(b); err == nil && !bytes.Equal(appendVerified(nil, v), b) {
			t.Fatalf("time %x means %v", b, v)
		}
		if n, err := parseLater(b); err == nil && (n <= 0 || !bytes.Equal(appendLater(nil, n), b)) {
			t.Fatalf("bytes to compress %x mean %d", b, n)
		}
		if a, err := parseBlockValue(b); err == nil && !bytes.Equal(appendBlockValue(nil, a), b) {
			t.Fatalf("block value %x means %v", b, a)
		}
		if r, err := parseOpenRecord(b); err == nil && !bytes.Equal(r.append(nil), b) {
			t.Fatalf("open record %x means %+v", b, r)
		}
		if n, err := parseNote(b, 1, 2); err == nil && !bytes.Equal(maskReserved(noteBytes(1, 2, n), 24, 28), maskReserved(b, 24, 28)) {
			t.Fatalf("note %x means %d", b, n)
		}
	})
}

// bytesFile is a pack in memory, for reading.
type bytesFile struct{ *bytes.Reader }

func (bytesFile) WriteAt([]byte, int64) (int, error) { panic("a scan writes") }
func (bytesFile) Sync() error                        { panic("a scan syncs") }
func (bytesFile) Close() error                       { return nil }
func (f bytesFile) Size() (int64, error)             { return f.Reader.Size(), nil }

// FuzzScan recovers a pack made of anything. Whatever it finds is in order and
// inside the file.
func FuzzScan(f *testing.F) {
	s := &Store{hash: newHasher(testKey), codec: testCodec(f), opts: Options{StoreID: testStore}}
	pack := packHeader{pack: 1, store: testStore}.append(nil)
	for i, raw := range [][]byte{blocks(2, 5), block(8)} {
		payload, id := s.codec.encode(nil, raw)
		h := frameHeader{count: uint8(len(raw) / BlockSize), codec: id, payload: uint32(len(payload)), pack: 1, crc: crc(payload),
			slots: [4]uint16{uint16(2 * i), slotUnused, slotUnused, slotUnused}}
		for k := range int(h.count) {
			h.slots[k], h.hashes[k] = uint16(2*i+k), s.hash.blockHash(raw[k*BlockSize:][:BlockSize])
		}
		head := make([]byte, frameHeaderSize(int(h.count)))
		h.put(head)
		pack = append(append(pack, head...), payload...)
	}
	f.Add(pack, uint16(0), byte(0), true)
	f.Add(pack, uint16(70), byte(1), true)
	f.Add(pack, uint16(300), byte(0x80), true)
	f.Add(append(pack[:200:200], pack...), uint16(0), byte(0), false)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte, verify bool) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= flip
		}
		got, err := s.scan(tier.ID{Pack: 1}, bytesFile{bytes.NewReader(b)}, verify)
		if err != nil {
			t.Fatal(err)
		}
		if got.end > max(int64(len(b)), packHeaderSize) {
			t.Fatalf("frames end at %d of %d", got.end, len(b))
		}
		if err := got.toc.check(int64(len(b))); err != nil {
			t.Fatalf("recovered %+v: %v", got.toc, err)
		}
	})
}
