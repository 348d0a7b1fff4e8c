package hashstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
)

// readBuffer gathers two records of the largest size.
const readBuffer = 64 << 10

// Run is neighbouring blocks.
type Run struct {
	First  int64  // number of the first
	Count  int64  // how many
	Hashes []Hash // of each; nil: they are zeros
}

// Reader reads a stream. Nothing in it is trusted; memory is 64 KiB and one
// record.
type Reader struct {
	r     *bufio.Reader
	next  int64 // block
	total int64
	sum   uint32
	buf   []byte
	list  []Hash
	err   error // what every further call returns
}

// NewReader reads the head of the stream of a disk of size bytes. A stream of
// another size, and whatever else is wrong with it, is an error that wraps
// ErrMalformed.
func NewReader(r io.Reader, size int64) (*Reader, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	s := &Reader{r: bufio.NewReaderSize(r, readBuffer), total: Blocks(size), buf: make([]byte, recordBytes+RecordMax*len(Hash{})+sumBytes)}
	h := s.buf[:headerBytes]
	if err := s.read(h); err != nil {
		return nil, err
	}
	sum := binary.LittleEndian.Uint32(h[24:])
	switch {
	case string(h[:8]) != magic:
		return nil, fmt.Errorf("%w: it begins with %q", ErrMalformed, h[:8])
	case sum != crc32.Checksum(h[:24], castagnoli):
		return nil, fmt.Errorf("%w: its head is damaged", ErrMalformed)
	case binary.LittleEndian.Uint16(h[8:]) != version || binary.LittleEndian.Uint16(h[10:]) != 0 || binary.LittleEndian.Uint32(h[12:]) != BlockSize:
		return nil, fmt.Errorf("%w: version %d with blocks of %d bytes is not known here", ErrMalformed, binary.LittleEndian.Uint16(h[8:]), binary.LittleEndian.Uint32(h[12:]))
	case binary.LittleEndian.Uint64(h[16:]) != uint64(size):
		return nil, fmt.Errorf("%w: it is of a disk of %d bytes, not %d", ErrMalformed, binary.LittleEndian.Uint64(h[16:]), size)
	}
	s.sum = sum
	return s, nil
}

// Next returns the next blocks; io.EOF when the stream told all of them and its
// end, a *FailureError when the server could not. Hashes are valid until the
// next call.
func (s *Reader) Next() (Run, error) {
	if s.err != nil {
		return Run{}, s.err
	}
	run, err := s.record()
	s.err = err
	return run, err
}

func (s *Reader) record() (Run, error) {
	h := s.buf[:recordBytes]
	if err := s.read(h); err != nil {
		return Run{}, err
	}
	kind, flags, count := h[0], h[1], binary.LittleEndian.Uint32(h[4:])
	size, ok := payload(kind, int64(count), s.total-s.next)
	if !ok || flags&^flagDamage != 0 || flags != 0 && kind != typeFailure || h[2]|h[3] != 0 {
		return Run{}, fmt.Errorf("%w: a record %x after block %d of %d", ErrMalformed, h, s.next, s.total)
	}
	b := s.buf[:recordBytes+size+sumBytes]
	if err := s.read(b[recordBytes:]); err != nil {
		return Run{}, err
	}
	body := b[:recordBytes+size]
	s.sum = crc32.Update(s.sum, castagnoli, body)
	if binary.LittleEndian.Uint32(b[len(body):]) != s.sum {
		return Run{}, fmt.Errorf("%w: a checksum does not match after block %d of %d", ErrMalformed, s.next, s.total)
	}
	switch kind {
	case typeEnd:
		return Run{}, s.last()
	case typeFailure:
		quoted := strconv.QuoteToGraphic(string(body[recordBytes:]))
		return Run{}, &FailureError{Text: quoted[1 : len(quoted)-1], Damage: flags == flagDamage}
	}
	run := Run{First: s.next, Count: int64(count)}
	if kind == typeHashes {
		run.Hashes = s.hashes(body[recordBytes:])
	}
	s.next += run.Count
	return run, nil
}

// payload is how long a record's payload is, if there may be such a record when
// left blocks are missing.
func payload(kind byte, count, left int64) (int, bool) {
	switch kind {
	case typeHashes:
		return int(count) * len(Hash{}), count >= 1 && count <= RecordMax && count <= left
	case typeZeros:
		return 0, count >= 1 && count <= left
	case typeEnd:
		return 0, count == 0 && left == 0
	case typeFailure:
		return int(count), count >= 1 && count <= failureMax
	}
	return 0, false
}

func (s *Reader) hashes(b []byte) []Hash {
	s.list = s.list[:0]
	for ; len(b) > 0; b = b[len(Hash{}):] {
		s.list = append(s.list, Hash(b[:len(Hash{})]))
	}
	return s.list
}

// last makes sure that nothing follows.
func (s *Reader) last() error {
	_, err := s.r.ReadByte()
	if err == nil {
		return fmt.Errorf("%w: it goes on after its end", ErrMalformed)
	}
	return err
}

func (s *Reader) read(p []byte) error {
	_, err := io.ReadFull(s.r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after block %d of %d", ErrMalformed, s.next, s.total)
	}
	return err
}
