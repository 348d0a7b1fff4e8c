package nbd

import "encoding/binary"

// reply is what will be sent for one request: header bytes, and data that
// belongs between them.
type reply struct {
	head  []byte
	parts []part
	errno errno
}

// part is a stretch of header bytes, up to end, followed by data.
type part struct {
	end  int
	data []byte
}

func (p *reply) reset() {
	if cap(p.head) > keptHead {
		p.head = nil
	}
	p.head = p.head[:0]
	clear(p.parts)
	p.parts = p.parts[:0]
	p.errno = 0
}

func (p *reply) add(data []byte) {
	p.parts = append(p.parts, part{end: len(p.head), data: data})
}

// simple appends a simple reply:
//
//	magic 0x67446698 (4) | error (4) | cookie (8) | data of a READ
func (p *reply) simple(cookie uint64, e errno, data []byte) {
	p.errno = e
	p.head = binary.BigEndian.AppendUint32(p.head, magicSimple)
	p.head = binary.BigEndian.AppendUint32(p.head, uint32(e))
	p.head = binary.BigEndian.AppendUint64(p.head, cookie)
	p.add(data)
}

// chunk appends the header of a chunk of a structured reply:
//
//	magic 0x668e33ef (4) | flags (2) | type (2) | cookie (8) | length (4)
func (p *reply) chunk(cookie uint64, flags, kind uint16, length int) {
	p.head = binary.BigEndian.AppendUint32(p.head, magicStructured)
	p.head = binary.BigEndian.AppendUint16(p.head, flags)
	p.head = binary.BigEndian.AppendUint16(p.head, kind)
	p.head = binary.BigEndian.AppendUint64(p.head, cookie)
	p.head = binary.BigEndian.AppendUint32(p.head, uint32(length))
}

// data appends a chunk: offset (8) | data.
func (p *reply) data(cookie, offset uint64, data []byte, flags uint16) {
	p.chunk(cookie, flags, chunkData, 8+len(data))
	p.head = binary.BigEndian.AppendUint64(p.head, offset)
	p.add(data)
}

// hole appends a chunk: offset (8) | length (4).
func (p *reply) hole(cookie, offset uint64, length uint32, flags uint16) {
	p.chunk(cookie, flags, chunkHole, 12)
	p.head = binary.BigEndian.AppendUint64(p.head, offset)
	p.head = binary.BigEndian.AppendUint32(p.head, length)
	p.add(nil)
}

// none appends an empty last chunk.
func (p *reply) none(cookie uint64) {
	p.chunk(cookie, chunkDone, chunkNone, 0)
	p.add(nil)
}

// status appends a chunk: context (4) | extents, each length (4) flags (4).
func (p *reply) status(cookie uint64, context uint32, extents []byte, flags uint16) {
	p.chunk(cookie, flags, chunkStatus, 4+len(extents))
	p.head = binary.BigEndian.AppendUint32(p.head, context)
	p.add(extents)
}

// fail appends an error chunk: error (4) | text length (2) | text, and for
// one that has a place, offset (8).
func (p *reply) fail(cookie uint64, e errno, text string, offset *uint64) {
	text = clip(text, maxErrorText)
	p.errno = e
	kind, length := chunkError, 6+len(text)
	if offset != nil {
		kind, length = chunkErrorOffset, length+8
	}
	p.chunk(cookie, chunkDone, kind, length)
	p.head = binary.BigEndian.AppendUint32(p.head, uint32(e))
	p.head = binary.BigEndian.AppendUint16(p.head, uint16(len(text)))
	p.head = append(p.head, text...)
	if offset != nil {
		p.head = binary.BigEndian.AppendUint64(p.head, *offset)
	}
	p.add(nil)
}
