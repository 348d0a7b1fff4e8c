package dedup

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// damageable is a closed store with one sealed pack of goldenContent.
type damageable struct {
	fs    *crashfs.FS
	pack  []byte
	toc   *toc
	foot  footer
	addrs []Addr
}

func newDamageable(t *testing.T) *damageable {
	t.Helper()
	d := &damageable{fs: crashfs.New()}
	s := openTest(t, testOptions(t, d.fs))
	w := s.NewWriter()
	for _, part := range [][]uint64{goldenContent[:5], goldenContent[5:]} {
		a, _ := mustPut(t, w, blocks(part...), nil)
		d.addrs = append(d.addrs, a...)
	}
	w.Close()
	if err := s.seal(s.pool.take()); err != nil {
		t.Fatal(err)
	}
	closeTest(t, s)
	d.pack = readFile(t, d.fs, packPath(1))
	var err error
	if d.foot, err = parseFooter(d.pack[len(d.pack)-footerSize:], int64(len(d.pack))); err == nil {
		d.toc, err = parseTOC(d.pack[d.foot.toc1:d.foot.toc2], d.foot.toc1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// class names what a byte of the pack belongs to.
func (d *damageable) class(at int64) string {
	if at < packHeaderSize {
		return "pack header"
	}
	for i := range d.toc.frames {
		f := &d.toc.frames[i]
		switch {
		case at >= int64(f.offset) && at < f.dataOffset():
			return "frame header"
		case at >= f.dataOffset() && at < f.end() && f.codec == codecRaw:
			return "raw payload"
		case at >= f.dataOffset() && at < f.end():
			return "zstd payload"
		}
	}
	switch {
	case at < d.foot.toc2:
		return "TOC 1"
	case at < d.foot.toc2+int64(d.foot.length):
		return "TOC 2"
	}
	return "footer"
}

// positions picks bytes of each class: every one of a small class, some of a
// big one.
func (d *damageable) positions(rng *rand.Rand, perClass int) map[string][]int64 {
	all := map[string][]int64{}
	for at := range int64(len(d.pack)) {
		c := d.class(at)
		all[c] = append(all[c], at)
	}
	for c, list := range all {
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		all[c] = list[:min(len(list), perClass)]
	}
	return all
}

// reading is what a store makes of a damaged pack.
type reading struct {
	wrong, good, failed int
	events              int
	refused             error // Open's
}

// read opens a store on the damaged bytes and reads every block alone and all
// together. withIndex keeps the index, so that the footer is met late.
func (d *damageable) read(t *testing.T, pack []byte, withIndex bool) (r reading) {
	t.Helper()
	fs := d.fs.Kill()
	writeFile(t, fs, packPath(1), pack)
	if !withIndex {
		if err := fs.RemoveAll(indexDir); err != nil {
			t.Fatal(err)
		}
	}
	o := testOptions(t, fs)
	o.Events.Damage = func(*DamageError) { r.events++ }
	o.Events.PackRecovered = func(tier.ID, int, int64) { r.events++ }
	s, err := Open(o)
	if err != nil {
		r.refused = err
		return r
	}
	defer closeTest(t, s)
	want := blocks(goldenContent...)
	got := make([]byte, len(want))
	if err := s.Read(d.addrs, got); err == nil && !bytes.Equal(got, want) {
		r.wrong++
	}
	for i, a := range d.addrs {
		b := make([]byte, BlockSize)
		switch err := s.Read([]Addr{a}, b); {
		case err == nil && bytes.Equal(b, want[i*BlockSize:(i+1)*BlockSize]):
			r.good++
		case err == nil:
			r.wrong++
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrUnknownAddr):
			r.failed++
		default:
			t.Errorf("block %v: %v", a, err)
		}
	}
	return r
}

// TestDamageInEveryByteClass flips, zeroes, cuts and swaps, with the index and
// without. Never are wrong bytes served; what is damaged is said.
func TestDamageInEveryByteClass(t *testing.T) {
	d := newDamageable(t)
	perClass := 12
	if raceEnabled {
		perClass = 2
	}
	// All blocks stay readable, by the other copy, the frames or the file's name.
	spared := map[string]bool{"pack header": true, "frame header": true, "TOC 1": true, "TOC 2": true, "footer": true}
	// Not looked at by a read: scrub's business.
	silent := map[string]bool{"frame header": true, "TOC 2": true}
	rng := rand.New(rand.NewPCG(8, 8))
	for class, list := range d.positions(rng, perClass) {
		for _, at := range list {
			for kind, spoil := range map[string]func([]byte) []byte{
				"flip": func(b []byte) []byte { b[at] ^= 1 << rng.IntN(8); return b },
				"zero": func(b []byte) []byte { clear(b[at:min(at+512, int64(len(b)))]); return b },
				"cut":  func(b []byte) []byte { return b[:at] },
				"move": func(b []byte) []byte { return slices.Delete(b, int(at), int(at)+1) },
			} {
				for _, withIndex := range []bool{true, false} {
					bad := spoil(bytes.Clone(d.pack))
					if bytes.Equal(bad, d.pack) {
						continue
					}
					r := d.read(t, bad, withIndex)
					name := fmt.Sprintf("%s at %d in %s, index kept: %v: %+v", kind, at, class, withIndex, r)
					if r.wrong > 0 || r.refused != nil {
						t.Errorf("%s", name)
					}
					if kind != "flip" {
						continue
					}
					if spared[class] && r.good != len(d.addrs) {
						t.Errorf("%s: want all blocks read", name)
					}
					// Some bits of zstd's own do not matter to what it decodes to.
					if class == "zstd payload" && r.good == len(d.addrs) {
						continue
					}
					if !spared[class] && r.failed == 0 {
						t.Errorf("%s: want the damage met", name)
					}
					headerUnread := class == "pack header" && withIndex
					if r.events == 0 && r.failed == 0 && !silent[class] && !headerUnread {
						t.Errorf("%s: want the damage reported", name)
					}
				}
			}
		}
	}
}

// TestDamageErrorSaysWhere checks what an operator gets to read.
func TestDamageErrorSaysWhere(t *testing.T) {
	d := newDamageable(t)
	f := d.toc.frames[2] // the raw frame, slot 5
	bad := bytes.Clone(d.pack)
	bad[f.dataOffset()+1000]++
	fs := d.fs.Kill()
	writeFile(t, fs, packPath(1), bad)
	s := openTest(t, testOptions(t, fs))
	defer closeTest(t, s)
	err := s.Read(d.addrs, make([]byte, len(d.addrs)*BlockSize))
	var e *DamageError
	if !errors.As(err, &e) || e.Pack != 1 || e.Slot != 5 || e.Offset != int64(f.offset) {
		t.Fatalf("error %v (%+v), want pack 1 slot 5 offset %d", err, e, f.offset)
	}
	if !strings.Contains(err.Error(), "pack 1 generation 0 slot 5") {
		t.Errorf("the message is %q", err)
	}
	if s.Stats().DamagedBlocks != 1 {
		t.Errorf("%d damaged blocks counted", s.Stats().DamagedBlocks)
	}
	// The next backup that has the block stores it again.
	w := s.NewWriter()
	defer w.Close()
	again, r := mustPut(t, w, block(goldenContent[5]), d.addrs[5:])
	if r.New != 1 {
		t.Errorf("the damaged block is a dedup hit: %+v", r)
	}
	checkRead(t, s, again, block(goldenContent[5]))
}

// openPackFS is the file system of a store that died with an open pack of
// goldenContent[0:5] and goldenContent[5:], and the pack's bytes.
func openPackFS(t *testing.T) (*crashfs.FS, []byte, []Addr) {
	t.Helper()
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	a, _ := mustPut(t, w, blocks(goldenContent[:5]...), nil)
	b, _ := mustPut(t, w, blocks(goldenContent[5:]...), nil)
	mustSync(t, w)
	dead := fs.Kill()
	w.Close()
	closeTest(t, s)
	return dead, readFile(t, dead, packPath(1)), append(a, b...)
}

// TestTornTails cuts and spoils the end of an open pack everywhere. The frames
// before the tear are there; the pack is sealed and takes no more frames.
func TestTornTails(t *testing.T) {
	base, pack, addrs := openPackFS(t)
	h, err := parseFrameHeader(pack[packHeaderSize:])
	if err != nil {
		t.Fatal(err)
	}
	first := packHeaderSize + frameHeaderSize(4) + int(h.payload) // end of the first frame
	h, err = parseFrameHeader(pack[first:])
	if err != nil {
		t.Fatal(err)
	}
	second := first + frameHeaderSize(1) + int(h.payload)
	for _, size := range []int{0, 1, 63, 64, 65, 64 + frameFixed, first - 1, first, first + 1, first + frameHeaderSize(1), second - 1, second, second + 1, len(pack) - 1, len(pack), len(pack) + 1, len(pack) + 5000} {
		for tail, fill := range map[string]func([]byte){"zeros": func(b []byte) { clear(b) }, "garbage": func(b []byte) { copy(b, randomBytes(len(b))) }, "cut": nil} {
			torn := append([]byte(nil), pack[:min(size, len(pack))]...)
			torn = append(torn, make([]byte, max(0, size-len(pack)))...)
			if fill != nil && size < len(pack) {
				rest := make([]byte, len(pack)-size)
				fill(rest)
				torn = append(torn, rest...)
			}
			whole := 0
			for i, end := range []int{first, second, len(pack)} {
				if bytes.HasPrefix(torn, pack[:end]) {
					whole = []int{4, 5, 6}[i]
				}
			}
			t.Run(fmt.Sprintf("%d/%s", size, tail), func(t *testing.T) {
				fs := base.Kill()
				writeFile(t, fs, packPath(1), torn)
				s := openTest(t, testOptions(t, fs))
				defer closeTest(t, s)
				checkRead(t, s, addrs[:whole], blocks(goldenContent[:whole]...))
				if whole < len(addrs) && s.Have(addrs) == nil {
					t.Error("Have says that torn blocks are there")
				}
				w := s.NewWriter()
				defer w.Close()
				again, r := mustPut(t, w, blocks(goldenContent...), nil)
				if int(r.New) != len(addrs)-whole {
					t.Errorf("%d blocks survived, put again: %+v", whole, r)
				}
				for _, a := range again[whole:] {
					if a.Pack() == 1 {
						t.Errorf("a recovered pack got a new block at %v", a)
					}
				}
				checkRead(t, s, again, blocks(goldenContent...))
			})
		}
	}
}

// TestDamageInsideAnOpenPack spoils a frame that has good frames behind it: it
// is damage, not the end of the pack.
func TestDamageInsideAnOpenPack(t *testing.T) {
	base, pack, addrs := openPackFS(t)
	for name, at := range map[string]int{"frame header": packHeaderSize + 10, "payload": packHeaderSize + frameHeaderSize(4) + 20, "pack header": 3} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(pack)
			bad[at] ^= 0x10
			fs := base.Kill()
			writeFile(t, fs, packPath(1), bad)
			o := testOptions(t, fs)
			events := 0
			o.Events.Damage = func(*DamageError) { events++ }
			s := openTest(t, o)
			defer closeTest(t, s)
			checkRead(t, s, addrs[4:], blocks(goldenContent[4:]...))
			if events == 0 {
				t.Error("the damage was not reported")
			}
			if name == "pack header" {
				checkRead(t, s, addrs, blocks(goldenContent...))
				return
			}
			if err := s.Read(addrs[:1], make([]byte, BlockSize)); err == nil {
				t.Error("a damaged block was read")
			}
			w := s.NewWriter()
			defer w.Close()
			again, r := mustPut(t, w, blocks(goldenContent...), addrs)
			if r.New != 4 {
				t.Errorf("put again: %+v, want the 4 damaged blocks stored", r)
			}
			checkRead(t, s, again, blocks(goldenContent...))
		})
	}
}

