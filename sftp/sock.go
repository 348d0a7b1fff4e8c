package sftp

import (
	"bufio"
	"net"
	"sync/atomic"
	"time"
)

// sock is a client's socket below SSH. It reads ahead, because the SSH library
// asks for each packet in two or three pieces, and knows when the client was
// last heard.
type sock struct {
	net.Conn
	in    *bufio.Reader
	heard atomic.Int64 // Unix nanoseconds of the last bytes
	got   atomic.Int64 // bytes
}

func newSock(nc net.Conn) *sock {
	s := &sock{Conn: nc}
	s.in = bufio.NewReaderSize(heardReader{s}, socketBuffer)
	s.heard.Store(time.Now().UnixNano())
	return s
}

func (s *sock) Read(p []byte) (int, error) { return s.in.Read(p) }

// hangUp tells the client that nothing more will come.
func (s *sock) hangUp() {
	if w, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

// silent is how long nothing has been heard.
func (s *sock) silent(now time.Time) time.Duration {
	return time.Duration(now.UnixNano() - s.heard.Load())
}

// heardReader is the socket with the time noted.
type heardReader struct{ s *sock }

func (r heardReader) Read(p []byte) (int, error) {
	n, err := r.s.Conn.Read(p)
	if n > 0 {
		r.s.heard.Store(time.Now().UnixNano())
		r.s.got.Add(int64(n))
	}
	return n, err
}
