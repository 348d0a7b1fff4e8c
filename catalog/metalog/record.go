package metalog

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
)

const (
	recordHeaderSize = 32
	recordOverhead   = recordHeaderSize + 4
	recordMagic      = 0x524d5253 // "SRMR"

	// typeCommit closes a transaction; all other types belong to the caller.
	typeCommit    = 1
	commitPayload = 4 + sha256.Size
)

// recordHeader is the fixed part of a record.
type recordHeader struct {
	length uint32
	seq    uint64
	txn    uint64
	typ    uint16
	flags  uint16
}

// appendRecord appends the whole record to b.
func appendRecord(b []byte, salt *[8]byte, h recordHeader, payload []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint64(b, h.seq)
	b = binary.LittleEndian.AppendUint64(b, h.txn)
	b = binary.LittleEndian.AppendUint16(b, h.typ)
	b = binary.LittleEndian.AppendUint16(b, h.flags)
	crc := headerCRC(salt, b[start:])
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, crc32.Update(crc, castagnoli, payload))
}

// headerCRC covers the salt and the first 28 bytes of b.
func headerCRC(salt *[8]byte, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(salt[:], castagnoli), castagnoli, b[:28])
}

// decodeRecordHeader reads 32 bytes; crc is to be continued over the payload.
func decodeRecordHeader(b []byte, salt *[8]byte) (h recordHeader, crc uint32, ok bool) {
	if len(b) < recordHeaderSize || binary.LittleEndian.Uint32(b) != recordMagic {
		return h, 0, false
	}
	crc = headerCRC(salt, b)
	if crc != binary.LittleEndian.Uint32(b[28:]) {
		return h, 0, false
	}
	h.length = binary.LittleEndian.Uint32(b[4:])
	h.seq = binary.LittleEndian.Uint64(b[8:])
	h.txn = binary.LittleEndian.Uint64(b[16:])
	h.typ = binary.LittleEndian.Uint16(b[24:])
	h.flags = binary.LittleEndian.Uint16(b[26:])
	return h, crc, true
}

// digest gathers what a commit record says of the records before it.
type digest struct {
	sum   hash.Hash
	count uint32
}

func newDigest() digest { return digest{sum: sha256.New()} }

// add takes a record's bytes 4–27 and its payload.
func (d *digest) add(fixed, payload []byte) {
	d.sum.Write(fixed)
	d.sum.Write(payload)
	d.count++
}

func (d *digest) commit() []byte {
	b := binary.LittleEndian.AppendUint32(nil, d.count)
	return d.sum.Sum(b)
}