// TestForgedFrames has a client's data contain frames: recovery, looking for
// the next frame in a damaged pack, must not take them for real.
func TestForgedFrames(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	evil := bytes.Clone(block(3))               // incompressible: it is stored as it is
	payload, _ := s.codec.encode(nil, block(5)) // decodes well; only the hash is not the block's
	h := frameHeader{count: 1, codec: codecZstd, payload: uint32(len(payload)), slots: [4]uint16{0, slotUnused, slotUnused, slotUnused},
		pack: 1, hashes: [4]Hash{{1}}, crc: crc(payload)}
	var forged []Addr
	for at := 0; at < BlockSize; at += BlockSize / 8 {
		h.slots[0] = uint16(at / 1000)
		h.put(evil[at : at+frameHeaderSize(1)])
		copy(evil[at+frameHeaderSize(1):], payload)
		forged = append(forged, MakeAddr(1, h.slots[0]))
	}
	a, _ := mustPut(t, w, evil, nil)
	b, _ := mustPut(t, w, block(6), nil)
	mustSync(t, w)
	dead := fs.Kill()
	w.Close()
	closeTest(t, s)
	pack := readFile(t, dead, packPath(1))
	pack[packHeaderSize] ^= 1 // the evil frame's header is damaged
	writeFile(t, dead, packPath(1), pack)
	s = openTest(t, testOptions(t, dead))
	defer closeTest(t, s)
	checkRead(t, s, b, block(6))
	for _, f := range append(forged, a...) {
		if f != b[0] && s.Have([]Addr{f}) == nil {
			t.Errorf("forged block %v was believed", f)
		}
	}
}

