package dedup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// The pack header, 64 bytes at offset 0. docs/FORMAT.md draws it.
const (
	packHeaderSize = 64
	packMagic      = "SRPACK\x00\x01"
	packVersion    = 1
	kindData       = 1
	hashBLAKE3     = 1
	cipherNone     = 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

type packHeader struct {
	domain  uint32
	gen     uint32
	pack    uint64
	created time.Time
	store   [16]byte
}

func (h packHeader) append(b []byte) []byte {
	start := len(b)
	b = append(b, packMagic...)
	b = binary.LittleEndian.AppendUint16(b, packVersion)
	b = binary.LittleEndian.AppendUint16(b, kindData)
	b = binary.LittleEndian.AppendUint16(b, hashBLAKE3)
	b = binary.LittleEndian.AppendUint16(b, cipherNone)
	b = binary.LittleEndian.AppendUint32(b, h.domain)
	b = binary.LittleEndian.AppendUint32(b, h.gen)
	b = binary.LittleEndian.AppendUint64(b, h.pack)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.created.UnixNano()))
	b = append(b, h.store[:]...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc(b[start:]))
}

var errPackHeader = errors.New("pack header is not valid")

func parsePackHeader(b []byte) (h packHeader, err error) {
	le := binary.LittleEndian
	if len(b) < packHeaderSize || string(b[:8]) != packMagic || le.Uint32(b[60:]) != crc(b[:60]) {
		return h, errPackHeader
	}
	version, kind, alg, cipher := le.Uint16(b[8:]), le.Uint16(b[10:]), le.Uint16(b[12:]), le.Uint16(b[14:])
	if version != packVersion || kind != kindData || alg != hashBLAKE3 || cipher != cipherNone {
		return h, fmt.Errorf("%w (version %d, kind %d, hash %d, cipher %d)", ErrNewerFormat, version, kind, alg, cipher)
	}
	h = packHeader{
		domain: le.Uint32(b[16:]), gen: le.Uint32(b[20:]), pack: le.Uint64(b[24:]),
		created: time.Unix(0, int64(le.Uint64(b[32:]))), store: [16]byte(b[40:56]),
	}
	return h, nil
}
