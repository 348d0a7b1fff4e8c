package nbd

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// past is a deadline that wakes a blocked read at once.
var past = time.Unix(1, 0)

// conn is one client's connection, from accept to close.
//
// Its goroutine negotiates, then reads requests. Each request runs on a
// goroutine of its own and the replies leave through out. Others touch a
// connection only by kill, drain, raiseFence and kick.
type conn struct {
	srv     *Server
	raw     net.Conn
	rw      net.Conn   // raw, or TLS over it
	sock    *tlsSocket // below TLS, or nil
	peer    Peer       // written by the connection's goroutine only
	tcp     bool
	remote  bool // the peer may be on another machine
	refused bool // above the connection limit: only told so

	in  stream
	out writer

	// ctx ends with kill and drain; it frees a reader that waits for a slot
	// or for memory.
	ctx    context.Context
	cancel context.CancelFunc
	// dismissed is closed when the connection has no device any more.
	dismissed chan struct{}

	mark         atomic.Pointer[fenceMark]
	wrote        atomic.Bool
	draining     atomic.Bool
	transmitting atomic.Bool
	ending       atomic.Bool // the replies still to come are the last ones

	reasonMu sync.Mutex // a leaf
	reason   error      // why the server ended the connection

	// The rest belongs to the connection's goroutine.
	got      int64     // bytes received when there is no TLS
	lastRead time.Time // when the last bytes arrived
	armed    time.Time // the read deadline set, zero for unknown
	ahead    int       // bytes worth reading before they are needed

	structured bool
	at         *admitted
	size       uint64

	free chan *request  // idle request slots
	made int            // slots made so far, at most Limits.InFlight
	work sync.WaitGroup // requests inside the device
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{
		srv:       s,
		raw:       nc,
		rw:        nc,
		peer:      peerOf(id, nc),
		dismissed: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.tcp, c.remote = tuneSocket(nc)
	return c
}

// tuneSocket sets socket options and tells where the peer is.
func tuneSocket(nc net.Conn) (tcp, remote bool) {
	// Errors only mean a slower peer, or one whose end is noticed later.
	switch k := nc.(type) {
	case *net.TCPConn:
		_ = k.SetNoDelay(true)
		_ = k.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		})
	case *net.UnixConn:
		_ = k.SetWriteBuffer(unixBuffer)
	}
	a, tcp := nc.RemoteAddr().(*net.TCPAddr)
	return tcp, tcp && !a.IP.IsLoopback()
}

// serve is the connection's goroutine.
func (c *conn) serve() {
	defer c.srv.forget(c)
	defer c.cancel()
	defer c.raw.Close()
	a, err := c.negotiate()
	if a == nil {
		close(c.dismissed)
		if err == nil {
			c.hangUp()
		}
		c.handshakeEnded(err)
		return
	}
	c.transmit(a)
}

func (c *conn) handshakeEnded(err error) {
	if c.refused {
		c.srv.events.refused(c.peer)
		return
	}
	if err != nil {
		c.srv.counters.handshakeFailures.Add(1)
		c.srv.events.handshakeFailed(c.peer, err)
	}
}

// setReason keeps the first reason.
func (c *conn) setReason(err error) {
	c.reasonMu.Lock()
	defer c.reasonMu.Unlock()
	if c.reason == nil {
		c.reason = err
	}
}

func (c *conn) reasonOr(err error) error {
	c.reasonMu.Lock()
	defer c.reasonMu.Unlock()
	if c.reason != nil {
		return c.reason
	}
	return err
}

// kill closes the socket. Requests inside the device finish unanswered.
func (c *conn) kill(reason error) {
	c.setReason(reason)
	c.cancel()
	c.raw.Close()
}

// drain makes the connection stop reading requests, answer those it has read
// and close.
func (c *conn) drain(reason error) {
	c.setReason(reason)
	c.draining.Store(true)
	c.cancel()
	if c.transmitting.Load() {
		c.boundWrites()
		c.kick()
		return
	}
	c.endHandshakeSoon()
}

// boundWrites gives the reply on its way, and each that follows, a deadline.
func (c *conn) boundWrites() {
	c.ending.Store(true)
	_ = c.raw.SetWriteDeadline(time.Now().Add(drainWrite))
}

// endHandshakeSoon lets a client in the handshake ask once more and hear that
// it cannot go on.
func (c *conn) endHandshakeSoon() {
	_ = c.raw.SetReadDeadline(time.Now().Add(shutdownTold))
}

// allowHandshake sets the deadline of the handshake. drain may have run just
// before, and its shorter one must stay.
func (c *conn) allowHandshake(d time.Duration) {
	_ = c.raw.SetDeadline(time.Now().Add(d))
	if c.draining.Load() {
		c.endHandshakeSoon()
	}
}

// kick wakes a blocked read.
func (c *conn) kick() { _ = c.raw.SetReadDeadline(past) }

// writeStuck says whether a reply has been on its way out for longer than d.
func (c *conn) writeStuck(d time.Duration) bool {
	since := c.out.since.Load()
	return since != 0 && time.Duration(time.Now().UnixNano()-since) > d
}

// hangUp tells the client that nothing more will come.
func (c *conn) hangUp() {
	for _, nc := range []net.Conn{c.rw, c.raw} {
		if w, ok := nc.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
	}
}

// lingerOn reads input away until the client has closed too or had its time.
func (c *conn) lingerOn() {
	_ = c.raw.SetReadDeadline(time.Now().Add(linger))
	for {
		if _, err := c.raw.Read(c.in.buf); err != nil {
			return
		}
	}
}
