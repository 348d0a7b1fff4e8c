package sftp

import (
	"errors"
	"fmt"
	"time"
)

// Sizes of the protocol.
const (
	// packetMax is the longest packet taken, its own length not counted: what
	// OpenSSH takes, so the limits@openssh.com of both say the same.
	packetMax = 256 << 10
	// dataMax is the most of one READ or WRITE: a packet less its head, and what
	// OpenSSH says.
	dataMax = packetMax - 1024
	// nameMax is a component's, pathMax a whole request path's length in bytes,
	// as those of Linux.
	nameMax = 255
	pathMax = 4096
	// depthMax bounds the components of a path, far above what trees have.
	depthMax = 64
	// textMax cuts messages of a STATUS; clients print them on a line.
	textMax = 900
	// dirPage is how many names a READDIR answers; of 255 bytes each they fill
	// less than half a packet.
	dirPage = 128
	// badPackets is how many malformed packets end a session. A sane client sends
	// none.
	badPackets = 16
)

// Sizes and times inside the server.
const (
	// inputMin holds a few requests of 64 KiB; the buffer grows to inputMax for a
	// client that sends longer ones, or more than we keep up with: then eight are
	// read at once and answered at once.
	inputMin = 160 << 10
	inputMax = 2 * (4 + packetMax)
	// replyBatch is how many bytes of replies are worth a write of their own
	// while there are more requests to answer.
	replyBatch = 64 << 10
	// replyMax is where the session waits for the client to take replies. Two
	// such buffers belong to a session, made when they are needed.
	replyMax = replyBatch + 4 + packetMax
	// socketBuffer holds several SSH packets of 32 KiB in each direction.
	socketBuffer = 128 << 10
	// keptMax is how much of a packet on its way out waits for the rest; the SSH
	// library's own buffer of 4 KiB is what comes first.
	keptMax = 64 << 10
	// refusalsMax is how many forbidden things one connection may ask for before
	// it is ended: a client with everything in its configuration asks for ten.
	refusalsMax = 64
	// sessionStart is how long an authenticated connection may be without a
	// session.
	sessionStart = 30 * time.Second
	// farewell is how long the last words to a client may take.
	farewell = 500 * time.Millisecond
	// lastReplies is how long a client may take for the replies that are left
	// when its session has ended.
	lastReplies = 10 * time.Second
	// requestGrace is how long a request may still take when its connection has to
	// end; then the socket is closed and the request ends unanswered.
	requestGrace = 30 * time.Second
	// triesMax is MaxAuthTries: refused keys count, like passwords.
	triesMax = 3
	// passwordDelay is how long a refused password takes, whatever the reason.
	passwordDelay = 750 * time.Millisecond
	// addressesMax bounds what is remembered of addresses. Above it the ones that
	// have nothing open and full credit are forgotten, then connections from
	// unknown addresses are refused.
	addressesMax = 16384
	// hostKeyMax is many times what a key file takes.
	hostKeyMax = 64 << 10
)

// Limits can be overridden in Options; a zero field means the default.
type Limits struct {
	// Connections is the most connections at once. Default 256.
	Connections int
	// ConnectionsPerAddress is the most of one address (of an IPv6 /64).
	// Default 64.
	ConnectionsPerAddress int
	// ConnectionsPerUser is the most of one login. Default 32.
	ConnectionsPerUser int
	// Logins is the most connections that have not logged in yet; one address
	// may have half of them. Default 128: a hypervisor starts all its jobs at the
	// same minute, and a connection that is refused is a job that fails.
	Logins int
	// Handles is the most files and folders open on one connection. Default 1024.
	Handles int
	// NewPerSecond and Burst are the credit of an address: a connection takes
	// one, a failed login eight. Default 8 and 128.
	NewPerSecond float64
	Burst        int
	// LoginTimeout bounds the time from accept to the end of the login.
	// Default 30 s.
	LoginTimeout time.Duration
	// IdleTimeout ends a connection without requests. Default 12 h: mounts for
	// restores lie idle for long.
	IdleTimeout time.Duration
	// KeepAlive is how long a client may be silent before it is asked for a sign
	// of life; after three times as long it counts as dead. Default 15 s.
	KeepAlive time.Duration
}

const (
	defaultConnections           = 256
	defaultConnectionsPerAddress = 64
	defaultConnectionsPerUser    = 32
	defaultLogins                = 128
	defaultHandles               = 1024
	defaultNewPerSecond          = 8
	defaultBurst                 = 128
	defaultLoginTimeout          = 30 * time.Second
	defaultIdleTimeout           = 12 * time.Hour
	defaultKeepAlive             = 15 * time.Second
	minKeepAlive                 = 10 * time.Millisecond
	// failedLogin is what a failed login takes from an address's credit.
	failedLogin = 8
	// keepAliveMisses is how many silent KeepAlives make a client dead.
	keepAliveMisses = 3
)

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.Connections, defaultConnections)
	orDefault(&l.ConnectionsPerAddress, defaultConnectionsPerAddress)
	orDefault(&l.ConnectionsPerUser, defaultConnectionsPerUser)
	orDefault(&l.Logins, defaultLogins)
	orDefault(&l.Handles, defaultHandles)
	orDefault(&l.NewPerSecond, defaultNewPerSecond)
	orDefault(&l.Burst, defaultBurst)
	orDefault(&l.LoginTimeout, defaultLoginTimeout)
	orDefault(&l.IdleTimeout, defaultIdleTimeout)
	orDefault(&l.KeepAlive, defaultKeepAlive)
	return l
}

// validate names every bad limit.
func (l Limits) validate() error {
	var errs []error
	atLeastOne := func(name string, v int) {
		if v < 1 {
			errs = append(errs, fmt.Errorf("sftp: Limits.%s is %d, must be at least 1", name, v))
		}
	}
	atLeastOne("Connections", l.Connections)
	atLeastOne("ConnectionsPerAddress", l.ConnectionsPerAddress)
	atLeastOne("ConnectionsPerUser", l.ConnectionsPerUser)
	atLeastOne("Logins", l.Logins)
	atLeastOne("Handles", l.Handles)
	atLeastOne("Burst", l.Burst)
	if l.NewPerSecond < 0 {
		errs = append(errs, fmt.Errorf("sftp: Limits.NewPerSecond is %v, must not be negative", l.NewPerSecond))
	}
	if l.LoginTimeout < 0 || l.IdleTimeout < 0 {
		errs = append(errs, errors.New("sftp: a time in Limits is negative"))
	}
	if l.KeepAlive < minKeepAlive {
		errs = append(errs, fmt.Errorf("sftp: Limits.KeepAlive is %v, must be at least %v", l.KeepAlive, minKeepAlive))
	}
	return errors.Join(errs...)
}
