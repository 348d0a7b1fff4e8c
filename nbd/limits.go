package nbd

import (
	"errors"
	"fmt"
	"time"
)

// Limits of the wire format. They are the same for every server.
const (
	// minBlock of 1 because VM disks are multiples of 512 and no more; QEMU
	// refuses an export whose size is no multiple of it.
	minBlock = 1
	// preferredBlock is the block of deduplication; qemu-img and nbdcopy grow
	// their requests to it.
	preferredBlock = 64 << 10
	// maxPayload is the most a client may count on when nothing is advertised.
	maxPayload = 32 << 20
	// maxString is the protocol's own bound for names and messages.
	maxString = 4096
	// maxErrorText keeps an error chunk under the 1000 bytes at which QEMU
	// drops the connection.
	maxErrorText = 900
	// maxOptionData is the most option data that is parsed: a 4096-byte name
	// and a page of queries fit many times.
	maxOptionData = 64 << 10
	// maxOptionSkip is the most option data that is read over to stay in
	// step; a longer option ends the connection.
	maxOptionSkip = 4 << 20
	// maxOptions bounds the haggling; real clients send at most six or so.
	maxOptions = 32
	// optionsPerListed is added to maxOptions for every export told in a LIST
	// reply, because qemu-nbd --list asks INFO and LIST_META for each.
	optionsPerListed = 4
	// maxListed bounds a LIST reply.
	maxListed = 10000
	// maxQueries bounds a META_CONTEXT request.
	maxQueries = 64
	// maxContexts is how many contexts a connection may select: one and
	// base:allocation is what clients do.
	maxContexts = 16
	// maxContextsListed bounds what a LIST_META_CONTEXT reply tells of.
	maxContextsListed = 64
	// maxStatusExtents is the protocol's bound for one context in a
	// BLOCK_STATUS reply.
	maxStatusExtents = 1 << 20
)

// Sizes and times inside the server.
const (
	// streamBuffer holds many small requests, read at once.
	streamBuffer = 64 << 10
	// largeWrite and aheadOfLarge keep the payloads of a client that sends large
	// writes out of the stream's buffer: after a large write only so much is
	// read with the next header, the payload goes straight to its own buffer.
	largeWrite   = 16 << 10
	aheadOfLarge = 512
	// replyScratch gathers reply headers and small data for one system call.
	replyScratch = 64 << 10
	// replyInline is the largest data copied into the scratch rather than
	// given its own vector.
	replyInline = 4 << 10
	// replyBatch ends a gathered write, so that buffers return to the budget
	// in pieces.
	replyBatch = 4 << 20
	// keptHead is the largest header memory a request slot keeps.
	keptHead = 1 << 10
	// tlsSocketBuffer holds a few TLS records in each direction.
	tlsSocketBuffer = 128 << 10
	// statusReserve is what a BLOCK_STATUS reply may use without asking for
	// more memory: 512 extents.
	statusReserve = 1 << minClass
	// holeProbe is the shortest READ for which the device is asked for holes.
	holeProbe = 64 << 10
	// holeMin is the shortest hole worth a chunk of its own.
	holeMin = 4 << 10
	// maxSegments bounds the chunks of one READ reply.
	maxSegments = 64
	// bigRequest splits the byte budget: requests above it share only
	// bigShare of it, so that a flood of huge writes leaves room for the
	// 1 MiB requests of QEMU.
	bigRequest = 2 << 20
	// refusalLimit bounds connections that are only told they are refused.
	refusalLimit = 16
	// refusalTimeout is how long such a connection may take to listen.
	refusalTimeout = 2 * time.Second
	// fenceBound is how long an older connection may sit in the middle of a
	// request while a newer one waits to be let in.
	fenceBound = 2 * time.Second
	// fenceTick is how often a waiting fence looks again.
	fenceTick = 50 * time.Millisecond
	// fenceSettle lets bytes under way inside the loopback device arrive.
	fenceSettle = 5 * time.Millisecond
	// drainWrite is how long each write of the last replies of a connection
	// may take.
	drainWrite = 3 * time.Second
	// linger is how long a closed connection's input is read away, so that
	// the kernel does not answer with a reset that destroys the last replies.
	linger = 500 * time.Millisecond
	// shutdownTold is how long clients in the handshake get to hear of it.
	shutdownTold = 250 * time.Millisecond
	// poolTrim is the period after which buffers nobody needed are freed.
	poolTrim = 10 * time.Second
	// unixBuffer is asked for as send buffer of unix sockets; the kernel caps
	// it at net.core.wmem_max.
	unixBuffer        = 2 << 20
	keepAliveIdle     = 60 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 6
)

// Limits can be overridden in Options; a zero field means the default.
type Limits struct {
	// Connections is the most connections at once; more are told so and
	// closed. Default 256.
	Connections int
	// InFlight is the most requests of one connection being worked on.
	// Default 64, which is what nbdcopy keeps under way; QEMU keeps 16.
	InFlight int
	// MemoryBytes is the budget of all payload and read buffers together.
	// Default 256 MiB, at least 64 MiB.
	MemoryBytes int64
	// HandshakeTimeout bounds the time from accept to the choice of an
	// export. Default 10 s.
	HandshakeTimeout time.Duration
	// StallTimeout bounds the time a begun request may make no progress, and,
	// while others wait for memory, the time a client may leave its replies
	// unread. Default 30 s. Between requests a client may be silent for ever.
	StallTimeout time.Duration
	// FenceTimeout bounds how long a new connection to a writable export waits
	// for the writes of older ones. Default 30 s.
	FenceTimeout time.Duration
}

const (
	defaultConnections      = 256
	defaultInFlight         = 64
	defaultMemoryBytes      = 256 << 20
	minMemoryBytes          = 64 << 20
	defaultHandshakeTimeout = 10 * time.Second
	defaultStallTimeout     = 30 * time.Second
	defaultFenceTimeout     = 30 * time.Second
)

func (l Limits) withDefaults() Limits {
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orDur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	orInt(&l.Connections, defaultConnections)
	orInt(&l.InFlight, defaultInFlight)
	if l.MemoryBytes == 0 {
		l.MemoryBytes = defaultMemoryBytes
	}
	orDur(&l.HandshakeTimeout, defaultHandshakeTimeout)
	orDur(&l.StallTimeout, defaultStallTimeout)
	orDur(&l.FenceTimeout, defaultFenceTimeout)
	return l
}

// validate names every bad limit.
func (l Limits) validate() error {
	var errs []error
	if l.Connections < 1 {
		errs = append(errs, fmt.Errorf("nbd: Limits.Connections is %d, must be at least 1", l.Connections))
	}
	if l.InFlight < 1 || l.InFlight > 1024 {
		errs = append(errs, fmt.Errorf("nbd: Limits.InFlight is %d, must be 1 to 1024", l.InFlight))
	}
	if l.MemoryBytes < minMemoryBytes {
		errs = append(errs, fmt.Errorf("nbd: Limits.MemoryBytes is %d, must be at least %d", l.MemoryBytes, minMemoryBytes))
	}
	if l.HandshakeTimeout < 0 || l.StallTimeout < 0 || l.FenceTimeout < 0 {
		errs = append(errs, errors.New("nbd: a timeout in Limits is negative"))
	}
	return errors.Join(errs...)
}

// bigShare is the part of the budget that requests above bigRequest may use.
func bigShare(limit int64) int64 { return limit / 4 * 3 }