func TestForeignAndNewerPacksAreRefused(t *testing.T) {
	d := newDamageable(t)
	for name, spoil := range map[string]func(*packHeader, []byte) []byte{
		"other store": func(h *packHeader, b []byte) []byte { h.store[0]++; return h.append(nil) },
		"other pack":  func(h *packHeader, b []byte) []byte { h.pack++; return h.append(nil) },
		"newer": func(h *packHeader, b []byte) []byte {
			n := h.append(nil)
			n[8]++
			return append(n[:60], crcBytes(n[:60])...)
		},
	} {
		h, err := parsePackHeader(d.pack)
		if err != nil {
			t.Fatal(err)
		}
		bad := append(spoil(&h, d.pack), d.pack[packHeaderSize:]...)
		fs := d.fs.Kill()
		writeFile(t, fs, packPath(1), bad)
		if err := fs.RemoveAll(indexDir); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(testOptions(t, fs)); err == nil {
			closeTest(t, s)
			t.Errorf("%s: opened", name)
		} else if !strings.Contains(err.Error(), "pack 1 generation 0") {
			t.Errorf("%s: the error does not name the pack: %v", name, err)
		}
		if !bytes.Equal(readFile(t, fs, packPath(1)), bad) {
			t.Errorf("%s: the pack was changed", name)
		}
	}
}

