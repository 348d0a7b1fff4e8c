package sftp

import (
	"bufio"
	"net"
	"sync/atomic"
	"time"
)

// sock is a client's socket below SSH. It reads ahead, because the SSH library
// asks for each packet in two or three pieces; it keeps the first piece of a
// packet that the library sends until it has the rest; and it knows when the
// client was last heard. Read and Write are the library's, which never calls one
// of them twice at once.
type sock struct {
	net.Conn
	in    *bufio.Reader
	out   frames
	kept  []byte       // of a packet that is not whole
	heard atomic.Int64 // Unix nanoseconds of the last bytes
	got   atomic.Int64 // bytes
	over  atomic.Bool  // nothing can be read any more
}

func newSock(nc net.Conn) *sock {
	s := &sock{Conn: nc}
	s.in = bufio.NewReaderSize(heardReader{s}, socketBuffer)
	s.heard.Store(time.Now().UnixNano())
	return s
}

func (s *sock) Read(p []byte) (int, error) { return s.in.Read(p) }

// Write says that all is well for what it keeps; an error comes with the rest.
func (s *sock) Write(p []byte) (int, error) {
	if !s.out.advance(p) && len(s.kept)+len(p) <= keptMax {
		s.kept = append(s.kept, p...)
		return len(p), nil
	}
	if len(s.kept) == 0 {
		return s.Conn.Write(p)
	}
	pieces := net.Buffers{s.kept, p}
	_, err := pieces.WriteTo(s.Conn) // one system call, if it can be
	s.kept = s.kept[:0]
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

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
	if err != nil {
		r.s.over.Store(true)
	}
	if n > 0 {
		r.s.heard.Store(time.Now().UnixNano())
		r.s.got.Add(int64(n))
	}
	return n, err
}
