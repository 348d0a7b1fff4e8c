package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
)

// session is one run of the sftp subsystem: a loop that takes one request after
// the other, in the order in which they came, and answers it before it takes
// the next. sshfs and others count on that: they send a read behind a write, or
// an LSTAT behind the OPEN that makes the file, without waiting.
//
// Everything but idle, done and the counters belongs to the loop's goroutine.
type session struct {
	c       *conn
	tree    Tree
	in      *input
	out     *output
	handles handles
	greeted bool
	bad     int // malformed packets

	// The request being answered.
	id     uint32
	kind   kind
	name   string // of the file, for events
	failed bool

	idle atomic.Bool   // waiting for a request, with all replies sent
	done chan struct{} // closed when files and tree are
}

func newSession(c *conn, rw io.ReadWriter, tree Tree) *session {
	s := &session{c: c, tree: tree, in: newInput(rw), handles: handles{limit: c.srv.limits.Handles}, done: make(chan struct{})}
	s.out = newOutput(rw, func(err error) { c.kill(fmt.Errorf("replies cannot be sent: %w", err)) })
	return s
}

// run answers requests until the client has no more, breaks the protocol, or
// the connection is asked to quit. The files, then the tree, are closed.
func (s *session) run() error {
	defer close(s.done)
	err := s.loop()
	stop := time.AfterFunc(lastReplies, func() { s.c.kill(errUnread) })
	s.out.close()
	stop.Stop()
	return errors.Join(err, s.closeAll())
}

func (s *session) loop() error {
	for !s.c.quit.Load() {
		packet, ok, err := s.in.next()
		if err == nil && ok {
			err = s.handle(packet)
			s.out.relieve()
		} else if err == nil {
			err = s.wait()
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case s.out.err() != nil:
			return s.out.err()
		}
	}
	return nil
}

// wait sends what there is to send and waits for more of the stream.
func (s *session) wait() error {
	s.out.flush()
	s.idle.Store(true)
	defer s.idle.Store(false)
	if s.c.quit.Load() { // whoever wants it to quit looks at idle after that
		return nil
	}
	return s.in.fill()
}

// closeAll closes what the client has left open. Errors of files go to the
// events, as nobody else is left to hear them.
func (s *session) closeAll() error {
	s.kind = kindClose
	for _, h := range s.handles.drain() {
		s.c.handles.Add(-1)
		s.c.srv.counters.handles.Add(-1)
		if h.file == nil {
			continue
		}
		if err := h.file.Abandon(); err != nil && !clientsFault(err) {
			s.c.srv.events.requestError(RequestEvent{Peer: s.c.peer, Request: kindNames[kindClose], Name: h.name, Err: err})
		}
	}
	if err := s.tree.Close(); err != nil {
		return fmt.Errorf("close the tree: %w", err)
	}
	return nil
}

// handle answers one packet. An error ends the session.
func (s *session) handle(p []byte) error {
	if !s.greeted {
		return s.greet(p)
	}
	if len(p) < 5 {
		return fmt.Errorf("%w: a packet of %d bytes has no request id", errProtocol, len(p))
	}
	start := time.Now()
	s.c.lastRequest.Store(start.UnixNano())
	s.id, s.kind, s.name, s.failed = binary.BigEndian.Uint32(p[1:]), kindOfType[p[0]], "", false
	s.dispatch(sshfx.PacketType(p[0]), p[5:])
	s.c.srv.counters.done(s.kind, s.failed, time.Since(start))
	if s.bad > badPackets {
		return fmt.Errorf("%w: more than %d malformed requests", errProtocol, badPackets)
	}
	return nil
}

// greet answers INIT, which comes first and once:
//
//	C  length (4) | 1 (1) | version (4) | extensions        ignored
//	S  length (4) | 2 (1) | version (4) | (name, data)…
func (s *session) greet(p []byte) error {
	if p[0] != byte(sshfx.PacketTypeInit) || len(p) < 5 {
		return fmt.Errorf("%w: the first packet is no INIT", errProtocol)
	}
	if v := binary.BigEndian.Uint32(p[1:]); v < 3 {
		return fmt.Errorf("%w: client speaks version %d, 3 is the lowest here", errProtocol, v)
	}
	s.greeted = true
	version := sshfx.VersionPacket{Version: 3}
	for _, e := range extensions {
		version.Extensions = append(version.Extensions, &sshfx.ExtensionPair{Name: e.name, Data: e.data})
	}
	b, err := version.MarshalBinary()
	if err != nil {
		return err
	}
	s.send(b)
	s.c.srv.counters.done(kindInit, false, 0)
	return nil
}

// send queues a whole packet.
func (s *session) send(b []byte) {
	s.out.room(len(b))
	s.out.cur = append(s.out.cur, b...)
}

// reply queues a packet of the codec.
func (s *session) reply(p sshfx.PacketMarshaller) {
	head, payload, err := p.MarshalPacket(s.id, nil)
	if err != nil {
		s.status(err)
		return
	}
	s.send(head)
	s.send(payload)
}

// status answers with what became of the request.
func (s *session) status(err error) {
	code := statusOf(err)
	s.out.room(4 + 1 + 4 + 4 + 4 + textMax + 4)
	s.out.cur = appendStatus(s.out.cur, s.id, code, message(err))
	if code == sshfx.StatusOK || code == sshfx.StatusEOF {
		return
	}
	s.failed = true
	if !clientsFault(err) {
		s.c.srv.events.requestError(RequestEvent{Peer: s.c.peer, Request: kindNames[s.kind], Name: s.name, Err: err})
	}
}

// malformed answers a packet whose length is right and whose content is not.
func (s *session) malformed() {
	s.bad++
	s.c.srv.counters.protocolErrors.Add(1)
	s.status(errMalformed)
}
