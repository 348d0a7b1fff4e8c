package sftp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// conn is one client's connection, from accept to close.
//
//	accept → login ──accepted──→ channels, one session at a time ──→ end
//	           └──refused, deadline──────────────────────────────────→ closed
//
// Goroutines: serve (login, then channels), and once it has logged in watch,
// globals, and one each for a channel's requests, its session and the session's
// replies. serve ends last.
type conn struct {
	srv     *Server
	id      string
	address netip.Prefix
	sock    *sock
	counted string // in Server.users, by Server.mu

	// Written before the connection has logged in, by serve's goroutine.
	peer    Peer
	method  string // of the try under way
	lastTry error
	login   *Login
	since   time.Time
	ssh     *ssh.ServerConn

	quit    atomic.Bool   // no more requests shall be answered
	ended   chan struct{} // closed when all but serve's goroutine is over
	refused atomic.Int32
	pinging atomic.Bool

	lastRequest   atomic.Int64 // Unix nanoseconds; of the login before the first
	read, written atomic.Uint64
	handles       atomic.Int64

	mu      sync.Mutex // guards the rest; a leaf
	reason  error      // why the server ended the connection
	ready   bool       // logged in
	session *session
	channel ssh.Channel // the session's
	idleAt  time.Time   // since when there has been no session
	bye     sync.Once
}

func newConn(s *Server, nc net.Conn, id string) *conn {
	c := &conn{srv: s, id: id, address: addressOf(nc.RemoteAddr()), sock: newSock(nc), ended: make(chan struct{})}
	c.peer = Peer{ID: id}
	if a := nc.RemoteAddr(); a != nil {
		c.peer.Remote = a.String()
	}
	return c
}

// conn is what an Authenticator sees of it.
func (c *conn) conn() Conn { return Conn{ID: c.id, Remote: c.sock.RemoteAddr()} }

// serve is the connection's goroutine.
func (c *conn) serve() {
	defer c.srv.forget(c)
	defer c.sock.Close()
	channels, requests, err := c.handshake()
	if err != nil {
		c.loginFailed(err)
		return
	}
	full := c.srv.loggedIn(c, c.login.User)
	c.begin()
	var running sync.WaitGroup
	running.Go(c.watch)
	running.Go(func() { c.globals(requests) })
	c.channels(channels, full)
	c.setReason(lost(c.ssh.Wait()))
	close(c.ended)
	c.sock.Close()
	running.Wait()
	c.finish()
}

// handshake logs in, all of it before a deadline: the SSH library has none.
func (c *conn) handshake() (<-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	_ = c.sock.SetDeadline(time.Now().Add(c.srv.limits.LoginTimeout))
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-c.srv.draining:
			c.kill(ErrServerClosed)
		case <-stop:
		}
	}()
	sc, channels, requests, err := ssh.NewServerConn(c.sock, c.srv.auth.config(c))
	if err != nil {
		return nil, nil, err
	}
	_ = c.sock.SetDeadline(time.Time{})
	g, ok := sc.Permissions.ExtraData[grantedKey{}].(*granted)
	if !ok {
		sc.Close()
		return nil, nil, errNoLogin
	}
	c.ssh, c.login = sc, g.login
	if c.login.User == "" {
		login := *g.login
		login.User = sc.User()
		c.login = &login
	}
	c.peer.User, c.peer.Method, c.peer.Identity = printable(c.login.User), g.method, g.identity
	c.peer.Client = printable(string(sc.ClientVersion()))
	return channels, requests, nil
}

func (c *conn) loginFailed(err error) {
	_ = c.srv.loggedIn(c, "")
	c.srv.counters.handshakeFailures.Add(1)
	switch {
	case c.reasonOr(nil) != nil:
		err = c.reasonOr(nil)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errLoginTimeout
	case c.sock.got.Load() == 0:
		return // a port scan, or a load balancer's look
	}
	if c.lastTry != nil {
		err = errors.Join(err, c.lastTry)
	}
	c.srv.events.loginFailed(c.peer, err)
}

// begin makes a connection that has logged in known.
func (c *conn) begin() {
	c.since = time.Now()
	c.lastRequest.Store(c.since.UnixNano())
	c.srv.counters.count(&c.srv.counters.logins, c.peer.Method)
	c.mu.Lock()
	c.ready, c.idleAt = true, c.since
	c.mu.Unlock()
	c.srv.events.login(c.peer)
}

func (c *conn) finish() {
	err := c.reasonOr(nil)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if errors.Is(err, errDead) {
		c.srv.counters.dead.Add(1)
	}
	c.srv.events.end(EndEvent{
		Peer: c.peer, Reason: err, Duration: time.Since(c.since), Read: c.read.Load(), Written: c.written.Load(),
	})
}

// lost is why the SSH library gave a connection up, nil when the client meant it.
func lost(err error) error {
	if err == nil || errors.Is(err, io.EOF) || strings.HasPrefix(err.Error(), "ssh: disconnect, reason 11:") {
		return nil
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

// setReason keeps the first reason.
func (c *conn) setReason(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == nil {
		c.reason = err
	}
}

func (c *conn) reasonOr(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil {
		return c.reason
	}
	return err
}

// kill closes the socket. A request inside the tree finishes unanswered.
func (c *conn) kill(reason error) {
	c.setReason(reason)
	c.quit.Store(true)
	c.sock.Close()
}

// refuse tells of something the client must not have, and ends a connection
// that keeps asking.
func (c *conn) refuse(what, name string, reason error) {
	c.srv.refuse(RefusedEvent{Peer: c.peer, What: what, Name: printable(name), Reason: reason})
	if c.refused.Add(1) > refusalsMax {
		c.kill(errRefusals)
	}
}

func (c *conn) info() (ConnInfo, bool) {
	c.mu.Lock()
	ready, session := c.ready, c.session != nil
	c.mu.Unlock()
	if !ready {
		return ConnInfo{}, false
	}
	return ConnInfo{
		Peer: c.peer, Since: c.since, LastRequest: time.Unix(0, c.lastRequest.Load()),
		ReadBytes: c.read.Load(), WrittenBytes: c.written.Load(), Handles: int(c.handles.Load()), Session: session,
	}, true
}
