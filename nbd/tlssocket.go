package nbd

import (
	"net"
	"sync"
)

// tlsSocket lies between TLS and the socket: crypto/tls reads and writes one
// record of at most 16 KiB at a time, here several share a system call.
type tlsSocket struct {
	net.Conn

	// Belongs to the reader.
	buf  []byte
	r, w int
	got  int64 // bytes taken from the socket

	mu   sync.Mutex // guards the rest; a leaf
	held bool
	out  []byte
}

func newTLSSocket(c net.Conn) *tlsSocket {
	return &tlsSocket{Conn: c, buf: make([]byte, tlsSocketBuffer)}
}

func (s *tlsSocket) Read(p []byte) (int, error) {
	if s.r == s.w {
		n, err := s.Conn.Read(s.buf)
		if err != nil {
			return 0, err
		}
		s.r, s.w = 0, n
		s.got += int64(n)
	}
	n := copy(p, s.buf[s.r:s.w])
	s.r += n
	return n, nil
}

// Write sends p, or keeps it for flush while writes are held.
func (s *tlsSocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return s.Conn.Write(p)
	}
	if len(s.out)+len(p) > tlsSocketBuffer {
		if err := s.flushLocked(); err != nil {
			return 0, err
		}
	}
	s.out = append(s.out, p...)
	return len(p), nil
}

// hold gathers the writes until flush.
func (s *tlsSocket) hold() {
	s.mu.Lock()
	s.held = true
	s.mu.Unlock()
}

func (s *tlsSocket) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	return s.flushLocked()
}

func (s *tlsSocket) flushLocked() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.Conn.Write(s.out)
	s.out = s.out[:0]
	return err
}
