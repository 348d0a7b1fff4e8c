package nbd

import (
	"context"
	"encoding/binary"
	"unicode/utf8"
)

// validName says whether a string of the wire can name an export.
func validName(b []byte) bool {
	if len(b) > maxString || !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c == 0 {
			return false
		}
	}
	return true
}

// cutString takes a string with a 32-bit length off b.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(n) > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// infoRequest is the data of INFO and GO.
type infoRequest struct {
	name string
	// wanted has a bit for each information type asked for that we know.
	wanted uint8
}

func (r infoRequest) wants(info uint16) bool { return r.wanted&(1<<info) != 0 }

// parseInfo decodes the data of INFO and GO:
//
//	name length (4) | name | count (2) | count × information type (2)
func parseInfo(data []byte) (r infoRequest, ok bool) {
	name, rest, ok := cutString(data)
	if !ok || !validName(name) || len(rest) < 2 {
		return r, false
	}
	count := int(binary.BigEndian.Uint16(rest))
	if rest = rest[2:]; len(rest) != 2*count {
		return r, false
	}
	r.name = string(name)
	for ; len(rest) > 0; rest = rest[2:] {
		if t := binary.BigEndian.Uint16(rest); t <= infoBlockSize {
			r.wanted |= 1 << t
		}
	}
	return r, true
}

// parseMeta decodes the data of the META_CONTEXT options:
//
//	name length (4) | name | count (4) | count × (length (4) | query)
//
// tooMany is set instead of queries when there are more than maxQueries.
func parseMeta(data []byte) (name string, queries []string, tooMany, ok bool) {
	n, rest, ok := cutString(data)
	if !ok || !validName(n) || len(rest) < 4 {
		return "", nil, false, false
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	for i := uint32(0); i < count; i++ {
		var q []byte
		if q, rest, ok = cutString(rest); !ok || !validName(q) {
			return "", nil, false, false
		}
		if i < maxQueries {
			queries = append(queries, string(q))
		}
	}
	if len(rest) > 0 {
		return "", nil, false, false
	}
	return string(n), queries, count > maxQueries, true
}

// lookup is a context for one question to Exports.
func (n *negotiation) lookup() (context.Context, context.CancelFunc) {
	return context.WithTimeout(n.c.srv.ctx, n.c.srv.limits.HandshakeTimeout)
}

func (n *negotiation) list() error {
	if len(n.data) > 0 {
		n.fail(optList, repErrInvalid, "LIST takes no data")
		return nil
	}
	ctx, cancel := n.lookup()
	defer cancel()
	all, err := n.c.srv.exports.List(ctx)
	if err != nil {
		n.failExport(optList, err)
		return nil
	}
	for _, e := range all[:min(len(all), maxListed)] {
		if !validName([]byte(e.Name)) {
			continue
		}
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(e.Name)))
		n.reply(optList, repServer, length[:], []byte(e.Name), []byte(clip(e.Description, maxString)))
		n.options += optionsPerListed
		if len(n.out) < streamBuffer {
			continue
		}
		if err := n.send(); err != nil {
			return err
		}
	}
	n.reply(optList, repAck)
	return nil
}

func (n *negotiation) info() {
	r, ok := parseInfo(n.data)
	if !ok {
		n.fail(optInfo, repErrInvalid, "malformed INFO request")
		return
	}
	ctx, cancel := n.lookup()
	defer cancel()
	info, size, err := n.c.srv.exports.Stat(ctx, r.name)
	if err != nil {
		n.failExport(optInfo, err)
		return
	}
	n.describe(optInfo, r, info, uint64(size))
}

// enter answers GO.
func (n *negotiation) enter() (*admitted, error) {
	r, ok := parseInfo(n.data)
	if !ok {
		n.fail(optGo, repErrInvalid, "malformed GO request")
		return nil, nil
	}
	a, err := n.admit(r.name)
	if err != nil {
		n.failExport(optGo, err)
		return nil, nil
	}
	n.describe(optGo, r, a.info, n.c.size)
	return a, n.send()
}

// exportName answers EXPORT_NAME, which knows no errors.
func (n *negotiation) exportName(ok bool) (*admitted, error) {
	if !ok || !validName(n.data) {
		return nil, errBadName
	}
	a, err := n.admit(string(n.data))
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint64(n.out, n.c.size)
	b = binary.BigEndian.AppendUint16(b, transmissionFlags(a.info.ReadOnly, n.structured))
	if !n.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	n.out = b
	return a, n.send()
}

// admit opens the export and fixes what transmission needs to know.
func (n *negotiation) admit(name string) (*admitted, error) {
	c := n.c
	var contexts []string
	if n.structured && n.metaFor == name {
		contexts = n.meta
	}
	a, err := c.srv.admit(c.srv.ctx, c, name, contexts)
	// The client was silent because it had to wait for us.
	c.allowHandshake(c.srv.limits.HandshakeTimeout)
	if err != nil {
		return nil, err
	}
	c.at = a
	c.size = uint64(a.dev.Size())
	c.structured = n.structured
	return a, nil
}

// describe appends the information replies and the ACK of INFO and GO.
func (n *negotiation) describe(id uint32, r infoRequest, info Info, size uint64) {
	u16 := func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
	b := u16(infoExport)
	b = binary.BigEndian.AppendUint64(b, size)
	b = binary.BigEndian.AppendUint16(b, transmissionFlags(info.ReadOnly, n.structured))
	n.reply(id, repInfo, b)
	if r.wants(infoName) {
		name := info.Name
		if name == "" {
			name = r.name
		}
		n.reply(id, repInfo, u16(infoName), []byte(name))
	}
	if r.wants(infoDescription) && info.Description != "" {
		n.reply(id, repInfo, u16(infoDescription), []byte(clip(info.Description, maxString)))
	}
	if r.wants(infoBlockSize) {
		b := u16(infoBlockSize)
		b = binary.BigEndian.AppendUint32(b, minBlock)
		b = binary.BigEndian.AppendUint32(b, preferredBlock)
		b = binary.BigEndian.AppendUint32(b, maxPayload)
		n.reply(id, repInfo, b)
	}
	n.reply(id, repAck)
}
