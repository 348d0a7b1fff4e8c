package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// second is a second implementation, of docs/FORMAT.md alone: it reads a
// metadata log of one file and makes the keys of the catalog database.
type second struct {
	t  *testing.T
	db map[string][]byte

	lastSeq, nextChunk, queue uint64
	lastTime                  int64
	born                      []byte // of the transaction: the queue entry's runs
}

func TestSecondImplementation(t *testing.T) {
	for _, dir := range []string{"testdata/v1/", "testdata/v2/"} {
		b, err := os.ReadFile(dir + logName)
		if err != nil {
			t.Fatal(err)
		}
		s := &second{t: t, db: map[string][]byte{}, nextChunk: 1}
		s.log(b)
		for _, k := range s.keys("d") { // as at every start
			s.forget(k[1:])
		}
		s.db["f"] = append([]byte{2}, b[16:32]...)
		w := binary.AppendUvarint(nil, s.lastSeq)
		w = binary.AppendUvarint(w, s.nextChunk)
		w = binary.AppendVarint(w, s.lastTime)
		s.db["w"] = binary.AppendUvarint(w, s.queue)
		for page, counts := range s.pages() {
			s.db["n"+page] = counts
		}
		var got strings.Builder
		for _, k := range s.keys("") {
			fmt.Fprintf(&got, "%q %x\n", k, s.db[k])
		}
		golden(t, dir+"dump.txt", got.String())
	}
}

