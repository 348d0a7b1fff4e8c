package nbd

import (
	"cmp"
	"context"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// Client is a connection that has an export open.
type Client struct {
	Peer
	// PID is the process at the other end of a unix socket when it connected; 0
	// when it is not known.
	PID int
}

// Clients tells who has an export open, in the order they connected. The name is
// Info.Name, the canonical one. Who is just being let in is not among them.
func (s *Server) Clients(name string) []Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.open[name]
	if e == nil {
		return nil
	}
	var list []Client
	for c := range e.conns {
		// A peer is not changed after its connection was let in, which s.mu told us.
		list = append(list, Client{Peer: c.peer, PID: processOf(c.raw)})
	}
	slices.SortFunc(list, func(a, b Client) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// SettledClients is Clients after all who were being let in when it was called
// either were, or were refused: when Exports refuses the name since before the
// call, nobody comes in any more, and an empty answer stays true. An Exports
// method must not call it. The error is ctx's.
func (s *Server) SettledClients(ctx context.Context, name string) ([]Client, error) {
	e := s.use(name)
	defer s.leave(e)
	if err := e.admission.Acquire(ctx, wholeAdmission); err != nil {
		return nil, err
	}
	e.admission.Release(wholeAdmission)
	return s.Clients(name), nil
}

// processOf asks the kernel who connected to a unix socket.
func processOf(nc net.Conn) int {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return 0
	}
	rc, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	var cred *unix.Ucred
	if rc.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return 0
	}
	return int(cred.Pid)
}
