package hashstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	magic       = "SRHASH\x00\x01"
	version     = 1
	headerBytes = 28
	recordBytes = 8 // before the payload
	sumBytes    = 4

	typeHashes  = 1
	typeZeros   = 2
	typeEnd     = 3
	typeFailure = 4

	// flagDamage, in the second byte of a failure: stored data is damaged.
	flagDamage = 1
)

// ErrMalformed says that a stream is not what it should be: cut short, damaged
// on its way, or of another disk.
var ErrMalformed = errors.New("the stream of hashes is malformed")

// FailureError is what made the server end a stream early.
type FailureError struct {
	Text   string
	Damage bool // stored data is damaged
}

func (e *FailureError) Error() string {
	return "the server cannot tell the rest of the hashes: " + e.Text
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Blocks is how many blocks a disk of size bytes has.
func Blocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

func checkSize(size int64) error {
	if size < 0 || size > sizeMax {
		return fmt.Errorf("a disk of %d bytes: more than %d are not hashed", size, int64(sizeMax))
	}
	return nil
}

func header(size int64) []byte {
	b := append(make([]byte, 0, headerBytes), magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, BlockSize)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}
