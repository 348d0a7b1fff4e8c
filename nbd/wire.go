package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

// Magic numbers.
const (
	magicGreeting    = protocol.NEGOTIATION_MAGIC_OLDSTYLE // "NBDMAGIC"
	magicOption      = protocol.NEGOTIATION_MAGIC_OPTION   // "IHAVEOPT"
	magicOptionReply = protocol.NEGOTIATION_MAGIC_REPLY
	magicRequest     = protocol.TRANSMISSION_MAGIC_REQUEST
	magicSimple      = protocol.TRANSMISSION_MAGIC_REPLY
	magicStructured  = uint32(0x668e33ef)
)

// Handshake flags, the same bits in both directions.
const (
	flagFixedNewstyle = protocol.NEGOTIATION_HANDSHAKE_FLAG_FIXED_NEWSTYLE
	flagNoZeroes      = uint16(1 << 1)
)

// Options.
const (
	optExportName      = uint32(1)
	optAbort           = protocol.NEGOTIATION_ID_OPTION_ABORT
	optList            = protocol.NEGOTIATION_ID_OPTION_LIST
	optStartTLS        = uint32(5)
	optInfo            = protocol.NEGOTIATION_ID_OPTION_INFO
	optGo              = protocol.NEGOTIATION_ID_OPTION_GO
	optStructuredReply = uint32(8)
	optListMeta        = uint32(9)
	optSetMeta         = uint32(10)
)

// Option replies.
const (
	repAck        = protocol.NEGOTIATION_TYPE_REPLY_ACK
	repServer     = protocol.NEGOTIATION_TYPE_REPLY_SERVER
	repInfo       = protocol.NEGOTIATION_TYPE_REPLY_INFO
	repMeta       = uint32(4)
	repErrUnsup   = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED
	repErrPolicy  = uint32(1<<31 | 2)
	repErrInvalid = uint32(1<<31 | 3)
	repErrTLSReqd = uint32(1<<31 | 5)
	repErrUnknown = protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN
	repErrShut    = uint32(1<<31 | 7)
	repErrTooBig  = uint32(1<<31 | 9)
)

// Information types of INFO and GO.
const (
	infoExport      = protocol.NEGOTIATION_TYPE_INFO_EXPORT
	infoName        = protocol.NEGOTIATION_TYPE_INFO_NAME
	infoDescription = protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION
	infoBlockSize   = protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE
)

// Transmission flags.
const (
	tfHasFlags    = protocol.NEGOTIATION_REPLY_FLAGS_HAS_FLAGS
	tfReadOnly    = uint16(1 << 1)
	tfFlush       = uint16(1 << 2)
	tfFUA         = uint16(1 << 3)
	tfTrim        = uint16(1 << 5)
	tfWriteZeroes = uint16(1 << 6)
	tfDF          = uint16(1 << 7)
	tfMultiConn   = protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	tfCache       = uint16(1 << 10)
	tfFastZero    = uint16(1 << 11)
)

// Commands.
const (
	cmdRead        = protocol.TRANSMISSION_TYPE_REQUEST_READ
	cmdWrite       = protocol.TRANSMISSION_TYPE_REQUEST_WRITE
	cmdDisc        = protocol.TRANSMISSION_TYPE_REQUEST_DISC
	cmdFlush       = uint16(3)
	cmdTrim        = uint16(4)
	cmdCache       = uint16(5)
	cmdWriteZeroes = uint16(6)
	cmdBlockStatus = uint16(7)
	commandCount   = 8
)

// Command flags.
const (
	cfFUA      = uint16(1 << 0)
	cfNoHole   = uint16(1 << 1)
	cfDF       = uint16(1 << 2)
	cfReqOne   = uint16(1 << 3)
	cfFastZero = uint16(1 << 4)
)

// Structured reply chunks.
const (
	chunkDone        = uint16(1 << 0)
	chunkNone        = uint16(0)
	chunkData        = uint16(1)
	chunkHole        = uint16(2)
	chunkStatus      = uint16(5)
	chunkError       = uint16(1<<15 | 1)
	chunkErrorOffset = uint16(1<<15 | 2)
)

// Bits of base:allocation.
const (
	stateHole = uint32(1 << 0)
	stateZero = uint32(1 << 1)
)

const (
	nsBase         = "base:"
	metaAllocation = "base:allocation"
)

// Error values.
const (
	eperm     = errno(protocol.TRANSMISSION_ERROR_EPERM)
	eio       = errno(5)
	einval    = errno(protocol.TRANSMISSION_ERROR_EINVAL)
	enospc    = errno(28)
	eoverflow = errno(75)
	enotsup   = errno(95)
	eshutdown = errno(108)
)

const (
	requestSize          = 28
	simpleReplySize      = 16
	structuredHeaderSize = 20
	optionHeaderSize     = 16
	optionReplySize      = 20
)

// transmissionFlags is what an export can do. It depends on nothing that may
// change between two connections of one client: QEMU aborts when a flag it
// relied on is gone after a reconnect.
func transmissionFlags(readOnly, structured bool) uint16 {
	f := tfHasFlags | tfFlush | tfFUA | tfCache | tfMultiConn
	if readOnly {
		f |= tfReadOnly
	} else {
		f |= tfTrim | tfWriteZeroes | tfFastZero
	}
	if structured {
		f |= tfDF
	}
	return f
}
