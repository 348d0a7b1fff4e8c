package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options configure a Server.
type Options struct {
	// Exports finds what is served. Required.
	Exports Exports
	// TLS enables STARTTLS. The caller sets certificates, ClientCAs and
	// ClientAuth; versions below 1.2 are never offered. nil means no TLS.
	TLS *tls.Config
	// ForceTLS refuses everything but STARTTLS and ABORT in the clear, on TCP
	// connections. Unix sockets are guarded by their file mode; there STARTTLS
	// is offered and never demanded.
	ForceTLS bool
	Limits   Limits
	Events   Events
}

// Server serves exports to NBD clients. Its methods may be called
// concurrently.
type Server struct {
	exports  Exports
	tls      *tls.Config
	forceTLS bool
	limits   Limits
	events   Events
	counters counters
	arena    *arena
	// ctx is what Exports see; it ends when the server has been shut down.
	ctx  context.Context
	stop context.CancelFunc
	// draining is closed when Shutdown begins.
	draining chan struct{}

	mu        sync.Mutex // guards the rest; taken after export.admission
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	refusing  int
	open      map[string]*export
	nextID    uint64
	running   sync.WaitGroup // one per connection, refused ones too
}

// New makes a server that serves nothing until Serve is called. It starts no
// goroutine.
func New(o Options) (*Server, error) {
	if o.Exports == nil {
		return nil, errors.New("nbd: Options.Exports is nil")
	}
	if o.ForceTLS && o.TLS == nil {
		return nil, errors.New("nbd: Options.ForceTLS without Options.TLS would refuse every client")
	}
	limits := o.Limits.withDefaults()
	if err := limits.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		exports:   o.Exports,
		tls:       hardened(o.TLS),
		forceTLS:  o.ForceTLS,
		limits:    limits,
		events:    o.Events,
		draining:  make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		open:      make(map[string]*export),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.arena = newArena(limits.MemoryBytes, limits.StallTimeout, s.dropHoarders)
	return s, nil
}

// hardened is the caller's TLS configuration with our floor under it.
func hardened(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.DynamicRecordSizingDisabled = true
	return c
}

// Serve accepts connections until ctx ends (then it returns nil and leaves the
// connections alone) or Shutdown begins (then ErrServerClosed). It closes the
// listener. It may be called for several listeners at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if !s.track(ln) {
		ln.Close()
		return ErrServerClosed
	}
	defer s.untrack(ln)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var delay time.Duration
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			delay = 0
			s.start(c)
		case s.isClosed():
			return ErrServerClosed
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("nbd: listener %s closed by somebody else: %w", ln.Addr(), err)
		default:
			s.events.acceptError(err)
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			pause(ctx, s.draining, delay)
		}
	}
}

// pause waits unless one of the two ends first.
func pause(ctx context.Context, stop <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-stop:
	}
}

func (s *Server) track(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.listeners[ln] = struct{}{}
	}
	return !s.closed
}

func (s *Server) untrack(ln net.Listener) {
	ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// start runs a connection on its own goroutine.
func (s *Server) start(nc net.Conn) {
	if c := s.adopt(nc); c != nil {
		go c.serve()
	}
}

// ServeConn serves one connection made by other means and returns when it has
// ended. It closes nc.
func (s *Server) ServeConn(nc net.Conn) {
	if c := s.adopt(nc); c != nil {
		c.serve()
	}
}

// adopt registers a new connection; nil means it was closed on the spot.
func (s *Server) adopt(nc net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := len(s.conns)-s.refusing >= s.limits.Connections
	if refuse {
		s.counters.refused.Add(1)
	}
	if s.closed || refuse && s.refusing >= refusalLimit {
		nc.Close()
		return nil
	}
	s.nextID++
	s.counters.total.Add(1)
	c := newConn(s, nc, s.nextID)
	s.running.Add(1)
	s.conns[c] = struct{}{}
	if refuse {
		c.refused = true
		s.refusing++
	}
	return c
}

// forget undoes adopt.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	if c.refused {
		s.refusing--
	}
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// Shutdown stops accepting, tells clients in the handshake, lets requests that
// are being worked on finish and answers them, and closes all connections.
// Requests that have not been read are left unanswered, so that a client with
// a reconnect delay sends them again. When ctx ends first, sockets are closed
// without answers and its error is returned; requests may then still be inside
// a Device, which nothing can interrupt, and the Device is closed after them.
func (s *Server) Shutdown(ctx context.Context) error {
	conns, first := s.beginShutdown()
	if first {
		defer s.arena.close()
		defer s.stop()
	}
	for _, c := range conns {
		c.drain(ErrServerClosed)
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.allConns() {
		c.kill(ErrServerClosed)
	}
	return ctx.Err()
}

func (s *Server) beginShutdown() (conns []*conn, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = !s.closed
	if first {
		s.closed = true
		close(s.draining)
		for ln := range s.listeners {
			ln.Close()
		}
	}
	return s.connsLocked(), first
}

func (s *Server) allConns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connsLocked()
}

func (s *Server) connsLocked() []*conn {
	l := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		l = append(l, c)
	}
	return l
}

// dropHoarders is called while somebody waits for memory: it closes
// connections whose client leaves replies unread.
func (s *Server) dropHoarders() {
	for _, c := range s.allConns() {
		if c.writeStuck(s.limits.StallTimeout) {
			c.kill(errHoarding)
		}
	}
}
