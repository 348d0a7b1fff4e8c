package metalog

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// scanEnd is where the whole transactions of a file end, and why.
type scanEnd struct {
	next   uint64 // sequence number after the last whole transaction
	offset int64  // end of that transaction
	size   int64  // of the file
	last   span   // the last whole transaction; empty if there is none

	// damage is set when what follows offset is not a whole transaction.
	damage *DamageError
	// later says that a record of a later transaction follows the damage.
	later bool
}

// span is one transaction's place in a file.
type span struct {
	first, next uint64 // sequence numbers [first, next)
	start, end  int64  // bytes
}

// scanner reads the records of one file in order.
type scanner struct {
	path string
	file vfs.File
	salt [8]byte
	size int64
	off  int64
	in   *bufio.Reader
	head [recordHeaderSize]byte
	buf  []byte
}

func newScanner(path string, f vfs.File, salt [8]byte) (*scanner, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &scanner{path: path, file: f, salt: salt, size: info.Size()}
	s.seek(headerSize)
	return s, nil
}

func (s *scanner) seek(off int64) {
	s.off = off
	s.in = bufio.NewReaderSize(io.NewSectionReader(s.file, off, s.size-off), int(min(readBuffer, max(0, s.size-off))))
}

// record reads the record at s.off. A nil payload with a reason is damage; the
// payload is valid until the next call.
func (s *scanner) record() (h recordHeader, payload []byte, reason string, err error) {
	if s.size-s.off < recordOverhead {
		return h, nil, "the file ends within a record", nil
	}
	if _, err := io.ReadFull(s.in, s.head[:]); err != nil {
		return h, nil, "", s.readError(err)
	}
	h, crc, ok := decodeRecordHeader(s.head[:], &s.salt)
	switch {
	case !ok:
		return h, nil, "not a record header", nil
	case h.length > MaxPayload || int64(h.length) > s.size-s.off-recordOverhead:
		return h, nil, "the record reaches past the end of the file", nil
	}
	if payload, err = s.payload(int(h.length)); err != nil {
		return h, nil, "", err
	}
	body, tail := payload[:h.length], payload[h.length:]
	if crc32.Update(crc, castagnoli, body) != le32(tail) {
		return h, nil, "a record's checksum is wrong", nil
	}
	s.off += recordOverhead + int64(h.length)
	return h, body, "", nil
}

// payload reads n bytes and the checksum after them.
func (s *scanner) payload(n int) ([]byte, error) {
	if cap(s.buf) < n+4 {
		s.buf = make([]byte, n+4)
	}
	b := s.buf[:n+4]
	if _, err := io.ReadFull(s.in, b); err != nil {
		return nil, s.readError(err)
	}
	return b, nil
}

func (s *scanner) readError(err error) error {
	return fmt.Errorf("read metadata log %s near byte %d: %w", s.path, s.off, err)
}

// run reads transactions from sequence number next on, until the file ends,
// stop is reached or something is not valid. Every record that is not a commit
// record goes to visit as it is read, before it is known whether its
// transaction is whole; every commit record to whole.
func (s *scanner) run(next, stop uint64, visit func(recordHeader, []byte) error, whole func(span) error) (scanEnd, error) {
	end := scanEnd{next: next, offset: s.off, size: s.size}
	for end.next < stop && s.off < s.size {
		t, reason, err := s.transaction(end.next, visit)
		if err != nil {
			return end, err
		}
		if reason != "" {
			end.damage = &DamageError{File: s.path, Offset: s.off, Reason: reason}
			end.later, err = s.laterThan(end.next)
			return end, err
		}
		end.next, end.offset, end.last = t.next, t.end, t
		if err := whole(t); err != nil {
			return end, err
		}
	}
	return end, nil
}

// transaction reads one transaction; a reason says why it is not whole.
func (s *scanner) transaction(first uint64, visit func(recordHeader, []byte) error) (t span, reason string, err error) {
	t = span{first: first, start: s.off}
	d := newDigest()
	for seq := first; ; seq++ {
		at := s.off
		h, payload, reason, err := s.record()
		if err != nil || reason != "" {
			return t, reason, err
		}
		if h.seq != seq || h.txn != first {
			s.seek(at)
			return t, fmt.Sprintf("record %d of transaction %d where %d of %d was due", h.seq, h.txn, seq, first), nil
		}
		if h.flags != 0 {
			return t, "", fmt.Errorf("metadata log %s, byte %d: %w (record flags %#x)", s.path, at, ErrNewer, h.flags)
		}
		if h.typ == typeCommit {
			if !bytes.Equal(payload, d.commit()) {
				s.seek(at)
				return t, "the commit record does not fit the records before it", nil
			}
			t.next, t.end = seq+1, s.off
			return t, "", nil
		}
		d.add(s.head[4:28], payload)
		if err := visit(h, payload); err != nil {
			return t, "", err
		}
	}
}

// laterThan looks for the header of a record of a transaction after the one
// that begins at txn, anywhere behind s.off. One transaction is synced before
// the next is written, so there being one proves that what is at s.off was
// whole once.
func (s *scanner) laterThan(txn uint64) (bool, error) {
	buf := make([]byte, min(readBuffer, s.size))
	for off := s.off + 1; off+recordHeaderSize <= s.size; off += readBuffer - recordHeaderSize + 1 {
		n, err := s.file.ReadAt(buf[:min(int64(len(buf)), s.size-off)], off)
		if err != nil && err != io.EOF {
			return false, s.readError(err)
		}
		if s.laterIn(buf[:n], txn) {
			return true, nil
		}
	}
	return false, nil
}

var recordMagicBytes = []byte("SRMR")

func (s *scanner) laterIn(b []byte, txn uint64) bool {
	for {
		i := bytes.Index(b, recordMagicBytes)
		if i < 0 {
			return false
		}
		if h, _, ok := decodeRecordHeader(b[i:], &s.salt); ok && h.txn > txn {
			return true
		}
		b = b[i+1:]
	}
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
