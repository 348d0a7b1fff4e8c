package metalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	headerSize  = 64
	headerMagic = "SRMETLOG"
	version     = 1
	kind        = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the beginning of a log file.
type header struct {
	domain uint32
	store  [16]byte
	first  uint64
	salt   [8]byte
}

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint16(b[8:], version)
	binary.LittleEndian.PutUint16(b[10:], kind)
	binary.LittleEndian.PutUint32(b[12:], h.domain)
	copy(b[16:], h.store[:])
	binary.LittleEndian.PutUint64(b[32:], h.first)
	copy(b[40:], h.salt[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

var errHeader = errors.New("the file header is not whole")

// decodeHeader returns errHeader for bytes that are no header and ErrNewer for
// one of a later format.
func decodeHeader(b []byte) (h header, err error) {
	if len(b) < headerSize || string(b[:8]) != headerMagic ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return h, errHeader
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > version {
		return h, fmt.Errorf("%w: format version %d, this one knows %d", ErrNewer, v, version)
	}
	if binary.LittleEndian.Uint16(b[8:]) != version || binary.LittleEndian.Uint16(b[10:]) != kind {
		return h, errHeader
	}
	h.domain = binary.LittleEndian.Uint32(b[12:])
	copy(h.store[:], b[16:])
	h.first = binary.LittleEndian.Uint64(b[32:])
	copy(h.salt[:], b[40:])
	return h, nil
}