// keys are those that begin with prefix, sorted.
func (s *second) keys(prefix string) (keys []string) {
	for _, k := range slices.Sorted(maps.Keys(s.db)) {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys
}

func (s *second) log(b []byte) {
	le := binary.LittleEndian
	crc := func(parts ...[]byte) uint32 {
		return crc32.Checksum(bytes.Join(parts, nil), crc32.MakeTable(crc32.Castagnoli))
	}
	if string(b[:8]) != "SRMETLOG" || le.Uint32(b[60:]) != crc(b[:60]) || le.Uint64(b[32:]) != 1 {
		s.t.Fatal("file header")
	}
	salt := b[40:48]
	type rec struct {
		typ     uint16
		payload []byte
	}
	var txn []rec
	sum := sha256.New()
	for b = b[64:]; len(b) > 0; {
		n := int(le.Uint32(b[4:]))
		payload, end := b[32:32+n], b[32+n:36+n]
		s.lastSeq++
		if string(b[:4]) != "SRMR" || le.Uint64(b[8:]) != s.lastSeq || le.Uint64(b[16:]) != s.lastSeq-uint64(len(txn)) ||
			le.Uint16(b[26:]) != 0 || le.Uint32(b[28:]) != crc(salt, b[:28]) || le.Uint32(end) != crc(salt, b[:28], payload) {
			s.t.Fatalf("record %d", s.lastSeq)
		}
		if typ := le.Uint16(b[24:]); typ != 1 {
			txn = append(txn, rec{typ, payload})
			sum.Write(b[4:28])
			sum.Write(payload)
		} else {
			if le.Uint32(payload) != uint32(len(txn)) || !bytes.Equal(payload[4:], sum.Sum(nil)) {
				s.t.Fatalf("commit record %d", s.lastSeq)
			}
			for _, r := range txn {
				s.apply(r.typ, r.payload)
			}
			txn = nil
			sum.Reset()
		}
		b = b[36+n:]
	}
}

func (s *second) apply(typ uint16, b []byte) {
	switch typ {
	case 2:
		no := take(&b)
		key := binary.BigEndian.AppendUint64(nil, no)
		s.db["c"+string(key)], s.db["C"+string(b[:32])] = b, key
		s.nextChunk = no + 1
		s.born = append(binary.AppendUvarint(s.born, no), 1)
	case 3, 4:
		id, name := str(&b), str(&b)
		s.db[map[uint16]string{3: "i", 4: "b"}[typ]+id+"\x00"+name] = b
	case 5:
		p := secondPoint{attributes: []byte{0, 0, 0, 0, 0}}
		p.read(&b)
		s.lastTime = max(s.lastTime, p.time)
		for i := range p.images {
			if im := &p.images[i]; s.image(im.parent, im.disk) == nil {
				im.parent = ""
			}
		}
		s.put(&p)
		if s.born != nil {
			s.enqueue(1, s.born)
			s.born = nil
		}
	case 6:
		id, at := str(&b), signed(&b)
		s.lastTime = max(s.lastTime, at)
		p := s.point(id)
		s.drop(p, at)
		s.db["d"+id] = nil
		for _, im := range p.images {
			s.reparent(p.vm, im.disk, id, im.parent, im.gone+1)
		}
	case 7:
		id := str(&b)
		p := s.point(id)
		delete(s.db, p.key())
		p.attributes = b
		s.lastTime = max(s.lastTime, p.trashed())
		s.put(p)
	case 8:
		if vm := str(&b); len(b) > 0 {
			s.db["y"+vm] = b
		} else {
			delete(s.db, "y"+vm)
		}
	case 9:
		s.merge(b)
	}
	for _, k := range s.keys("v") {
		delete(s.db, k)
	}
	for _, k := range s.keys("r") {
		vm, _, _ := strings.Cut(k[1:], "\x00")
		s.sumUp(vm)
	}
}

func (s *second) merge(b []byte) {
	vm, disk, into, from, pull, at := str(&b), str(&b), str(&b), str(&b), take(&b) == 1, signed(&b)
	s.lastTime = max(s.lastTime, at)
	before := s.counts()
	p, f := s.point(into), s.point(from)
	im, top := p.image(disk), f.image(disk)
	heir := into
	if pull {
		if im.parent, heir = top.parent, top.parent; heir == "" {
			im.mode = 0
		}
	} else {
		im.size, im.root, im.checkpoint = top.size, top.root, top.checkpoint
		s.db["i"+into+"\x00"+disk] = s.db["i"+from+"\x00"+disk]
	}
	im.merged, im.mergedFrom = at, from
	for n := take(&b); n > 0; n-- {
		id := str(&b)
		q := s.point(id)
		im.gone += q.image(disk).gone + 1
		for i, c := range q.image(disk).counters {
			im.counters[i] += c
		}
		delete(s.db, "i"+id+"\x00"+disk)
		q.images = slices.DeleteFunc(q.images, func(im secondImage) bool { return im.disk == disk })
		s.put(q)
		if len(q.images) == 0 {
			s.drop(q, at)
		}
		s.reparent(vm, disk, id, heir, 0)
	}
	if pull && heir == "" {
		im.gone = 0
	}
	s.put(p)
	s.bury(before)
}

// forget drops a removed point's chunk lists.
func (s *second) forget(id string) {
	before := s.counts()
	for _, k := range s.keys("i" + id + "\x00") {
		delete(s.db, k)
	}
	delete(s.db, "d"+id)
	s.bury(before)
}

// bury queues what died since before; the accounts have not run yet, so the
// records are still there.
func (s *second) bury(before map[uint64]uint64) {
	after := s.counts()
	var runs []byte
	for _, no := range slices.Sorted(maps.Keys(before)) {
		if after[no] > 0 {
			continue
		}
		if n := len(runs); n > 0 && no == uint64(runs[n-2])+uint64(runs[n-1]) { // numbers of one byte
			runs[n-1]++
		} else {
			runs = append(runs, byte(no), 1)
		}
		key := string(binary.BigEndian.AppendUint64(nil, no))
		if hash := "C" + string(s.db["c"+key][:32]); string(s.db[hash]) == key {
			delete(s.db, hash)
		}
	}
	if runs != nil {
		s.enqueue(2, runs)
	}
}

func (s *second) enqueue(kind byte, runs []byte) {
	var joined []byte
	for ; len(runs) > 0; runs = runs[2:] {
		if n := len(joined); n > 0 && joined[n-2]+joined[n-1] == runs[0] {
			joined[n-1] += runs[1]
		} else {
			joined = append(joined, runs[:2]...)
		}
	}
	s.db["q"+string(binary.BigEndian.AppendUint64(nil, s.queue))] = append([]byte{kind}, joined...)
	s.queue++
}

// counts is how often each chunk is named.
func (s *second) counts() map[uint64]uint64 {
	counts := map[uint64]uint64{}
	for _, k := range s.keys("i") {
		b := s.db[k]
		due := uint64(0)
		for left := take(&b); left > 0; {
			head := take(&b)
			n := head >> 1
			left -= n
			if head&1 == 0 {
				due += uint64(signed(&b))
				for ; n > 0; n-- {
					counts[due]++
					due++
				}
			}
		}
	}
	return counts
}

// pages are the reference counts as stored.
func (s *second) pages() map[string][]byte {
	all := map[uint64]*[512]uint64{}
	for no, n := range s.counts() {
		if all[no/512] == nil {
			all[no/512] = new([512]uint64)
		}
		all[no/512][no%512] = n
	}
	pages := map[string][]byte{}
	for page, counts := range all {
		var b []byte
		for i := 0; i < 512; {
			n := 1
			for i+n < 512 && counts[i+n] == counts[i] {
				n++
			}
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(n)), counts[i])
			i += n
		}
		pages[string(binary.BigEndian.AppendUint64(nil, page))] = b
	}
	return pages
}

