package dedup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

var makeGolden = flag.Bool("make-golden", false, "write testdata/golden files that do not exist")

// goldenPacks are by the writer that made them.
var goldenPacks = map[string]func(*Store) *Writer{
	"testdata/golden/v1/pack.bin":  (*Store).NewWriter,
	"testdata/golden/v1/later.bin": (*Store).NewLaterWriter,
}

const goldenPack = "testdata/golden/v1/pack.bin"

// goldenContent fills two compressed frames, one of four blocks and one of
// one, and a raw frame of one block.
var goldenContent = []uint64{2, 5, 8, 11, 14, 3}

// buildGolden makes a pack of goldenContent with this version.
func buildGolden(t *testing.T, name string) []byte {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := goldenPacks[name](s)
	for _, part := range [][]uint64{goldenContent[:5], goldenContent[5:]} {
		mustPut(t, w, blocks(part...), nil)
	}
	w.Close()
	p := s.pool.take()
	if err := s.seal(p); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	return readFile(t, fs, packPath(1))
}

// golden returns the pack an earlier version wrote. It is never made anew: it
// stands for the packs in the field.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && *makeGolden {
		b = buildGolden(t, name)
		err = errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenPackIsRead(t *testing.T) {
	for name := range goldenPacks {
		goldenIsRead(t, name)
	}
}

func goldenIsRead(t *testing.T, name string) {
	fs := crashfs.New()
	o := testOptions(t, fs)
	if err := fs.MkdirAll(packDir+"/0000000", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, packPath(1), golden(t, name))
	s := openTest(t, o)
	defer closeTest(t, s)
	addrs := make([]Addr, len(goldenContent))
	for i := range addrs {
		addrs[i] = MakeAddr(1, uint16(i))
	}
	checkRead(t, s, addrs, blocks(goldenContent...))
	w := s.NewWriter()
	defer w.Close()
	if again, r := mustPut(t, w, blocks(goldenContent...), nil); r.New != 0 || !slices.Equal(again, addrs) {
		t.Errorf("%s: the pack's blocks are stored again: %+v, %v", name, r, again)
	}
	checkLater(t, s)
}

// TestGoldenPackIsWritten compares all bytes but the compressed ones, which a
// new version of the compressor may make differently.
func TestGoldenPackIsWritten(t *testing.T) {
	for name := range goldenPacks {
		goldenIsWritten(t, name)
	}
}

func goldenIsWritten(t *testing.T, name string) {
	want := decodePack(t, golden(t, name))
	got := decodePack(t, buildGolden(t, name))
	for _, p := range []*decodedPack{got, want} {
		for i := range p.frames {
			f := &p.frames[i]
			f.header = bytes.Clone(f.header)
			clear(f.header[12:16]) // payload length
			clear(f.header[40:44]) // its CRC
			clear(f.header[len(f.header)-4:])
			f.offset, f.payload = 0, nil
		}
	}
	if !bytes.Equal(got.header, want.header) {
		t.Errorf("header\n%x, was\n%x", got.header, want.header)
	}
	for i := range want.frames {
		if !bytes.Equal(got.frames[i].header, want.frames[i].header) {
			t.Errorf("frame %d\n%x, was\n%x", i, got.frames[i].header, want.frames[i].header)
		}
	}
	for slot, h := range want.hashes {
		if got.hashes[slot] != h {
			t.Errorf("slot %d: hash %x, was %x", slot, got.hashes[slot], h)
		}
	}
}

