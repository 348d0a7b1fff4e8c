package nbd

import (
	"encoding/binary"
	"errors"
)

const extentSize = 8

// blockStatus answers for each context that was selected.
func (r *request) blockStatus(dev Device) error {
	contexts := r.c.at.contexts
	r.list, r.ends = extentList{contexts: len(contexts)}, r.ends[:0]
	for i, x := range contexts {
		r.list.begin(r.flags&cfReqOne != 0)
		r.left = int64(r.statusLength())
		var err error
		if x == nil {
			err = dev.Extents(int64(r.offset), r.left, r.onExtent)
		} else {
			err = x.Status(int64(r.offset), r.left, r.onStatus)
		}
		if err != nil {
			return err
		}
		r.pushStatus()
		if r.list.empty() {
			return errors.New("nbd: the device told no extent")
		}
		r.list.context = i + 1
		r.ends = append(r.ends, r.list.n)
	}
	r.statusReply()
	return nil
}

// statusReply makes one chunk per context.
func (r *request) statusReply() {
	first, flags := 0, uint16(0)
	for i, end := range r.ends {
		if i == len(r.ends)-1 {
			flags = chunkDone
		}
		r.reply.status(r.cookie, contextID(i), r.buf.bytes[first*extentSize:end*extentSize], flags)
		first = end
	}
}

// takeStatus is the callback of Context.Status; it reports false when no more is
// wanted.
func (r *request) takeStatus(length int64, flags uint32) bool {
	length = max(0, min(length, r.left))
	r.left -= length
	return r.addStatus(length, flags) && r.left > 0
}

// statusLength is the length to ask about. A client that asks for as much as
// fits 32 bits gets a multiple of the preferred block, so that its next
// question is aligned too.
func (r *request) statusLength() uint32 {
	if r.length > 1<<32-preferredBlock {
		return r.length / preferredBlock * preferredBlock
	}
	return r.length
}

// extentList is a BLOCK_STATUS reply in the making: n extents are encoded in
// the request's buffer, those of this context from first on; one more is pending
// because it may still grow.
type extentList struct {
	contexts int // how many there are
	context  int // the one in the making
	first    int
	limit    int // n must not go beyond
	n        int
	length   int64
	flags    uint32
}

// begin starts the extents of a context.
func (l *extentList) begin(one bool) {
	l.first, l.limit = l.n, l.n+maxStatusExtents
	if one {
		l.limit = l.n + 1
	}
}

func (l *extentList) empty() bool { return l.n == l.first }

// addStatus takes one extent; it reports false when no more is wanted.
func (r *request) addStatus(length int64, flags uint32) bool {
	l := &r.list
	if l.length > 0 && l.flags != flags && !r.pushStatus() {
		return false
	}
	l.flags = flags
	l.length += length
	return true
}

// pushStatus encodes the pending extent; false means that there is room for no
// more. A reply that is cut short is within the protocol.
func (r *request) pushStatus() bool {
	l := &r.list
	length := l.length
	l.length = 0
	if length == 0 || l.n == l.limit || !r.statusRoom() {
		return false
	}
	b := r.buf.bytes[l.n*extentSize:]
	binary.BigEndian.PutUint32(b, uint32(length))
	binary.BigEndian.PutUint32(b[4:], l.flags)
	l.n++
	return l.n < l.limit
}

// statusRoom makes the buffer larger when this context's share of it is full and
// nobody waits for memory. Each context has a share, so that none goes without.
func (r *request) statusRoom() bool {
	a := r.c.srv.arena
	if r.buf == nil {
		r.buf = a.get(r.reserved)
	}
	size := len(r.buf.bytes)
	if r.list.n < size/extentSize*(r.list.context+1)/r.list.contexts {
		return true
	}
	if 2*size > maxPayload || !a.tryGrow(2*size) {
		return false
	}
	b := a.get(2 * size)
	copy(b.bytes, r.buf.bytes)
	a.put(r.buf)
	a.release(r.reserved)
	r.buf, r.reserved = b, 2*size
	return true
}
