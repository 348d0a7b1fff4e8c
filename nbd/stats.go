package nbd

import (
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// commandNames are the labels of CommandStats.
var commandNames = [commandCount]string{
	cmdRead: "read", cmdWrite: "write", cmdDisc: "disc", cmdFlush: "flush",
	cmdTrim: "trim", cmdCache: "cache", cmdWriteZeroes: "write_zeroes",
	cmdBlockStatus: "block_status",
}

// errnoNames are the labels of CommandStats.Errors.
var errnoNames = [...]struct {
	e    errno
	name string
}{
	{eperm, "EPERM"}, {eio, "EIO"}, {einval, "EINVAL"}, {enospc, "ENOSPC"},
	{eoverflow, "EOVERFLOW"}, {enotsup, "ENOTSUP"}, {eshutdown, "ESHUTDOWN"},
}

// Stats is a snapshot of a server's counters.
type Stats struct {
	Commands []CommandStats
	// ConnectionsOpen counts connections in the handshake too.
	ConnectionsOpen    int
	ConnectionsTotal   uint64
	ConnectionsRefused uint64
	HandshakeFailures  uint64
	// Fenced counts connections closed so that a newer one could be let in.
	Fenced uint64
	// UnknownCommands counts requests with a command number we do not know.
	UnknownCommands uint64
	// BudgetBytes is the part of BudgetLimit lent to requests; BudgetWaiting
	// is the number of connections waiting for some.
	BudgetBytes   int64
	BudgetLimit   int64
	BudgetWaiting int64
}

// CommandStats counts one command.
type CommandStats struct {
	Command  string
	Requests uint64
	// Bytes is the length read, written, zeroed, trimmed or asked about by
	// requests that succeeded.
	Bytes uint64
	// Errors by name of the value sent; names without errors are absent.
	Errors map[string]uint64
	// Latency is from the request's last byte to its reply's way out.
	Latency hist.Snapshot
}

type commandCounters struct {
	requests, bytes atomic.Uint64
	errors          [len(errnoNames)]atomic.Uint64
	latency         hist.H
}

type counters struct {
	commands          [commandCount]commandCounters
	total, refused    atomic.Uint64
	handshakeFailures atomic.Uint64
	fenced, unknown   atomic.Uint64
}

// done counts one answered request.
func (c *counters) done(cmd uint16, length uint32, e errno, took time.Duration) {
	if cmd >= commandCount {
		c.unknown.Add(1)
		return
	}
	k := &c.commands[cmd]
	k.requests.Add(1)
	k.latency.Observe(took)
	if e == 0 {
		k.bytes.Add(uint64(length))
		return
	}
	for i := range errnoNames {
		if errnoNames[i].e == e {
			k.errors[i].Add(1)
		}
	}
}

func (c *commandCounters) snapshot(name string) CommandStats {
	s := CommandStats{
		Command:  name,
		Requests: c.requests.Load(),
		Bytes:    c.bytes.Load(),
		Latency:  c.latency.Snapshot(),
	}
	for i := range errnoNames {
		if n := c.errors[i].Load(); n > 0 {
			if s.Errors == nil {
				s.Errors = make(map[string]uint64)
			}
			s.Errors[errnoNames[i].name] = n
		}
	}
	return s
}

// Stats reads the counters; they go on counting meanwhile.
func (s *Server) Stats() Stats {
	st := Stats{
		ConnectionsTotal:   s.counters.total.Load(),
		ConnectionsRefused: s.counters.refused.Load(),
		HandshakeFailures:  s.counters.handshakeFailures.Load(),
		Fenced:             s.counters.fenced.Load(),
		UnknownCommands:    s.counters.unknown.Load(),
		BudgetBytes:        s.arena.reserved.Load(),
		BudgetLimit:        s.arena.limit,
		BudgetWaiting:      s.arena.waiting.Load(),
	}
	s.mu.Lock()
	st.ConnectionsOpen = len(s.conns) - s.refusing
	s.mu.Unlock()
	for i := range s.counters.commands {
		if uint16(i) == cmdDisc {
			continue
		}
		st.Commands = append(st.Commands, s.counters.commands[i].snapshot(commandNames[i]))
	}
	return st
}