// secondPoint is a point's record.
type secondPoint struct {
	id, vm      string
	time, start int64
	labels      [][2]string
	images      []secondImage
	blobs       []secondBlob
	attributes  []byte
}

type secondImage struct {
	disk       string
	size       uint64
	mode       byte
	parent     string
	root       string
	checkpoint string
	counters   [4]uint64
	merged     int64
	mergedFrom string
	gone       uint64
}

type secondBlob struct {
	name string
	size uint64
	hash string
}

func (p *secondPoint) read(b *[]byte) {
	p.id, p.vm, p.time, p.start = str(b), str(b), signed(b), signed(b)
	for n := take(b); n > 0; n-- {
		p.labels = append(p.labels, [2]string{str(b), str(b)})
	}
	for n := take(b); n > 0; n-- {
		im := secondImage{disk: str(b), size: take(b), mode: byte(take(b)), parent: str(b), root: fixed(b), checkpoint: str(b)}
		for i := range im.counters {
			im.counters[i] = take(b)
		}
		p.images = append(p.images, im)
	}
	for n := take(b); n > 0; n-- {
		p.blobs = append(p.blobs, secondBlob{str(b), take(b), fixed(b)})
	}
}

// stored is the value of r and x.
func (p *secondPoint) stored() (b []byte) {
	put := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	num := func(n uint64) { b = binary.AppendUvarint(b, n) }
	put(p.id)
	put(p.vm)
	b = binary.AppendVarint(binary.AppendVarint(b, p.time), p.start)
	num(uint64(len(p.labels)))
	for _, l := range p.labels {
		put(l[0])
		put(l[1])
	}
	num(uint64(len(p.images)))
	for _, im := range p.images {
		put(im.disk)
		num(im.size)
		b = append(b, im.mode)
		put(im.parent)
		b = append(b, im.root...)
		put(im.checkpoint)
		for _, c := range im.counters {
			num(c)
		}
	}
	num(uint64(len(p.blobs)))
	for _, f := range p.blobs {
		put(f.name)
		num(f.size)
		b = append(b, f.hash...)
	}
	b = append(b, p.attributes...)
	for _, im := range p.images {
		b = binary.AppendVarint(b, im.merged)
		put(im.mergedFrom)
		num(im.gone)
	}
	return b
}

// trashed is when the point went to the trash, 0 if it did not.
func (p *secondPoint) trashed() int64 {
	b := p.attributes
	take(&b)
	str(&b)
	signed(&b)
	return signed(&b)
}

