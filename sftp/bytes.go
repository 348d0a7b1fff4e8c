package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// dataHead is what precedes the bytes of a DATA reply.
const dataHead = 4 + 1 + 4 + 4

// cutString takes a string off the front: length (4) | bytes.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}

// read answers READ; it reads straight into the reply:
//
//	C  handle (4+8) | offset (8) | length (4)
//	S  length (4) | 103 (1) | id (4) | length (4) | bytes
//
// A longer length than dataMax is answered with dataMax.
func (s *session) read(body []byte) {
	id, rest, ok := cutString(body)
	if !ok || len(rest) < 12 {
		s.malformed()
		return
	}
	h, ok := s.lookup(s.handles.file(id))
	if !ok {
		return
	}
	off := binary.BigEndian.Uint64(rest)
	n := int(min(binary.BigEndian.Uint32(rest[8:]), dataMax))
	switch {
	case !h.flags.Read:
		s.status(fmt.Errorf("%w: %s is open for writing only", fs.ErrPermission, h.name))
		return
	case off > math.MaxInt64-uint64(n):
		s.status(io.EOF)
		return
	}
	s.out.room(dataHead + n)
	start := len(s.out.cur)
	b := s.out.cur[start : start+dataHead+n]
	got, err := h.file.ReadAt(b[dataHead:], int64(off))
	if got == 0 && err == nil {
		err = io.EOF
	}
	if got == 0 || err != nil && !errors.Is(err, io.EOF) {
		s.status(err)
		return
	}
	binary.BigEndian.PutUint32(b, uint32(dataHead-4+got))
	b[4] = byte(sshfx.PacketTypeData)
	binary.BigEndian.PutUint32(b[5:], s.id)
	binary.BigEndian.PutUint32(b[9:], uint32(got))
	s.out.cur = s.out.cur[:start+dataHead+got]
	s.c.read.Add(uint64(got))
	s.c.srv.counters.read.Add(uint64(got))
}

// write answers WRITE, whose bytes lie in the input's buffer:
//
//	C  handle (4+8) | offset (8) | length (4) | bytes
func (s *session) write(body []byte) {
	id, rest, ok := cutString(body)
	if !ok || len(rest) < 8 {
		s.malformed()
		return
	}
	data, _, ok := cutString(rest[8:])
	if !ok {
		s.malformed()
		return
	}
	h, ok := s.lookup(s.handles.file(id))
	if !ok {
		return
	}
	off := binary.BigEndian.Uint64(rest)
	switch {
	case !h.flags.Write:
		s.status(fmt.Errorf("%w: %s is open for reading only", fs.ErrPermission, h.name))
		return
	case off > math.MaxInt64-uint64(len(data)):
		s.status(fmt.Errorf("%w: a write at byte %d", fs.ErrInvalid, off))
		return
	case len(data) == 0:
		s.status(nil)
		return
	}
	n, err := h.file.WriteAt(data, int64(off))
	s.status(err)
	s.c.written.Add(uint64(n))
	s.c.srv.counters.written.Add(uint64(n))
}
