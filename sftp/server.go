package sftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

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
	// Now tells the time of certificates and listings. nil: time.Now.
	Now func() time.Time
}

// Server serves trees to SFTP clients. Its methods may be called concurrently.
type Server struct {
	auth     authority
	limits   Limits
	events   Events
	now      func() time.Time
	counters counters
	// draining is closed when Shutdown begins.
	draining chan struct{}

	mu        sync.Mutex // guards the rest
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	loggingIn int // of conns
	users     map[string]int
	addresses addresses
	nextID    uint64
	running   sync.WaitGroup // one per connection
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
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{
		auth:      newAuthority(o),
		limits:    limits,
		events:    o.Events,
		now:       o.Now,
		draining:  make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		users:     make(map[string]int),
		addresses: newAddresses(limits),
	}, nil
}

// Serve accepts connections until Shutdown begins (then it returns
// ErrServerClosed) or ln is closed. It closes ln. It may be called for several
// listeners at once.
func (s *Server) Serve(ln net.Listener) error {
	if !s.track(ln) {
		ln.Close()
		return ErrServerClosed
	}
	defer s.untrack(ln)
	var delay time.Duration
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			delay = 0
			s.start(nc)
		case s.isClosed():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("sftp: listener %s closed: %w", ln.Addr(), err)
		default:
			s.events.acceptError(err)
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.pause(delay)
		}
	}
}

// pause waits unless the server is shut down first.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.draining:
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

// adopt registers a new connection; nil means it was closed on the spot. That
// costs us nothing but an event, so nothing is said to who is refused.
func (s *Server) adopt(nc net.Conn) *conn {
	s.mu.Lock()
	s.nextID++
	c := newConn(s, nc, strconv.FormatUint(s.nextID, 10))
	err := s.admit(c)
	s.mu.Unlock()
	if err == nil {
		s.counters.total.Add(1)
		return c
	}
	nc.Close()
	var r refusal
	if errors.As(err, &r) {
		s.refuse(RefusedEvent{Peer: c.peer, What: RefusedConnection, Name: r.name, Reason: err})
	}
	return nil
}

// admit registers c or says why not. Caller holds mu.
func (s *Server) admit(c *conn) error {
	switch {
	case s.closed:
		return ErrServerClosed
	case len(s.conns) >= s.limits.Connections:
		return errFull
	case s.loggingIn >= s.limits.Logins:
		return errLoginsFull
	}
	if err := s.addresses.admit(c.address, time.Now()); err != nil {
		return err
	}
	s.running.Add(1)
	s.conns[c] = struct{}{}
	s.loggingIn++
	return nil
}

// loggedIn notes the end of a login, a good one when user is not empty. The
// error is about the user's limit.
func (s *Server) loggedIn(c *conn, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loggingIn--
	s.addresses.loggedIn(c.address, user != "", time.Now())
	if user == "" {
		return nil
	}
	if s.users[user] >= s.limits.ConnectionsPerUser {
		return errUserFull
	}
	s.users[user]++
	c.counted = user
	return nil
}

// forget undoes adopt.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.addresses.leave(c.address)
	if c.counted != "" {
		if s.users[c.counted]--; s.users[c.counted] == 0 {
			delete(s.users, c.counted)
		}
	}
	s.mu.Unlock()
	s.running.Done()
}

func (s *Server) refuse(ev RefusedEvent) {
	s.counters.count(&s.counters.refused, ev.What)
	s.events.refused(ev)
}

// Shutdown stops accepting, lets the request that each session is working on
// finish and answers it, tells clients why, and closes connections, files and
// trees. When ctx ends first, sockets are closed without a word and its error is
// returned; requests may then still be inside a Tree, which nothing can
// interrupt, and it is closed after them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.beginShutdown()
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
	for _, c := range s.all() {
		c.kill(ErrServerClosed)
	}
	return ctx.Err()
}

func (s *Server) beginShutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.draining)
	for ln := range s.listeners {
		ln.Close()
	}
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		l = append(l, c)
	}
	return l
}
