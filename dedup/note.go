package dedup

import (
	"encoding/binary"
	"errors"
	"math"
)

// A note lies beside a pack that was given up after a failed fdatasync. The
// page cache may show data the disk never got, and a later fdatasync would say
// that all is well; the note is how the next process knows better.
//
//	magic "SRNOTE\0\1", u64 pack, u32 generation, u32 slots known to be durable, u32 0, u32 CRC32C of the 28 bytes before
const (
	noteMagic = "SRNOTE\x00\x01"
	noteSize  = 32
	// noteUnknown is the number of slots when an earlier process had written them
	// and nobody knows how many it synced.
	noteUnknown = math.MaxUint32
)

func noteBytes(pack uint64, gen uint32, synced int) []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, noteSize), noteMagic...)
	b = le.AppendUint64(b, pack)
	b = le.AppendUint32(b, gen)
	b = le.AppendUint32(b, uint32(synced)) // noteUnreadable becomes noteUnknown
	b = le.AppendUint32(b, 0)
	return le.AppendUint32(b, crc(b))
}

var errNote = errors.New("note is not valid")

// parseNote returns how many slots of the pack were durable, noteUnreadable when
// nobody knew.
func parseNote(b []byte, pack uint64, gen uint32) (synced int, err error) {
	le := binary.LittleEndian
	if len(b) != noteSize || string(b[:8]) != noteMagic || le.Uint32(b[28:]) != crc(b[:28]) {
		return 0, errNote
	}
	if le.Uint64(b[8:]) != pack || le.Uint32(b[16:]) != gen {
		return 0, errNote
	}
	switch n := le.Uint32(b[20:]); {
	case n == noteUnknown:
		return noteUnreadable, nil
	case n > math.MaxUint16:
		return 0, errNote
	}
	return int(le.Uint32(b[20:])), nil
}
