package sftp

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/internal/hist"
)

// Stats is a snapshot of a server's counters.
type Stats struct {
	// Connections counts those that are logging in too, Logins only those.
	Connections      int
	Logins           int
	Sessions         int
	Handles          int
	ConnectionsTotal uint64
	SessionsTotal    uint64
	// LoginsTotal and LoginsFailed are by method: "key", "certificate",
	// "password"; failed ones count every refused try, not only connections.
	LoginsTotal, LoginsFailed map[string]uint64
	// HandshakeFailures counts connections that ended before they logged in.
	HandshakeFailures uint64
	// Refused is by RefusedEvent.What, but logins.
	Refused map[string]uint64
	// Dead counts connections ended because the client gave no sign of life.
	Dead           uint64
	ProtocolErrors uint64
	Requests       []RequestStats
	// ReadBytes and WrittenBytes are of files.
	ReadBytes, WrittenBytes uint64
}

// RequestStats counts one type of request. Extensions are named without their
// domain.
type RequestStats struct {
	Request  string
	Requests uint64
	// Errors are the requests answered with a STATUS other than OK and EOF.
	Errors uint64
	// Latency is from the parsed request to its reply's way into the buffer.
	Latency hist.Snapshot
}

// ConnInfo describes an open connection.
type ConnInfo struct {
	Peer  Peer
	Since time.Time
	// LastRequest is when the last SFTP request came.
	LastRequest time.Time
	// ReadBytes and WrittenBytes are of files.
	ReadBytes, WrittenBytes uint64
	Handles                 int
	Session                 bool // the sftp subsystem is running
}

type kindCounters struct {
	requests, errors atomic.Uint64
	latency          hist.H
}

// counters are a server's. Counters by name are few and rare enough for a lock.
type counters struct {
	kinds             [kinds]kindCounters
	total, sessions   atomic.Uint64
	running           atomic.Int64 // sessions
	handles           atomic.Int64
	handshakeFailures atomic.Uint64
	dead              atomic.Uint64
	protocolErrors    atomic.Uint64
	read, written     atomic.Uint64

	mu             sync.Mutex // a leaf
	logins, failed map[string]uint64
	refused        map[string]uint64
}

// done counts one answered request.
func (c *counters) done(k kind, failed bool, took time.Duration) {
	n := &c.kinds[k]
	n.requests.Add(1)
	n.latency.Observe(took)
	if failed {
		n.errors.Add(1)
	}
}

// count adds one to a counter by name.
func (c *counters) count(m *map[string]uint64, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *m == nil {
		*m = make(map[string]uint64)
	}
	(*m)[name]++
}

// Stats reads the counters; they go on counting meanwhile.
func (s *Server) Stats() Stats {
	c := &s.counters
	st := Stats{
		Sessions:          int(c.running.Load()),
		Handles:           int(c.handles.Load()),
		ConnectionsTotal:  c.total.Load(),
		SessionsTotal:     c.sessions.Load(),
		HandshakeFailures: c.handshakeFailures.Load(),
		Dead:              c.dead.Load(),
		ProtocolErrors:    c.protocolErrors.Load(),
		ReadBytes:         c.read.Load(),
		WrittenBytes:      c.written.Load(),
	}
	c.mu.Lock()
	st.LoginsTotal, st.LoginsFailed, st.Refused = maps.Clone(c.logins), maps.Clone(c.failed), maps.Clone(c.refused)
	c.mu.Unlock()
	s.mu.Lock()
	st.Connections, st.Logins = len(s.conns), s.loggingIn
	s.mu.Unlock()
	for k := range c.kinds {
		n := &c.kinds[k]
		st.Requests = append(st.Requests, RequestStats{
			Request: kindNames[k], Requests: n.requests.Load(), Errors: n.errors.Load(), Latency: n.latency.Snapshot(),
		})
	}
	return st
}

// Connections lists the connections that have logged in, oldest first.
func (s *Server) Connections() []ConnInfo {
	var list []ConnInfo
	for _, c := range s.all() {
		if info, ok := c.info(); ok {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b ConnInfo) int { return a.Since.Compare(b.Since) })
	return list
}
