package nbd

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errBoundary sends the request loop back to look at the fence.
var errBoundary = errors.New("nbd: at a request boundary")

// fenceMark is a moment in a connection's stream: what had arrived when it was
// raised has been read and carried out once it is reached.
type fenceMark struct {
	reached chan struct{}

	// The rest belongs to the goroutine of the connection.
	begun   bool
	settled bool
	target  int64     // received bytes to get to
	until   time.Time // when a request begun must be complete
}

// raiseFence asks the connection for a moment of rest.
func (c *conn) raiseFence() *fenceMark {
	m := &fenceMark{reached: make(chan struct{})}
	c.mark.Store(m)
	c.kick()
	return m
}

// approach is called between two requests while a fence is up. It returns
// after the mark has been reached, or when there is more to read first.
func (c *conn) approach(m *fenceMark) {
	m.until = time.Time{}
	if !m.begun {
		m.begun = true
		m.target = c.received() + unread(c.raw)
	}
	if !c.caughtUp(m) {
		return
	}
	c.work.Wait()
	if c.tcp && !m.settled {
		m.settled = true
		time.Sleep(fenceSettle)
		m.target = c.received() + unread(c.raw)
		if !c.caughtUp(m) {
			return
		}
	}
	c.mark.CompareAndSwap(m, nil)
	close(m.reached)
}

// caughtUp says whether all bytes up to the target have been used. Between the
// socket and us TLS may hold some; they are fetched into the stream.
func (c *conn) caughtUp(m *fenceMark) bool {
	if c.received() < m.target || c.in.buffered() > 0 {
		return false
	}
	if c.sock == nil {
		return true
	}
	c.armed = time.Time{}
	_ = c.raw.SetReadDeadline(past)
	n, _ := c.rw.Read(c.in.buf)
	c.in.r, c.in.w = 0, n
	c.lastRead = time.Now()
	return n == 0
}

// received counts the bytes taken from the socket.
func (c *conn) received() int64 {
	if c.sock != nil {
		return c.sock.got
	}
	return c.got
}

// more reads for the stream while requests are served. At least need bytes of
// dst are wanted; mid says that part of a request has been read already.
func (c *conn) more(dst []byte, need int, mid bool) (int, error) {
	for {
		if err := c.arm(mid); err != nil {
			return 0, err
		}
		ahead := c.ahead
		if c.mark.Load() != nil {
			ahead = 0 // do not run past the fence
		}
		dst = dst[:min(len(dst), max(need, ahead))]
		n, err := c.rw.Read(dst)
		if n > 0 {
			c.got += int64(n)
			c.lastRead = time.Now()
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		c.armed = time.Time{}
		if err := c.woken(mid); err != nil {
			return 0, err
		}
	}
}

// arm sets the deadline of the next read. Between requests there is none; one
// left over from before only costs a spurious wake-up. In a request it is
// moved no more often than every half of the timeout, because moving it costs
// time, too; woken knows how to tell an early one.
func (c *conn) arm(mid bool) error {
	if c.draining.Load() {
		return errDraining
	}
	m := c.mark.Load()
	switch {
	case m == nil && !mid:
		if c.armed.IsZero() {
			c.setDeadline(time.Time{})
			c.armed = farFuture
		}
	case m == nil:
		stall := c.srv.limits.StallTimeout
		if c.armed == farFuture || c.armed.Sub(c.lastRead) < stall/2 {
			c.setDeadline(c.lastRead.Add(stall))
		}
	case !m.begun && !mid:
		return errBoundary
	default:
		if m.until.IsZero() {
			m.until = time.Now().Add(fenceBound)
		}
		c.setDeadline(m.until)
	}
	return nil
}

// farFuture stands for no deadline.
var farFuture = time.Unix(1<<40, 0)

func (c *conn) setDeadline(t time.Time) {
	c.armed = t
	_ = c.raw.SetReadDeadline(t)
}

// woken decides what a read deadline that passed means: a deadline of ours, a
// kick, or a leftover.
func (c *conn) woken(mid bool) error {
	m := c.mark.Load()
	switch {
	case c.draining.Load():
		return errDraining
	case m != nil && !mid:
		return errBoundary
	case m != nil && !m.until.IsZero() && !time.Now().Before(m.until):
		return errFenced
	case m == nil && mid && time.Since(c.lastRead) >= c.srv.limits.StallTimeout:
		return errStalled
	}
	return nil
}

// unread is the number of bytes the kernel holds for us, 0 when unknown.
func unread(nc net.Conn) int64 {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	rc, err := s.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	if rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }) != nil || err != nil {
		return 0
	}
	return int64(n)
}
