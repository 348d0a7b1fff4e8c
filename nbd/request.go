package nbd

import (
	"encoding/binary"
	"time"
)

// request is one slot for a request of a connection, from its header to the
// reply's last byte. Slots are used again, so that a request costs no
// allocation.
type request struct {
	header
	c *conn
	// Bound once, because making a function value of them allocates.
	run      func()
	onExtent func(length int64, zero bool) bool
	onStatus func(length int64, flags uint32) bool

	start    time.Time
	reserved int     // bytes reserved in the arena, 0 for none
	buf      *buffer // payload of WRITE, data of READ, extents of BLOCK_STATUS

	reply reply
	// segs are the parts of a READ, list is a BLOCK_STATUS reply in the making
	// and ends are where each context's part of it ends; left is what the device
	// has not told extents of yet.
	segs []segment
	list extentList
	ends []int
	left int64
}

func newRequest(c *conn) *request {
	r := &request{c: c}
	r.run = r.execute
	r.onExtent = r.takeExtent
	r.onStatus = r.takeStatus
	return r
}

// header is a request's header as decoded:
//
//	magic 0x25609513 (4) | flags (2) | command (2) | cookie (8) | offset (8) | length (4)
type header struct {
	magic  uint32
	flags  uint16
	cmd    uint16
	cookie uint64
	offset uint64
	length uint32
}

func (h *header) decode(b []byte) {
	_ = b[requestSize-1]
	h.magic = binary.BigEndian.Uint32(b)
	h.flags = binary.BigEndian.Uint16(b[4:])
	h.cmd = binary.BigEndian.Uint16(b[6:])
	h.cookie = binary.BigEndian.Uint64(b[8:])
	h.offset = binary.BigEndian.Uint64(b[16:])
	h.length = binary.BigEndian.Uint32(b[24:])
}

// allowedFlags by command.
var allowedFlags = [commandCount]uint16{
	cmdRead:        cfFUA | cfDF,
	cmdWrite:       cfFUA,
	cmdDisc:        0xffff,
	cmdFlush:       cfFUA,
	cmdTrim:        cfFUA,
	cmdCache:       cfFUA,
	cmdWriteZeroes: cfFUA | cfNoHole | cfFastZero,
	cmdBlockStatus: cfFUA | cfReqOne,
}

// terms are the facts about a connection that requests are checked against.
type terms struct {
	size       uint64
	readOnly   bool
	structured bool
	contexts   bool // some metadata context was selected
}

// writes says whether a command changes the export.
func (h *header) writes() bool {
	return h.cmd == cmdWrite || h.cmd == cmdTrim || h.cmd == cmdWriteZeroes
}

// validate decides in one place whether a request may be carried out. Nothing
// behind it checks a request again.
func (h *header) validate(t terms) (e errno, why string) {
	switch {
	case h.cmd >= commandCount:
		return einval, "unknown command"
	case h.flags&^allowedFlags[h.cmd] != 0:
		return einval, "flags that do not belong to the command"
	case h.flags&cfDF != 0 && h.cmd == cmdRead && !t.structured:
		return einval, "DF needs structured replies"
	case h.writes() && t.readOnly:
		return eperm, "the export is read-only"
	case h.cmd == cmdFlush:
		if h.offset != 0 || h.length != 0 {
			return einval, "FLUSH takes no offset and no length"
		}
		return 0, ""
	case h.cmd == cmdBlockStatus && !t.contexts:
		return einval, "BLOCK_STATUS needs a metadata context of this export"
	case h.cmd == cmdBlockStatus && h.length == 0:
		return einval, "BLOCK_STATUS of nothing"
	}
	return h.validateRange(t)
}

func (h *header) validateRange(t terms) (e errno, why string) {
	if h.offset > t.size || uint64(h.length) > t.size-h.offset {
		if h.cmd == cmdWrite || h.cmd == cmdWriteZeroes {
			return enospc, "write beyond the end of the export"
		}
		return einval, "request beyond the end of the export"
	}
	if h.cmd == cmdRead && h.length > maxPayload {
		if t.structured {
			return eoverflow, "READ longer than the maximum payload"
		}
		return einval, "READ longer than the maximum payload"
	}
	return 0, ""
}

// free gives everything back and makes the slot available.
func (r *request) free() {
	if r.buf != nil {
		r.c.srv.arena.put(r.buf)
		r.buf = nil
	}
	if r.reserved > 0 {
		r.c.srv.arena.release(r.reserved)
		r.reserved = 0
	}
	r.reply.reset()
	r.c.free <- r
}