func crcBytes(b []byte) []byte {
	c := crc(b)
	return []byte{byte(c), byte(c >> 8), byte(c >> 16), byte(c >> 24)}
}

// TestIndexLostOrDamaged spoils the index in every way: the store opens, has
// everything and finds everything.
func TestIndexLostOrDamaged(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	data := blocks(count(1, 80)...)
	addrs, _ := mustPut(t, w, data, nil)
	w.Close()
	s.seals.Wait()
	if p := s.pool.take(); p == nil || s.seal(p) != nil {
		t.Fatal("the last pack could not be sealed")
	}
	closeTest(t, s)
	names, err := fs.List(indexDir)
	if err != nil {
		t.Fatal(err)
	}
	spoilers := map[string]func(fs *crashfs.FS){
		"deleted":     func(fs *crashfs.FS) { must(t, fs.RemoveAll(indexDir)) },
		"other store": func(fs *crashfs.FS) { otherStoresIndex(t, fs) },
	}
	for _, name := range names {
		p := path.Join(indexDir, name)
		content := readFile(t, fs, p)
		spoilers["without "+name] = func(fs *crashfs.FS) { must(t, fs.Remove(p)) }
		for _, at := range []int{0, len(content) / 2, len(content) - 1} {
			if len(content) == 0 || strings.HasPrefix(name, "OPTIONS") {
				continue
			}
			spoilers[fmt.Sprintf("%s damaged at %d", name, at)] = func(fs *crashfs.FS) {
				bad := bytes.Clone(content)
				bad[at] ^= 0x40
				writeFile(t, fs, p, bad)
			}
		}
		spoilers[name+" empty"] = func(fs *crashfs.FS) { writeFile(t, fs, p, nil) }
	}
	for name, spoil := range spoilers {
		t.Run(name, func(t *testing.T) {
			fs := fs.Kill()
			spoil(fs)
			o := testOptions(t, fs)
			s := openTest(t, o)
			defer func() { closeTest(t, s) }()
			checkRead(t, s, addrs, data)
			w := s.NewWriter()
			again, r := mustPut(t, w, data, nil)
			if lost := s.Stats().IndexErrors > 0; !lost && (r.New != 0 || !slices.Equal(again, addrs)) {
				t.Errorf("put again: %+v", r)
			}
			checkRead(t, s, again, data)
			w.Close()
			closeTest(t, s)

			s = openTest(t, o) // damage met only in passing is mended by now
			w = s.NewWriter()
			defer w.Close()
			if _, r := mustPut(t, w, data, nil); r.New != 0 || s.Stats().IndexErrors != 0 {
				t.Errorf("put after another start: %+v, %d errors", r, s.Stats().IndexErrors)
			}
		})
	}
}

