package nbd

import "io"

// stream buffers what a client sends, so that many small requests cost one
// system call. Large payloads are read past the buffer, into their own.
type stream struct {
	buf  []byte
	r, w int
	// more reads at least one byte into dst, or returns an error. need is how
	// many are wanted now; mid tells that a message has begun.
	more func(dst []byte, need int, mid bool) (int, error)
}

func (s *stream) buffered() int { return s.w - s.r }

// need returns the next n bytes, at most the buffer's size, without consuming
// them. They are valid until the next call. The error is io.EOF only when the
// client ended between messages.
func (s *stream) need(n int) ([]byte, error) {
	for s.buffered() < n {
		s.makeRoom(n)
		k, err := s.more(s.buf[s.w:], n-s.buffered(), s.buffered() > 0)
		if err != nil {
			return nil, s.midway(err, s.buffered() > 0)
		}
		s.w += k
	}
	return s.buf[s.r : s.r+n], nil
}

func (s *stream) makeRoom(n int) {
	if s.r == s.w {
		s.r, s.w = 0, 0
	}
	if s.r+n > len(s.buf) {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
}

// skip consumes n bytes that need has returned.
func (s *stream) skip(n int) { s.r += n }

// full fills dst with a message's payload.
func (s *stream) full(dst []byte) error {
	k := copy(dst, s.buf[s.r:s.w])
	s.r += k
	for dst = dst[k:]; len(dst) > 0; dst = dst[k:] {
		var err error
		if k, err = s.more(dst, len(dst), true); err != nil {
			return s.midway(err, true)
		}
	}
	return nil
}

// discard reads over n bytes of payload.
func (s *stream) discard(n int) error {
	for n > 0 {
		if s.buffered() == 0 {
			s.r, s.w = 0, 0
			k, err := s.more(s.buf, min(n, len(s.buf)), true)
			if err != nil {
				return s.midway(err, true)
			}
			s.w = k
		}
		k := min(n, s.buffered())
		s.r += k
		n -= k
	}
	return nil
}

func (s *stream) midway(err error, mid bool) error {
	if err == io.EOF && mid {
		return io.ErrUnexpectedEOF
	}
	return err
}
