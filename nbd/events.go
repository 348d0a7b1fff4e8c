package nbd

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Peer says who is at the other end of a connection.
type Peer struct {
	// ID numbers the connections of a server from 1.
	ID uint64
	// Network is "unix" or "tcp".
	Network string
	// Addr is the remote address; unix clients have none, "@" or "".
	Addr string
	// TLS is the negotiated version, "" without TLS.
	TLS string
	// Subject is the distinguished name of the verified client certificate.
	Subject string
}

// ConnEvent tells of one connection that chose an export.
type ConnEvent struct {
	Peer     Peer
	Export   string
	ReadOnly bool
	// Reason is nil in ConnOpen, and in ConnClose after DISC or a tidy end of
	// the client's stream.
	Reason error
	// Duration is the time since the export was chosen.
	Duration time.Duration
}

// RequestEvent tells of a request that was answered with an error.
type RequestEvent struct {
	Peer    Peer
	Export  string
	Command string
	Offset  uint64
	Length  uint32
	// Errno is the value the client got.
	Errno uint32
	Err   error
}

// Events are optional hooks, called on the goroutine of the connection they
// are about: they must be quick and must not call the server.
type Events struct {
	ConnOpen  func(ConnEvent)
	ConnClose func(ConnEvent)
	// HandshakeFailed is not called for a client that connects and goes away
	// without a word.
	HandshakeFailed func(Peer, error)
	// Refused is called for a connection above the limit.
	Refused func(Peer)
	// RequestError is called for errors of the device, not for requests the
	// client should not have made.
	RequestError func(RequestEvent)
	// AcceptError tells of a failed accept that is tried again.
	AcceptError func(error)
}

func (e Events) connOpen(ev ConnEvent) {
	if e.ConnOpen != nil {
		e.ConnOpen(ev)
	}
}

func (e Events) connClose(ev ConnEvent) {
	if e.ConnClose != nil {
		e.ConnClose(ev)
	}
}

func (e Events) handshakeFailed(p Peer, err error) {
	if e.HandshakeFailed != nil {
		e.HandshakeFailed(p, err)
	}
}

func (e Events) refused(p Peer) {
	if e.Refused != nil {
		e.Refused(p)
	}
}

func (e Events) requestError(ev RequestEvent) {
	if e.RequestError != nil {
		e.RequestError(ev)
	}
}

func (e Events) acceptError(err error) {
	if e.AcceptError != nil {
		e.AcceptError(err)
	}
}

func peerOf(id uint64, c net.Conn) Peer {
	p := Peer{ID: id, Network: c.LocalAddr().Network()}
	if a := c.RemoteAddr(); a != nil {
		p.Addr = a.String()
	}
	return p
}

// withTLS adds what the TLS handshake found out.
func (p Peer) withTLS(s tls.ConnectionState) Peer {
	p.TLS = tls.VersionName(s.Version)
	if len(s.VerifiedChains) > 0 {
		p.Subject = s.PeerCertificates[0].Subject.String()
	}
	return p
}

// String is for logs.
func (p Peer) String() string {
	s := fmt.Sprintf("%s:%s#%d", p.Network, p.Addr, p.ID)
	if p.Subject != "" {
		s += " (" + p.Subject + ")"
	}
	return s
}
