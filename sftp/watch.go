package sftp

import (
	"errors"
	"fmt"
	"time"
)

// watch ends the connection when its login has ended, the server shuts down,
// the client is dead or has nothing to do for too long.
func (c *conn) watch() {
	tick := time.NewTicker(c.srv.limits.KeepAlive / 3)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-c.login.Gone:
			c.leave(c.goneReason())
			return
		case <-c.srv.draining:
			c.leave(ErrServerClosed)
			return
		case <-tick.C:
		}
		switch err := c.pulse(time.Now()); {
		case errors.Is(err, errDead):
			c.kill(err)
			return
		case err != nil:
			c.leave(err)
			return
		}
	}
}

func (c *conn) goneReason() error {
	if c.login.GoneReason != "" {
		return errors.New(c.login.GoneReason)
	}
	return errGone
}

// pulse says whether the connection has to end, and asks a silent client for a
// sign of life. Any bytes of it are one.
func (c *conn) pulse(now time.Time) error {
	l := c.srv.limits
	silent := c.sock.silent(now)
	if silent >= keepAliveMisses*l.KeepAlive-l.KeepAlive/3 { // it is looked at three times per KeepAlive
		return fmt.Errorf("%w for %v", errDead, silent.Round(time.Second))
	}
	if silent >= l.KeepAlive*2/3 && c.pinging.CompareAndSwap(false, true) {
		go c.ping()
	}
	c.mu.Lock()
	s, idleAt := c.session, c.idleAt
	c.mu.Unlock()
	switch {
	case s == nil && now.Sub(idleAt) > sessionStart:
		return errNoSession
	case s != nil && now.UnixNano()-c.lastRequest.Load() > int64(l.IdleTimeout):
		return fmt.Errorf("%w of %v", errIdle, l.IdleTimeout)
	}
	return nil
}

// ping waits for the answer; if there is none, kill sets it free.
func (c *conn) ping() {
	defer c.pinging.Store(false)
	_, _, _ = c.ssh.SendRequest("keepalive@openssh.com", true, nil)
}

// leave ends the connection in order: a session in the middle of a request
// finishes and answers it, then tells the client why and hangs up. One that
// waits for a request is told from here.
func (c *conn) leave(reason error) {
	c.setReason(reason)
	c.quit.Store(true)
	c.mu.Lock()
	s, ch := c.session, c.channel
	c.mu.Unlock()
	switch {
	case s == nil:
		c.hangUp()
	case s.idle.Load():
		c.dismiss(ch, reason)
	default:
		select {
		case <-s.done:
		case <-c.ended:
		case <-time.After(requestGrace):
			c.kill(reason)
		}
	}
}

// hangUp closes our half of the connection, so that the client can read to the
// end, and all of it when the client does not do the same soon.
func (c *conn) hangUp() {
	c.quit.Store(true)
	c.bye.Do(func() {
		c.sock.hangUp()
		time.AfterFunc(farewell, func() { c.sock.Close() })
	})
}
