package sftp

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

var (
	errOneChannel = errors.New("one session per connection")
	errForbidden  = errors.New("only the sftp subsystem is served")
)

// channels takes session channels, one after the other, until the connection
// ends; then it waits for the last. full is why a connection may have none.
func (c *conn) channels(in <-chan ssh.NewChannel, full error) {
	var running sync.WaitGroup
	busy := make(chan struct{}, 1)
	for nc := range in {
		switch {
		case nc.ChannelType() != "session":
			c.refuse(RefusedChannel, nc.ChannelType(), errForbidden)
			_ = nc.Reject(ssh.Prohibited, errForbidden.Error())
			continue
		case full != nil:
			c.refuse(RefusedConnection, "user", full)
			_ = nc.Reject(ssh.ResourceShortage, full.Error())
			c.setReason(full)
			continue
		}
		select {
		case busy <- struct{}{}:
		default:
			c.refuse(RefusedSession, "second channel", errOneChannel)
			_ = nc.Reject(ssh.ResourceShortage, errOneChannel.Error())
			continue
		}
		ch, requests, err := nc.Accept()
		if err != nil {
			<-busy
			continue
		}
		running.Go(func() {
			c.serveChannel(ch, requests)
			<-busy
		})
	}
	running.Wait()
}

// serveChannel answers a channel's requests until it is closed by both sides.
// The first subsystem sftp starts the session; everything else is refused.
func (c *conn) serveChannel(ch ssh.Channel, requests <-chan *ssh.Request) {
	var session sync.WaitGroup
	started := false
	for r := range requests {
		if started || r.Type != "subsystem" || !isSFTP(r.Payload) {
			c.refuse(RefusedRequest, r.Type, errForbidden)
			_ = r.Reply(false, nil)
			continue
		}
		started = true
		_ = r.Reply(true, nil)
		session.Go(func() { c.runSession(ch) })
	}
	session.Wait()
}

func isSFTP(payload []byte) bool {
	name, rest, ok := cutString(payload)
	return ok && len(rest) == 0 && string(name) == "sftp"
}

// runSession serves the tree on a channel and closes it.
func (c *conn) runSession(ch ssh.Channel) {
	tree, err := c.login.Open(c.conn())
	if err != nil {
		c.refuse(RefusedSession, "open", err)
		c.farewell(ch, message(err))
		return
	}
	s := newSession(c, ch, tree)
	c.mu.Lock()
	c.session, c.channel = s, ch
	c.mu.Unlock()
	c.srv.counters.sessions.Add(1)
	c.srv.counters.running.Add(1)
	err = s.run()
	c.srv.counters.running.Add(-1)
	c.mu.Lock()
	c.session, c.channel = nil, nil
	c.idleAt = time.Now()
	c.mu.Unlock()
	c.sessionEnded(ch, err)
}

// sessionEnded tells the client how it went; the connection stays for another
// session unless something went wrong.
func (c *conn) sessionEnded(ch ssh.Channel, err error) {
	if err == nil && !c.quit.Load() {
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
		_ = ch.Close()
		return
	}
	switch {
	case c.sock.over.Load() && errors.Is(err, errCutOff):
		err = errLost // the client did not stop there on purpose
	case errors.Is(err, errProtocol):
		c.srv.counters.protocolErrors.Add(1)
	}
	if err != nil {
		c.setReason(err)
	}
	c.dismiss(ch, c.reasonOr(err))
}

// dismiss ends a session and the connection, telling the client why.
func (c *conn) dismiss(ch ssh.Channel, why error) {
	stop := time.AfterFunc(farewell, func() { c.sock.Close() })
	defer stop.Stop()
	c.farewell(ch, message(why))
	c.hangUp()
}

// farewell tells the client why its session ends. SSH's own message for that,
// DISCONNECT, is out of reach through the library; what is written to a
// channel's standard error, clients print.
func (c *conn) farewell(ch ssh.Channel, why string) {
	_, _ = fmt.Fprintf(ch.Stderr(), "strongroom: %s\r\n", why)
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{1}))
	_ = ch.Close()
}

// globals answers requests that belong to no channel. None is granted; an
// answer is all that keepalives want.
func (c *conn) globals(requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case "keepalive@openssh.com", "no-more-sessions@openssh.com", "hostkeys-prove-00@openssh.com":
		default:
			c.refuse(RefusedGlobal, r.Type, errForbidden)
		}
		_ = r.Reply(false, nil)
	}
}
