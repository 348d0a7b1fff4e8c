package nbd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

// wholeAdmission is the weight of those who must be alone at an export's door.
const wholeAdmission = 1 << 30

// export is what the connections to one export share. It exists while anybody
// uses it.
type export struct {
	name string
	// admission is held by a connection while it is let in: shared for a
	// read-only export, alone for a writable one and by CloseExport.
	admission *semaphore.Weighted
	flushes   flushGroup

	// Guarded by Server.mu.
	users int
	conns map[*conn]struct{}
}

// use finds or makes the entry of a name; leave must follow.
func (s *Server) use(name string) *export {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.open[name]
	if e == nil {
		e = &export{
			name:      name,
			admission: semaphore.NewWeighted(wholeAdmission),
			conns:     make(map[*conn]struct{}),
		}
		s.open[name] = e
	}
	e.users++
	return e
}

func (s *Server) leave(e *export) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(s.open, e.name)
	}
}

func (s *Server) connsOf(e *export) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := make([]*conn, 0, len(e.conns))
	for c := range e.conns {
		l = append(l, c)
	}
	return l
}

// admitted is an export opened for one connection.
type admitted struct {
	export *export
	dev    Device
	info   Info
	// contexts are those selected, in the order of their numbers.
	contexts []Context
	// suspects are older connections that have to end before this one writes.
	suspects []*conn
}

// admit opens an export for c: it makes the older connections of a writable
// one harmless first. The caller must call dismiss in the end.
func (s *Server) admit(ctx context.Context, c *conn, name string, contexts []string) (*admitted, error) {
	info, _, err := s.exports.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if info.Name == "" {
		info.Name = name
	}
	e := s.use(info.Name)
	a, err := s.admitTo(ctx, c, e, name, info.ReadOnly, contexts)
	if err != nil {
		s.leave(e)
	}
	return a, err
}

func (s *Server) admitTo(ctx context.Context, c *conn, e *export, name string, readOnly bool, contexts []string) (*admitted, error) {
	weight := int64(wholeAdmission)
	if readOnly {
		weight = 1
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.FenceTimeout)
	defer cancel()
	if err := e.admission.Acquire(ctx, weight); err != nil {
		return nil, errFenceBusy
	}
	defer e.admission.Release(weight)
	var suspects []*conn
	if !readOnly {
		var err error
		if suspects, err = s.fence(ctx, e); err != nil {
			return nil, err
		}
	}
	dev, info, err := s.exports.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if info.Name == "" {
		info.Name = name
	}
	if info.ReadOnly != readOnly || info.Name != e.name {
		return nil, errors.Join(
			fmt.Errorf("nbd: export %q changed while it was opened", name), dev.Close())
	}
	opened, err := openContexts(dev, contexts)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	s.mu.Lock()
	e.conns[c] = struct{}{}
	s.mu.Unlock()
	return &admitted{export: e, dev: dev, info: info, contexts: opened, suspects: suspects}, nil
}

// dismiss closes the device of a connection that executes no request any more.
func (s *Server) dismiss(c *conn, a *admitted) error {
	err := errors.Join(closeContexts(a.contexts), a.dev.Close())
	s.mu.Lock()
	delete(a.export.conns, c)
	s.mu.Unlock()
	s.leave(a.export)
	return err
}

// CloseExport disconnects every client of an export, answering what is being
// worked on. When it returns, no request is being executed on any Device of
// the export and all of them have been closed. Connections that were being let
// in are included; to keep new ones out, make Exports refuse the name before.
// The name is Info.Name, the canonical one. An Exports method must not call it.
func (s *Server) CloseExport(name string, reason error) {
	e := s.use(name)
	defer s.leave(e)
	// The wait ends: whoever holds the door has its own time limit.
	if err := e.admission.Acquire(context.Background(), wholeAdmission); err != nil {
		return
	}
	defer e.admission.Release(wholeAdmission)
	conns := s.connsOf(e)
	for _, c := range conns {
		c.drain(reason)
	}
	for _, c := range conns {
		<-c.dismissed
	}
}

// fence makes it impossible that a write sent over an older connection lands
// after one sent over the connection that waits to be let in. A client that
// lost a connection sends its unanswered writes again over the next, and may
// then write newer data to the same place.
//
// Each older connection is brought to a moment at which nothing it sent is
// left unread or unfinished. Over a network more may still be under way: such
// connections, if they have written, are returned, and end before the new one
// writes (see claim). One that never writes, like nbdinfo, does them no harm.
func (s *Server) fence(ctx context.Context, e *export) (suspects []*conn, err error) {
	old := s.connsOf(e)
	marks := make([]*fenceMark, len(old))
	for i, c := range old {
		marks[i] = c.raiseFence()
	}
	for i, c := range old {
		err = errors.Join(err, c.awaitFence(ctx, marks[i]))
	}
	if err != nil {
		return nil, errFenceBusy
	}
	for _, c := range old {
		if c.remote && c.wrote.Load() {
			suspects = append(suspects, c)
		}
	}
	return suspects, nil
}

// claim ends the suspects before the first write of c. It gives up after the
// fence's time: then c must not write.
func (c *conn) claim() error {
	if len(c.at.suspects) == 0 {
		return nil
	}
	for _, old := range c.at.suspects {
		old.drain(errReplaced)
	}
	limit := time.NewTimer(c.srv.limits.FenceTimeout)
	defer limit.Stop()
	for _, old := range c.at.suspects {
		select {
		case <-old.dismissed:
		case <-limit.C:
			return errFenceBusy
		case <-c.ctx.Done():
			return errDraining
		}
	}
	c.at.suspects = nil
	return nil
}

// awaitFence waits until m is reached or the connection has ended.
func (c *conn) awaitFence(ctx context.Context, m *fenceMark) error {
	tick := time.NewTicker(fenceTick)
	defer tick.Stop()
	for {
		select {
		case <-m.reached:
			return nil
		case <-c.dismissed:
			return nil
		case <-ctx.Done():
			c.mark.CompareAndSwap(m, nil)
			return ctx.Err()
		case <-tick.C:
			if c.writeStuck(fenceBound) {
				c.kill(errFenced)
			}
			c.kick()
		}
	}
}