// TestIndexDamagedAtRun meets damage in a look-up, long after Open.
func TestIndexDamagedAtRun(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	data := blocks(count(1, 80)...)
	addrs, _ := mustPut(t, w, data, nil)
	w.Close()
	s.seals.Wait()
	for i := range uint16(2000) { // so that the table has many blocks
		key := blockKey(&Hash{byte(i), byte(i >> 8), 7})
		must(t, s.index.db.Set(key[:], appendBlockValue(nil, MakeAddr(1, 0)), pebble.NoSync))
	}
	closeTest(t, s)
	names, err := fs.List(indexDir)
	must(t, err)
	for _, name := range names {
		if p := path.Join(indexDir, name); strings.HasSuffix(name, ".sst") {
			bad := readFile(t, fs, p)
			for at := len(bad) / 4; at < len(bad)/2; at += 100 {
				bad[at] ^= 0x40
			}
			writeFile(t, fs, p, bad)
		}
	}
	s = openTest(t, testOptions(t, fs))
	w = s.NewWriter()
	slices.Reverse(addrs)
	backwards := make([]uint64, 80)
	for i := range backwards {
		backwards[i] = 80 - uint64(i)
	}
	_, r := mustPut(t, w, blocks(backwards...), nil)
	if s.Stats().IndexErrors == 0 || r.New == 0 || r.Index == 0 {
		t.Errorf("%d index errors, %+v: the test damages nothing or too much", s.Stats().IndexErrors, r)
	}
	checkRead(t, s, addrs, blocks(backwards...))
	w.Close()
	closeTest(t, s)

	o := testOptions(t, fs)
	var why error
	o.Events.IndexRebuilt = func(err error) { why = err }
	s = openTest(t, o)
	defer closeTest(t, s)
	w = s.NewWriter()
	defer w.Close()
	if _, r := mustPut(t, w, blocks(backwards...), nil); r.New != 0 || s.Stats().IndexErrors != 0 || why == nil {
		t.Errorf("after a restart: %+v, %d index errors, rebuilt because %v", r, s.Stats().IndexErrors, why)
	}
}

func otherStoresIndex(t *testing.T, fs *crashfs.FS) {
	must(t, fs.RemoveAll(indexDir))
	x, _, err := openIndex(indexOptions{fs: fs, dir: indexDir, store: [16]byte{9}, cacheBytes: 1 << 20, logger: quietLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	must(t, x.close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestUnreadablePackAtOpen opens all the same.
func TestUnreadablePackAtOpen(t *testing.T) {
	d := newDamageable(t)
	s := openTest(t, testOptions(t, d.fs))
	w := s.NewWriter()
	addrs, _ := mustPut(t, w, block(20), nil)
	w.Close()
	closeTest(t, s)
	must(t, d.fs.RemoveAll(indexDir))
	sick := &crashfs.Fault{Match: func(op crashfs.Op) bool { return op.Kind == crashfs.Read && op.Path == packPath(1) }, Sticky: true}
	d.fs.Inject(sick)
	s = openTest(t, testOptions(t, d.fs))
	checkRead(t, s, addrs, block(20))
	if err := s.Read(d.addrs[:1], make([]byte, BlockSize)); !errors.Is(err, syscall.EIO) {
		t.Errorf("read of the sick pack: %v", err)
	}
	if s.Stats().DamagedBlocks == 0 {
		t.Error("the sick pack was not reported")
	}
	closeTest(t, s)
	d.fs.Heal()
	s = openTest(t, testOptions(t, d.fs))
	defer closeTest(t, s)
	checkRead(t, s, d.addrs, blocks(goldenContent...))
}

// TestMissingPack is told about and does not keep the rest from working.
func TestMissingPack(t *testing.T) {
	d := newDamageable(t)
	o := testOptions(t, d.fs)
	must(t, o.Tier.Remove(tier.ID{Pack: 1}))
	var missing []uint64
	o.Events.PackMissing = func(pack uint64, gen uint32) { missing = append(missing, pack) }
	s := openTest(t, o)
	if !slices.Equal(missing, []uint64{1}) {
		t.Errorf("missing packs %v, want pack 1", missing)
	}
	if err := s.Read(d.addrs, make([]byte, len(d.addrs)*BlockSize)); !errors.Is(err, ErrUnknownAddr) {
		t.Errorf("read: %v", err)
	}
	w := s.NewWriter()
	if _, r := mustPut(t, w, blocks(goldenContent...), d.addrs); int(r.New) != len(goldenContent) {
		t.Errorf("blocks of a missing pack are found: %+v", r)
	}
	w.Close()
	closeTest(t, s)
}
