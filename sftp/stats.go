package sftp

import (
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