func (p *secondPoint) key() string {
	kind := "r"
	if p.trashed() != 0 {
		kind = "x"
	}
	return kind + p.vm + "\x00" + string(binary.BigEndian.AppendUint64(nil, uint64(p.time)))
}

func (p *secondPoint) image(disk string) *secondImage {
	i := slices.IndexFunc(p.images, func(im secondImage) bool { return im.disk == disk })
	if i < 0 {
		return nil
	}
	return &p.images[i]
}

// point reads a point, nil if there is none of the id.
func (s *second) point(id string) *secondPoint {
	b := s.db["P"+id]
	if b == nil {
		return nil
	}
	at := signed(&b)
	kind := map[byte]string{0: "r", 1: "x"}[b[0]]
	return s.parse(s.db[kind+string(b[1:])+"\x00"+string(binary.BigEndian.AppendUint64(nil, uint64(at)))])
}

func (s *second) parse(b []byte) *secondPoint {
	p := new(secondPoint)
	p.read(&b)
	whole := b
	take(&b)
	str(&b)
	for range 3 {
		signed(&b)
	}
	p.attributes = whole[:len(whole)-len(b)]
	for i := range p.images {
		p.images[i].merged, p.images[i].mergedFrom = signed(&b), str(&b)
		p.images[i].gone = take(&b)
	}
	if len(b) != 0 {
		s.t.Fatalf("%d bytes behind a point", len(b))
	}
	return p
}

func (s *second) image(id, disk string) *secondImage {
	if p := s.point(id); p != nil {
		return p.image(disk)
	}
	return nil
}

func (s *second) put(p *secondPoint) {
	s.db[p.key()] = p.stored()
	trashed := byte(0)
	if p.trashed() != 0 {
		trashed = 1
	}
	s.db["P"+p.id] = append(append(binary.AppendVarint(nil, p.time), trashed), p.vm...)
}

// drop deletes all of a point but its chunk lists.
func (s *second) drop(p *secondPoint, at int64) {
	delete(s.db, p.key())
	delete(s.db, "P"+p.id)
	for _, k := range s.keys("b" + p.id) {
		delete(s.db, k)
	}
	s.db["t"+p.id] = binary.AppendVarint(nil, at)
}

func (s *second) reparent(vm, disk, from, to string, gone uint64) {
	for _, k := range append(s.keys("r"+vm+"\x00"), s.keys("x"+vm+"\x00")...) {
		p := s.parse(s.db[k])
		if im := p.image(disk); im != nil && im.parent == from {
			im.parent = to
			im.gone += gone
			s.db[k] = p.stored()
		}
	}
}

// sumUp makes v of a VM from its live points.
func (s *second) sumUp(vm string) {
	images, total, latest, at := uint64(0), uint64(0), "", int64(0)
	disks := map[string][]byte{}
	keys := s.keys("r" + vm + "\x00")
	for _, k := range keys {
		p := s.parse(s.db[k])
		latest, at = p.id, p.time
		for _, im := range p.images {
			images++
			total += im.size
			v := append(binary.AppendUvarint(append([]byte{byte(len(im.disk))}, im.disk...), im.size), byte(len(latest)))
			disks[im.disk] = binary.AppendVarint(append(v, latest...), at)
		}
	}
	v := binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(keys))), images), total)
	v = binary.AppendVarint(append(append(v, byte(len(latest))), latest...), at)
	v = binary.AppendUvarint(v, uint64(len(disks)))
	for _, d := range slices.Sorted(maps.Keys(disks)) {
		v = append(v, disks[d]...)
	}
	s.db["v"+vm] = v
}

func fixed(b *[]byte) string {
	s := string((*b)[:32])
	*b = (*b)[32:]
	return s
}

func take(b *[]byte) uint64 {
	v, n := binary.Uvarint(*b)
	*b = (*b)[n:]
	return v
}

func signed(b *[]byte) int64 {
	v, n := binary.Varint(*b)
	*b = (*b)[n:]
	return v
}

func str(b *[]byte) string {
	n := take(b)
	s := string((*b)[:n])
	*b = (*b)[n:]
	return s
}
