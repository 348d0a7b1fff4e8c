package dedup

import (
	"encoding/binary"
	"errors"
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

func packRecord(gen uint32, t *toc) []byte {
	be := binary.BigEndian
	v := be.AppendUint32(nil, gen)
	v = be.AppendUint32(v, uint32(len(t.slots)))
	v = be.AppendUint32(v, uint32(len(t.frames)))
	return be.AppendUint64(v, uint64(t.bytes()))
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

// packRecordGen reads the generation out of a 'p' record.
func packRecordGen(v []byte) (gen uint32, ok bool) {
	if len(v) != 20 {
		return 0, false
	}
	return binary.BigEndian.Uint32(v), true
}
