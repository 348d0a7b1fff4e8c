package catalog

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// Values are made of unsigned and zig-zag varints (encoding/binary), strings
// as length and bytes, and hashes as 32 bytes.

var errDecode = errors.New("value cannot be decoded")

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendTime(b []byte, t time.Time) []byte { return binary.AppendVarint(b, t.UnixMilli()) }

// appendOptional encodes the zero time as 0.
func appendOptional(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return appendTime(b, t)
}

// decoder reads a value. After its first failure every read returns zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 { // one encoding per value
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// size reads a number that must not exceed limit.
func (d *decoder) size(limit uint64) uint64 {
	v := d.uvarint()
	if v > limit {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) int64() int64 { return int64(d.size(1<<63 - 1)) }

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string(limit uint64) string { return string(d.bytes(d.size(limit))) }

func (d *decoder) time() time.Time { return time.UnixMilli(d.varint()).UTC() }

// optional reads what appendOptional wrote.
func (d *decoder) optional() time.Time {
	ms := d.varint()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func (d *decoder) hash() (h dedup.Hash) {
	copy(h[:], d.bytes(uint64(len(h))))
	return h
}

// end fails unless everything was read.
func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return errDecode
	}
	return nil
}
