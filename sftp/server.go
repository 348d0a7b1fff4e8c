package sftp

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrServerClosed is returned by Serve after Shutdown has begun.
var ErrServerClosed = errors.New("sftp: server closed")

// Options configure a Server.
type Options struct {
	// HostKey proves who the server is. Required.
	HostKey ssh.Signer
	// Auth decides who may log in. Required.
	Auth Authenticator
	// TrustedCAs sign user certificates. None: certificates are refused.
	TrustedCAs []ssh.PublicKey
	// Principals are the names of which a user's certificate must bear one. nil:
	// the user's own.
	Principals func(user string) []string
	// Passwords offers the method "password".
	Passwords bool
	Limits    Limits
	Events    Events
	// Now tells the time of certificates. nil: time.Now.
	Now func() time.Time
}

// Server serves trees to SFTP clients. Its methods may be called concurrently.
type Server struct {
	limits Limits
	events Events
}

// New makes a server that serves nothing until Serve is called. It starts no
// goroutine.
func New(o Options) (*Server, error) {
	if o.HostKey == nil || o.Auth == nil {
		return nil, errors.New("sftp: Options needs a HostKey and an Auth")
	}
	limits := o.Limits.withDefaults()
	if err := limits.validate(); err != nil {
		return nil, err
	}
	return &Server{limits: limits, events: o.Events}, nil
}

var errUnfinished = errors.New("sftp: unfinished")

// Serve accepts connections until Shutdown begins (then it returns
// ErrServerClosed) or ln is closed. It closes ln. It may be called for several
// listeners at once.
func (s *Server) Serve(ln net.Listener) error { ln.Close(); return errUnfinished }

// ServeConn serves one connection made by other means and returns when it has
// ended. It closes nc.
func (s *Server) ServeConn(nc net.Conn) { nc.Close() }

// Shutdown stops accepting, lets the request that each session is working on
// finish and answers it, tells clients why, and closes connections, files and
// trees. When ctx ends first, sockets are closed without a word and its error is
// returned; requests may then still be inside a Tree, which nothing can
// interrupt, and it is closed after them.
func (s *Server) Shutdown(ctx context.Context) error { return nil }

// Stats reads the counters; they go on counting meanwhile.
func (s *Server) Stats() Stats { return Stats{} }

// Connections lists the connections that have logged in, oldest first.
func (s *Server) Connections() []ConnInfo { return nil }
