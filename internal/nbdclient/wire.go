package nbdclient

import (
	"errors"
	"time"
)

// Numbers of the protocol.
const (
	magicGreeting = 0x4e42444d41474943 // NBDMAGIC
	magicOption   = 0x49484156454F5054 // IHAVEOPT
	magicReply    = 0x3e889045565a9
	magicRequest  = 0x25609513
	magicSimple   = 0x67446698
	magicChunk    = 0x668e33ef

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optStartTLS   = 5
	optGo         = 7
	optStructured = 8
	optSetContext = 10

	repAck     = 1
	repInfo    = 3
	repMeta    = 4
	repErrBit  = 1 << 31
	infoExport = 0

	exportReadOnly    = 1 << 1
	exportFlush       = 1 << 2
	exportWriteZeroes = 1 << 6

	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdWriteZeroes = 6
	cmdStatus      = 7

	chunkDone   = 1 << 0
	chunkNone   = 0
	chunkData   = 1
	chunkHole   = 2
	chunkStatus = 5
	chunkErrBit = 1 << 15
	chunkErrAt  = chunkErrBit | 2
)

// Flags that Status tells of extents.
const (
	Zero  = 1 << 1 // in Allocation: reads as zeros
	Dirty = 1 << 0 // in qemu:dirty-bitmap contexts: changed
)

const (
	// Allocation is the context that tells an export's holes. It is always there.
	Allocation = "base:allocation"

	// optionReplyMax is far more than any reply in the handshake needs.
	optionReplyMax = 16 << 10
	// optionRepliesMax bounds how many replies one option may get.
	optionRepliesMax = 64
	// contextsMax is how many contexts a connection may select, Allocation
	// among them; Strongroom's server allows as many.
	contextsMax = 16
	// nameMax is the protocol's bound for names.
	nameMax = 4096
	// errorPayloadMax is the 4096 bytes a string may have, and its header.
	errorPayloadMax = 4096 + 14
	// statusPayloadMax is the 2^20 extents the protocol allows in one chunk.
	statusPayloadMax = 4 + 8<<20
	// statusLengthMax is the longest range asked about at once; the length is
	// 32 bits wide, and stays a multiple of the block size.
	statusLengthMax = 1<<32 - 1<<16
	// zeroLengthMax is the longest range zeroed at once: a server may have to
	// write it, and the connection should not be silent for long.
	zeroLengthMax = 128 << 20
	// zeroBuffer is written over and over where the server has no WRITE_ZEROES.
	zeroBuffer = 1 << 20
	// closeTimeout is what a goodbye may take.
	closeTimeout = 5 * time.Second
	// ReadMax is the largest read: what every server must take (32 MiB).
	ReadMax = 32 << 20
	// WriteMax is the largest write, for the same reason.
	WriteMax = 32 << 20
)

// ErrProtocol says that the server did not keep to the protocol.
var ErrProtocol = errors.New("the NBD server broke the protocol")
