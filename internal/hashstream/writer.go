package hashstream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// Writer writes a stream, a call of Hashes or Zeros after the other. After an
// error it only returns that error.
type Writer struct {
	w    io.Writer
	left int64 // blocks
	sum  uint32
	buf  []byte
	err  error
}

// NewWriter begins the stream of a disk of size bytes. Each record is one Write.
func NewWriter(w io.Writer, size int64) (*Writer, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	s := &Writer{w: w, left: Blocks(size), buf: make([]byte, 0, recordBytes+RecordMax*len(Hash{})+sumBytes)}
	h := header(size)
	s.sum = crc32.Checksum(h[:headerBytes-sumBytes], castagnoli)
	_, s.err = w.Write(h)
	return s, s.err
}

// Hashes tells the next blocks, at most RecordMax.
func (s *Writer) Hashes(list []Hash) error {
	if len(list) == 0 || len(list) > RecordMax || int64(len(list)) > s.left {
		return s.misuse(int64(len(list)))
	}
	s.begin(typeHashes, 0, uint32(len(list)))
	for i := range list {
		s.buf = append(s.buf, list[i][:]...)
	}
	s.left -= int64(len(list))
	return s.end()
}

// Zeros tells that the next n blocks are zeros.
func (s *Writer) Zeros(n int64) error {
	if n < 1 || n > s.left {
		return s.misuse(n)
	}
	for n > 0 {
		part := min(n, math.MaxUint32)
		s.begin(typeZeros, 0, uint32(part))
		if err := s.end(); err != nil {
			return err
		}
		n, s.left = n-part, s.left-part
	}
	return nil
}

// End completes the stream; every block must have been told.
func (s *Writer) End() error {
	if s.left > 0 {
		return s.misuse(0)
	}
	s.begin(typeEnd, 0, 0)
	return s.end()
}

// Fail ends the stream where it is, and tells the reader why.
func (s *Writer) Fail(f FailureError) error {
	text := f.Text[:min(len(f.Text), failureMax)]
	if text == "" {
		text = "no reason is given"
	}
	flags := byte(0)
	if f.Damage {
		flags = flagDamage
	}
	s.begin(typeFailure, flags, uint32(len(text)))
	s.buf = append(s.buf, text...)
	return s.end()
}

func (s *Writer) misuse(n int64) error {
	if s.err == nil {
		s.err = fmt.Errorf("%d more blocks for a stream that wants %d", n, s.left)
	}
	return s.err
}

func (s *Writer) begin(kind, flags byte, count uint32) {
	s.buf = append(s.buf[:0], kind, flags, 0, 0)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, count)
}

func (s *Writer) end() error {
	if s.err != nil {
		return s.err
	}
	s.sum = crc32.Update(s.sum, castagnoli, s.buf)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, s.sum)
	_, s.err = s.w.Write(s.buf)
	return s.err
}
