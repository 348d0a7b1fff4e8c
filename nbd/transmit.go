package nbd

import (
	"errors"
	"io"
	"time"
)

// transmit serves requests until the connection ends, then closes the device.
func (c *conn) transmit(a *admitted) {
	c.free = make(chan *request, c.srv.limits.InFlight)
	c.out.c = c
	c.in.more = c.more
	c.ahead = streamBuffer
	c.lastRead = time.Now()
	c.transmitting.Store(true)
	_ = c.raw.SetDeadline(time.Time{})
	opened := time.Now()
	ev := ConnEvent{Peer: c.peer, Export: a.info.Name, ReadOnly: a.info.ReadOnly}
	c.srv.events.connOpen(ev)
	ev.Reason = c.end(c.requests())
	ev.Duration = time.Since(opened)
	c.srv.events.connClose(ev)
}

// end finishes what is under way and lets go of the export; it returns the
// reason to report.
func (c *conn) end(err error) error {
	polite := err == nil || errors.Is(err, errDraining) || errors.Is(err, errTooLong)
	if polite {
		c.boundWrites()
	} else {
		c.raw.Close()
	}
	for range c.made {
		<-c.free // every request has left the device and been answered
	}
	if polite {
		c.hangUp()
	}
	closeErr := c.srv.dismiss(c, c.at)
	reason := c.reasonOr(err)
	if errors.Is(reason, errFenced) || errors.Is(reason, errReplaced) {
		c.srv.counters.fenced.Add(1)
	}
	close(c.dismissed)
	if polite && err != nil {
		c.lingerOn()
	}
	return errors.Join(reason, closeErr)
}

// terms are what requests of this connection are checked against.
func (c *conn) terms() terms {
	return terms{
		size:       c.size,
		readOnly:   c.at.info.ReadOnly,
		structured: c.structured,
		contexts:   len(c.at.contexts) > 0,
	}
}

// requests reads requests and starts them. It returns nil after DISC and when
// the client ended between two requests.
func (c *conn) requests() error {
	t := c.terms()
	for {
		if m := c.mark.Load(); m != nil && c.in.buffered() == 0 {
			c.approach(m)
		}
		b, err := c.in.need(requestSize)
		if err != nil {
			switch {
			case err == errBoundary:
				continue
			case err == io.EOF:
				return nil
			}
			return err
		}
		r := c.slot()
		if r == nil {
			return errDraining
		}
		r.decode(b)
		c.in.skip(requestSize)
		if r.magic != magicRequest {
			r.free()
			return errBadMagic
		}
		if r.cmd == cmdDisc {
			r.free()
			return nil
		}
		if err := c.begin(r, t); err != nil {
			return err
		}
	}
}

// slot waits for a free request slot; nil means that the connection ends.
func (c *conn) slot() *request {
	select {
	case r := <-c.free:
		return r
	default:
	}
	if c.made < cap(c.free) {
		c.made++
		return newRequest(c)
	}
	select {
	case r := <-c.free:
		return r
	case <-c.ctx.Done():
		return nil
	}
}

// begin checks a request, takes its payload and starts it. An error ends the
// connection; the request is answered or freed in any case.
func (c *conn) begin(r *request, t terms) error {
	r.start = time.Now()
	e, why := r.validate(t)
	if r.cmd == cmdWrite {
		if r.length > maxPayload {
			c.refuse(r, einval, errTooLong.Error())
			return errTooLong
		}
		if err := c.payload(r, e == 0); err != nil {
			r.free()
			return err
		}
	}
	if e != 0 {
		c.refuse(r, e, why)
		return nil
	}
	if err := c.reserveReply(r); err != nil {
		r.free()
		return err
	}
	if r.writes() {
		if err := c.claim(); err != nil {
			r.free()
			return err
		}
		c.wrote.Store(true)
	}
	c.work.Add(1)
	go r.run()
	return nil
}

// refuse answers a request that will not be carried out.
func (c *conn) refuse(r *request, e errno, why string) {
	r.fail(e, why, nil)
	c.srv.counters.done(r.cmd, r.length, e, time.Since(r.start))
	c.out.send(r)
}

// payload takes the data of a WRITE: into a buffer, or away when the request
// is refused. Memory is only allocated once the budget has room for it.
func (c *conn) payload(r *request, keep bool) error {
	n := int(r.length)
	if c.ahead = streamBuffer; n >= largeWrite {
		c.ahead = aheadOfLarge
	}
	c.lastRead = r.start // a wait for a slot is not the client's fault
	if !keep {
		return c.in.discard(n)
	}
	if n == 0 {
		return nil
	}
	if err := c.reserve(r, n); err != nil {
		return err
	}
	r.buf = c.srv.arena.get(n)
	c.lastRead = time.Now()
	if err := c.in.full(r.buf.bytes[:n]); err != nil {
		return err
	}
	r.start = time.Now()
	return nil
}

// reserveReply sets memory aside for the data a request will answer with.
func (c *conn) reserveReply(r *request) error {
	switch {
	case r.cmd == cmdRead && r.length > 0:
		return c.reserve(r, int(r.length))
	case r.cmd == cmdBlockStatus:
		return c.reserve(r, statusReserve)
	}
	return nil
}

func (c *conn) reserve(r *request, n int) error {
	if err := c.srv.arena.reserve(c.ctx, n); err != nil {
		return errDraining // only the end of the connection ends the wait
	}
	r.reserved = n
	return nil
}
