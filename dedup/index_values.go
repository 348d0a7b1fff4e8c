package dedup

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"time"
)

// Keys and values of the block index; index.go lists them.

func blockKey(h *Hash) (k [blockKeySize]byte) {
	k[0] = 'b'
	copy(k[1:], h[:16])
	return k
}

var errIndexValue = errors.New("block index value is not valid")

func appendBlockValue(b []byte, a Addr) []byte {
	pack := a.Pack()
	b = append(b, byte(pack>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(pack))
	return binary.BigEndian.AppendUint16(b, a.Slot())
}

func parseBlockValue(v []byte) (Addr, error) {
	if len(v) != blockValueSize {
		return 0, errIndexValue
	}
	pack := uint64(v[0])<<32 | uint64(binary.BigEndian.Uint32(v[1:]))
	slot := binary.BigEndian.Uint16(v[5:])
	if pack == 0 || slot >= MaxPackSlots {
		return 0, errIndexValue
	}
	return MakeAddr(pack, slot), nil
}

func packKey(kind byte, pack uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, pack)
}

// packRecord is what the index keeps of a durable pack: enough to begin a
// garbage collection without reading its table of contents.
type packRecord struct {
	gen    uint32
	slots  uint32 // blocks it has
	frames uint32
	next   uint32 // the lowest slot above all of them
	bytes  int64  // of frames, headers included
	size   int64  // of the file
	holes  []byte // when slots < next: one bit per slot below next that it has
}

const packRecordSize = 32

func newPackRecord(gen uint32, t *toc, size int64) packRecord {
	r := packRecord{
		gen: gen, slots: uint32(len(t.slots)), frames: uint32(len(t.frames)), next: uint32(t.nextSlot()), bytes: t.bytes(), size: size,
	}
	if r.slots < r.next {
		r.holes = make([]byte, (r.next+7)/8)
		for _, s := range t.slots {
			r.holes[s.slot/8] |= 1 << (s.slot % 8)
		}
	}
	return r
}

// has reports whether the pack has a slot.
func (r *packRecord) has(slot uint16) bool {
	return uint32(slot) < r.next && (r.holes == nil || r.holes[slot/8]>>(slot%8)&1 != 0)
}

func (r packRecord) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, r.gen)
	b = be.AppendUint32(b, r.slots)
	b = be.AppendUint32(b, r.frames)
	b = be.AppendUint32(b, r.next)
	b = be.AppendUint64(b, uint64(r.bytes))
	b = be.AppendUint64(b, uint64(r.size))
	return append(b, r.holes...)
}

// parsePackRecord reads a record; holes is not a copy.
func parsePackRecord(v []byte) (r packRecord, err error) {
	if len(v) < packRecordSize {
		return r, errIndexValue
	}
	be := binary.BigEndian
	r = packRecord{
		gen: be.Uint32(v), slots: be.Uint32(v[4:]), frames: be.Uint32(v[8:]), next: be.Uint32(v[12:]),
		bytes: int64(be.Uint64(v[16:])), size: int64(be.Uint64(v[24:])),
	}
	holes := v[packRecordSize:]
	if r.next > MaxPackSlots || r.slots > r.next || r.frames > MaxPackSlots || r.bytes < 0 || r.size < r.bytes || r.size > maxPackFile {
		return r, errIndexValue
	}
	if r.slots == r.next {
		if len(holes) != 0 {
			return r, errIndexValue
		}
		return r, nil
	}
	if len(holes) != int(r.next+7)/8 || ones(holes) != int(r.slots) || r.next%8 != 0 && holes[len(holes)-1]>>(r.next%8) != 0 {
		return r, errIndexValue
	}
	r.holes = holes
	return r, nil
}

func ones(b []byte) (n int) {
	for _, c := range b {
		n += bits.OnesCount8(c)
	}
	return n
}

// damageRecord is what is known to be wrong with a pack.
type damageRecord struct {
	unreadable bool     // as a whole
	structure  bool     // something besides blocks: a header, a table of contents
	slots      []uint16 // blocks that are not what they should be, ascending
}

func (r *damageRecord) empty() bool { return !r.unreadable && !r.structure && len(r.slots) == 0 }

func (r *damageRecord) append(b []byte) []byte {
	var flags byte
	if r.unreadable {
		flags |= 1
	}
	if r.structure {
		flags |= 2
	}
	b = append(b, flags)
	for _, s := range r.slots {
		b = binary.BigEndian.AppendUint16(b, s)
	}
	return b
}

func parseDamageRecord(v []byte) (r damageRecord, err error) {
	if len(v) < 1 || v[0] > 3 || len(v)%2 != 1 || len(v)/2 > MaxPackSlots {
		return r, errIndexValue
	}
	r.unreadable, r.structure = v[0]&1 != 0, v[0]&2 != 0
	last := -1
	for at := 1; at < len(v); at += 2 {
		s := binary.BigEndian.Uint16(v[at:])
		if s >= MaxPackSlots || int(s) <= last {
			return r, errIndexValue
		}
		r.slots, last = append(r.slots, s), int(s)
	}
	return r, nil
}

// appendVerified and parseVerified code when a pack was found good.
func appendVerified(b []byte, at time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(at.UnixNano()))
}

func parseVerified(v []byte) (time.Time, error) {
	if len(v) != 8 {
		return time.Time{}, errIndexValue
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(v))).UTC(), nil
}

// openRecord is what a clean shutdown remembers of an open pack.
type openRecord struct {
	gen, slots uint32
	size       int64
}

func (r openRecord) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, r.gen)
	b = be.AppendUint32(b, r.slots)
	return be.AppendUint64(b, uint64(r.size))
}

func parseOpenRecord(v []byte) (r openRecord, err error) {
	be := binary.BigEndian
	if len(v) != 16 {
		return r, errIndexValue
	}
	return openRecord{gen: be.Uint32(v), slots: be.Uint32(v[4:]), size: int64(be.Uint64(v[8:]))}, nil
}
