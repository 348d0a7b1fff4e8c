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

	lastSeq, nextChunk uint64
	lastTime           int64
}

func TestSecondImplementation(t *testing.T) {
	b, err := os.ReadFile(goldenLog)
	if err != nil {
		t.Fatal(err)
	}
	s := &second{t: t, db: map[string][]byte{}, nextChunk: 1}
	s.log(b)
	s.db["f"] = append([]byte{1}, b[16:32]...)
	w := binary.AppendUvarint(nil, s.lastSeq)
	w = binary.AppendUvarint(w, s.nextChunk)
	s.db["w"] = binary.AppendVarint(w, s.lastTime)
	var got strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.db)) {
		fmt.Fprintf(&got, "%q %x\n", k, s.db[k])
	}
	golden(t, "testdata/v1/dump.txt", got.String())
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
	case 3, 4:
		id, name := str(&b), str(&b)
		s.db[map[uint16]string{3: "i", 4: "b"}[typ]+id+"\x00"+name] = b
	case 5:
		whole := b
		id, vm, at := str(&b), str(&b), signed(&b)
		s.lastTime = max(s.lastTime, at)
		s.db["r"+vm+"\x00"+string(binary.BigEndian.AppendUint64(nil, uint64(at)))] = whole
		s.db["P"+id] = append(binary.AppendVarint(nil, at), vm...)
		s.sumUp(vm)
	case 6:
		id, at := str(&b), signed(&b)
		s.lastTime = max(s.lastTime, at)
		p := s.db["P"+id]
		when := signed(&p)
		for k := range s.db {
			if k == "P"+id || strings.HasPrefix(k, "i"+id) || strings.HasPrefix(k, "b"+id) ||
				k == "r"+string(p)+"\x00"+string(binary.BigEndian.AppendUint64(nil, uint64(when))) {
				delete(s.db, k)
			}
		}
		s.db["t"+id] = binary.AppendVarint(nil, at)
		s.sumUp(string(p))
	}
}

// sumUp makes v of a VM from its points.
func (s *second) sumUp(vm string) {
	delete(s.db, "v"+vm)
	points, images, total := uint64(0), uint64(0), uint64(0)
	latest, latestAt, disks := "", int64(0), map[string][]byte{}
	for _, k := range slices.Sorted(maps.Keys(s.db)) {
		if !strings.HasPrefix(k, "r"+vm+"\x00") {
			continue
		}
		b := s.db[k]
		points++
		latest, _, latestAt = str(&b), str(&b), signed(&b)
		signed(&b)
		for range 2 * take(&b) {
			str(&b)
		}
		for range take(&b) {
			images++
			disk, size := str(&b), take(&b)
			total += size
			v := append(binary.AppendUvarint(append([]byte{byte(len(disk))}, disk...), size), byte(len(latest)))
			disks[disk] = binary.AppendVarint(append(v, latest...), latestAt)
			b = b[1:]
			str(&b)
			b = b[32:]
			str(&b)
			for range 4 {
				take(&b)
			}
		}
		for range take(&b) {
			str(&b)
			take(&b)
			b = b[32:]
		}
		if len(b) != 0 {
			s.t.Fatalf("%d bytes behind a point", len(b))
		}
	}
	if points == 0 {
		return
	}
	v := binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(nil, points), images), total)
	v = binary.AppendVarint(append(append(v, byte(len(latest))), latest...), latestAt)
	v = binary.AppendUvarint(v, uint64(len(disks)))
	for _, d := range slices.Sorted(maps.Keys(disks)) {
		v = append(v, disks[d]...)
	}
	s.db["v"+vm] = v
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
