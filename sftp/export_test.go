package sftp

import (
	"io"
	"net"
	"time"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// Traversal makes names for tests over the wire.
var Traversal = traversal

// ParseAttrs is the reader of ATTRS.
func ParseAttrs(b []byte) (sshfx.Attributes, error) { return parseAttrs(sshfx.NewBuffer(b)) }

// ServeSession runs a session without SSH around it.
func (s *Server) ServeSession(rw io.ReadWriter, tree Tree) error {
	c := newConn(s, MemoryConn{Reader: rw, Writer: rw}, "0")
	return newSession(c, rw, tree).run()
}

// MemoryConn is a connection of a reader and a writer.
type MemoryConn struct {
	io.Reader
	io.Writer
}

func (MemoryConn) Close() error                     { return nil }
func (MemoryConn) LocalAddr() net.Addr              { return nil }
func (MemoryConn) RemoteAddr() net.Addr             { return nil }
func (MemoryConn) SetDeadline(time.Time) error      { return nil }
func (MemoryConn) SetReadDeadline(time.Time) error  { return nil }
func (MemoryConn) SetWriteDeadline(time.Time) error { return nil }