// TestGoldenTailIsWritten encodes the golden pack's table again.
func TestGoldenTailIsWritten(t *testing.T) {
	b := golden(t, goldenPack)
	f, err := parseFooter(b[len(b)-footerSize:], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := parseTOC(b[f.toc1:f.toc1+int64(f.length)], f.toc1)
	if err != nil {
		t.Fatal(err)
	}
	if tail := appendTail(nil, table, 1, 0, f.toc1); !bytes.Equal(tail, b[f.toc1:]) {
		t.Errorf("tail\n%x, was\n%x", tail, b[f.toc1:])
	}
}

// What follows is a decoder of packs written from docs/FORMAT.md alone. It
// shares no code with the package.

type decodedPack struct {
	header []byte
	frames []decodedFrame
	blocks map[uint16][]byte
	hashes map[uint16]Hash
}

type decodedFrame struct {
	offset  int64
	header  []byte
	payload []byte
}

func crc32c(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decodePack checks a sealed pack in every respect the chapter names.
func decodePack(t *testing.T, b []byte) *decodedPack {
	t.Helper()
	le := binary.LittleEndian
	ok := func(good bool, what string) {
		t.Helper()
		if !good {
			t.Fatalf("the pack is not as docs/FORMAT.md says: %s", what)
		}
	}
	p := &decodedPack{header: b[:64], blocks: map[uint16][]byte{}, hashes: map[uint16]Hash{}}
	ok(string(b[:8]) == "SRPACK\x00\x01" && le.Uint32(b[60:]) == crc32c(b[:60]), "header")
	ok(le.Uint16(b[8:]) == 1 && le.Uint16(b[10:]) == 1 && le.Uint16(b[12:]) == 1 && le.Uint16(b[14:]) == 0, "versions")
	ok(bytes.Equal(b[40:56], testStore[:]) && le.Uint64(b[32:]) == uint64(testTime.UnixNano()), "store and time")

	foot := b[len(b)-96:]
	ok(string(foot[88:]) == "SRPKEND\x01" && le.Uint32(foot[84:]) == crc32c(foot[:84]), "footer")
	ok(le.Uint32(foot[28:]) == le.Uint32(b[20:]) && le.Uint64(foot[32:]) == le.Uint64(b[24:]), "footer's pack")
	toc1, toc2, length := le.Uint64(foot), le.Uint64(foot[8:]), uint64(le.Uint32(foot[16:]))
	toc := b[toc1 : toc1+length]
	ok(bytes.Equal(toc, b[toc2:toc2+length]), "two TOCs")
	sum := blake3.Sum256(toc[:length-32])
	ok(bytes.Equal(sum[:], toc[length-32:]) && bytes.Equal(sum[:], foot[40:72]), "hash of the TOC")
	frames, slots := int(le.Uint32(toc[8:])), int(le.Uint32(toc[12:]))
	ok(string(toc[:8]) == "SRTOC1\x00\x00" && frames == int(le.Uint32(foot[20:])) && slots == int(le.Uint32(foot[24:])), "TOC head")
	ok(int(length) == 16+16*frames+40*slots+32, "TOC length")

	var raws [][]byte
	next := int64(64)
	for i := range frames {
		e := toc[16+16*i:]
		off, size, n := int64(le.Uint32(e)), int64(le.Uint32(e[4:])), int64(e[13])
		ok(off == next, "frames one behind the other")
		head := b[off : off+48+32*n]
		payload := b[off+48+32*n : off+48+32*n+size]
		ok(le.Uint32(e[8:]) == crc32c(payload) && le.Uint32(head[40:]) == crc32c(payload), "payload CRC")
		ok(string(head[:4]) == "SRF1" && le.Uint32(head[44+32*n:]) == crc32c(head[:44+32*n]), "frame header")
		ok(int64(head[6]) == n && le.Uint16(head[4:]) == uint16(e[12]) && int64(le.Uint32(head[12:])) == size && int64(le.Uint32(head[16:])) == n*65536, "frame sizes")
		ok(le.Uint32(head[36:]) == le.Uint32(b[20:]), "frame's generation")
		ok(le.Uint64(head[28:]) == le.Uint64(b[24:]) && le.Uint32(head[8:]) == le.Uint32(b[16:]), "frame's pack and domain")
		p.frames = append(p.frames, decodedFrame{offset: off, header: head, payload: payload})
		raws = append(raws, decodePayload(t, e[12], payload, int(n)))
		next = off + 48 + 32*n + size
	}
	for i := range slots {
		e := toc[16+16*frames+40*i:]
		slot, frame, pos := le.Uint16(e[32:]), le.Uint16(e[34:]), int(e[36])
		head := p.frames[frame].header
		ok(le.Uint16(head[20+2*pos:]) == slot && bytes.Equal(head[44+32*pos:76+32*pos], e[:32]) && e[37] == 0, "slot entry")
		p.blocks[slot] = raws[frame][pos*65536 : (pos+1)*65536]
		p.hashes[slot] = Hash(e[:32])
	}
	return p
}

func decodePayload(t *testing.T, codec byte, payload []byte, n int) []byte {
	t.Helper()
	if codec == 0 || codec == 2 {
		return payload
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(payload, nil)
	if err != nil || len(raw) != n*65536 {
		t.Fatalf("payload decodes to %d bytes, %v", len(raw), err)
	}
	return raw
}

// TestPacksFollowTheDocument decodes packs of all sorts with the second
// decoder and verifies the hashes with another implementation.
func TestPacksFollowTheDocument(t *testing.T) {
	s, fs := newStoreTest(t)
	w := s.NewWriter()
	var content []uint64
	addrs := map[Addr]uint64{}
	for i := uint64(1); i < 120; i += 1 + i%7 {
		ns := count(i, 1+i%7)
		out, _ := mustPut(t, w, blocks(ns...), nil)
		for k, a := range out {
			addrs[a] = ns[k]
		}
		content = append(content, ns...)
	}
	w.Close()
	for p := s.pool.take(); p != nil; p = s.pool.take() {
		if err := s.seal(p); err != nil {
			t.Fatal(err)
		}
	}
	s.seals.Wait()
	packs := map[uint64]*decodedPack{}
	for a, n := range addrs {
		p := packs[a.Pack()]
		if p == nil {
			p = decodePack(t, readFile(t, fs, packPath(a.Pack())))
			packs[a.Pack()] = p
		}
		if !bytes.Equal(p.blocks[a.Slot()], block(n)) || p.hashes[a.Slot()] != reference(t, contextBlock, block(n)) {
			t.Errorf("block %v is not content %d", a, n)
		}
	}
	if len(packs) < 3 || len(content) < 100 {
		t.Errorf("only %d packs were looked at", len(packs))
	}
	compactedFollowTheDocument(t, s, fs, addrs)
}

// compactedFollowTheDocument decodes what compaction makes of the packs.
func compactedFollowTheDocument(t *testing.T, s *Store, fs *crashfs.FS, addrs map[Addr]uint64) {
	t.Helper()
	var live []Addr
	slots := map[uint64]int{}
	for a := range addrs {
		if a.Slot()%8 != 1 && a.Slot()%8 < 6 { // of a frame of four, three or two stay
			live = append(live, a)
			slots[a.Pack()]++
		}
	}
	collect(t, s, live, SweepOptions{})
	packs := map[uint64]*decodedPack{}
	for _, a := range live {
		if packs[a.Pack()] == nil {
			packs[a.Pack()] = decodePack(t, readFile(t, fs, genPath(a.Pack(), 1)))
		}
		p := packs[a.Pack()]
		if !bytes.Equal(p.blocks[a.Slot()], block(addrs[a])) || p.hashes[a.Slot()] != reference(t, contextBlock, block(addrs[a])) {
			t.Errorf("block %v is not content %d after compaction", a, addrs[a])
		}
		if len(p.blocks) != slots[a.Pack()] {
			t.Errorf("pack %d has %d blocks after compaction, want %d", a.Pack(), len(p.blocks), slots[a.Pack()])
		}
	}
	if len(packs) < 3 {
		t.Errorf("only %d packs were compacted", len(packs))
	}
}

func TestParsersRefuseEveryCutAndFlip(t *testing.T) {
	b := golden(t, goldenPack)
	f, err := parseFooter(b[len(b)-footerSize:], int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data  []byte
		parse func([]byte) error
	}{
		"pack header": {b[:packHeaderSize], func(b []byte) error { _, err := parsePackHeader(b); return err }},
		"frame header": {b[packHeaderSize : packHeaderSize+frameHeaderSize(4)], func(b []byte) error {
			_, err := parseFrameHeader(b)
			return err
		}},
		"TOC":    {b[f.toc1:f.toc2], func(b []byte) error { _, err := parseTOC(b, f.toc1); return err }},
		"footer": {b[len(b)-footerSize:], func(p []byte) error { _, err := parseFooter(p, int64(len(b))); return err }},
		"note":   {noteBytes(1, 2, 3), func(b []byte) error { _, err := parseNote(b, 1, 2); return err }},
	} {
		if err := c.parse(c.data); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range len(c.data) {
			if c.parse(c.data[:i]) == nil {
				t.Errorf("%s cut to %d of %d bytes was taken", name, i, len(c.data))
			}
			for bit := range 8 {
				flipped := bytes.Clone(c.data)
				flipped[i] ^= 1 << bit
				if c.parse(flipped) == nil {
					t.Errorf("%s with bit %d of byte %d flipped was taken", name, bit, i)
				}
			}
		}
	}
}

// TestParsersRefuseNonsenseWithGoodChecksums is about writers gone mad.
func TestParsersRefuseNonsenseWithGoodChecksums(t *testing.T) {
	good := func() *toc {
		t := new(toc)
		t.add(&frameHeader{count: 2, codec: codecZstd, payload: 100, slots: [4]uint16{0, 1}}, packHeaderSize, 0)
		t.add(&frameHeader{count: 1, codec: codecRaw, payload: BlockSize, slots: [4]uint16{5}}, 500, 0)
		return t
	}
	if _, err := parseTOC(good().append(nil), 1<<20); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*toc){
		"count 0":           func(t *toc) { t.frames[0].count = 0 },
		"count 5":           func(t *toc) { t.frames[0].count = 5 },
		"codec":             func(t *toc) { t.frames[0].codec = 3 },
		"raw length":        func(t *toc) { t.frames[1].payload-- },
		"zstd length":       func(t *toc) { t.frames[0].payload = 2 * BlockSize },
		"no payload":        func(t *toc) { t.frames[0].payload = 0 },
		"overlap":           func(t *toc) { t.frames[1].offset = 64 + 100 },
		"in the header":     func(t *toc) { t.frames[0].offset = 63 },
		"behind the end":    func(t *toc) { t.frames[1].offset = 1 << 20 },
		"slot twice":        func(t *toc) { t.slots[1].slot = 0 },
		"slot out of order": func(t *toc) { t.slots[0].slot = 3 },
		"slot too high":     func(t *toc) { t.slots[2].slot = MaxPackSlots },
		"no such frame":     func(t *toc) { t.slots[2].frame = 2 },
		"no such position":  func(t *toc) { t.slots[2].pos = 1 },
		"lost, undamaged":   func(t *toc) { t.slots[0].flags = slotLost },
		"lost in a frame":   func(t *toc) { t.slots[2].flags = slotLost | slotDamaged },
	} {
		bad := good()
		spoil(bad)
		if _, err := parseTOC(bad.append(nil), 1<<20); err == nil {
			t.Errorf("TOC with %s was taken", name)
		}
	}
	for name, spoil := range map[string]func(*frameHeader){
		"slot missing":   func(h *frameHeader) { h.slots[1] = slotUnused },
		"slot too many":  func(h *frameHeader) { h.slots[2] = 7 },
		"slot too high":  func(h *frameHeader) { h.slots[1] = MaxPackSlots },
		"codec":          func(h *frameHeader) { h.codec = 3 },
		"payload length": func(h *frameHeader) { h.payload = 2 * BlockSize },
	} {
		h := frameHeader{count: 2, codec: codecZstd, payload: 100, slots: [4]uint16{0, 1, slotUnused, slotUnused}}
		spoil(&h)
		b := make([]byte, frameHeaderSize(2))
		h.put(b)
		if _, err := parseFrameHeader(b); err == nil {
			t.Errorf("frame header with %s was taken", name)
		}
	}
	newer := packHeader{pack: 1}.append(nil)
	newer[8] = 2
	binary.LittleEndian.PutUint32(newer[60:], crc(newer[:60]))
	if _, err := parsePackHeader(newer); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a newer version: %v", err)
	}
}
