package nbdclient

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// chunk builds a structured reply chunk.
func chunk(flags, kind uint16, cookie uint64, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicChunk)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// FuzzReplies feeds a stream to a read of 4096 bytes at 8192 (cookie 1), a
// status request (cookie 2), and a write (cookie 3). Nothing may panic, a read that
// succeeds has had each of its bytes counted, and a status request has extents.
func FuzzReplies(f *testing.F) {
	at := func(off uint64, rest ...byte) []byte { return append(binary.BigEndian.AppendUint64(nil, off), rest...) }
	whole := at(8192, bytes.Repeat([]byte{7}, 4096)...)
	f.Add(chunk(chunkDone, chunkData, 1, whole))
	f.Add(chunk(chunkDone, chunkHole, 1, at(8192, 0, 0, 16, 0)))
	f.Add(append(chunk(0, chunkHole, 1, at(8192, 0, 0, 8, 0)), chunk(chunkDone, chunkHole, 1, at(10240, 0, 0, 8, 0))...))
	f.Add(chunk(chunkDone, chunkData, 1, at(0, 1)))
	f.Add(chunk(chunkDone, chunkErrBit|1, 1, []byte{0, 0, 0, 5, 0, 3, 'b', 'a', 'd'}))
	f.Add(chunk(chunkDone, chunkStatus, 2, []byte{0, 0, 0, 9, 0, 0, 16, 0, 0, 0, 0, 3}))
	f.Add(chunk(chunkDone, chunkNone, 3, nil))
	simple := func(code uint32, cookie uint64) []byte {
		b := binary.BigEndian.AppendUint32(nil, magicSimple)
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, code), cookie)
	}
	f.Add(append(simple(0, 3), simple(28, 1)...))
	f.Add(append(simple(28, 3), simple(0, 2)...))
	f.Add(append(chunk(0, chunkStatus, 2, []byte{0, 0, 0, 10, 0, 0, 16, 0, 0, 0, 0, 1}), chunk(chunkDone, chunkStatus, 2, []byte{0, 0, 0, 9, 0, 0, 16, 0, 0, 0, 0, 3})...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := &Conn{size: 1 << 20, contexts: map[string]uint32{Allocation: 9, "x:y": 10}, pending: map[uint64]*call{}}
		read := &call{kind: cmdRead, dst: make([]byte, 4096), off: 8192, missing: 4096, done: make(chan error, 1)}
		status := &call{kind: cmdStatus, context: 9, done: make(chan error, 1)}
		write := &call{kind: cmdWrite, payload: make([]byte, 10), done: make(chan error, 1)}
		c.pending[1], c.pending[2], c.pending[3] = read, status, write
		r := bytes.NewReader(stream)
		for c.readReply(r) == nil {
		}
		select {
		case err := <-read.done:
			if err == nil && read.missing != 0 {
				t.Fatalf("a read succeeded with %d bytes missing", read.missing)
			}
		default:
		}
		select {
		case err := <-status.done:
			if err == nil && len(status.extents) == 0 {
				t.Fatal("a status request succeeded without an extent")
			}
		default:
		}
	})
}

// FuzzHandshake answers the handshake with a stream.
func FuzzHandshake(f *testing.F) {
	greeting := binary.BigEndian.AppendUint64(nil, magicGreeting)
	greeting = binary.BigEndian.AppendUint64(greeting, magicOption)
	greeting = append(greeting, 0, 3)
	reply := func(opt, kind uint32, data string) []byte {
		b := binary.BigEndian.AppendUint64(nil, magicReply)
		b = binary.BigEndian.AppendUint32(b, opt)
		b = binary.BigEndian.AppendUint32(b, kind)
		return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
	}
	f.Add(greeting)
	f.Add(bytes.Join([][]byte{greeting, reply(optStructured, repAck, ""), reply(optSetContext, repMeta, "\x00\x00\x00\x01"+Allocation),
		reply(optSetContext, repAck, ""), reply(optGo, repInfo, "\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x01"), reply(optGo, repAck, "")}, nil))
	f.Add(bytes.Join([][]byte{greeting, reply(optStructured, repErrBit|1, "no")}, nil))
	f.Fuzz(func(t *testing.T, stream []byte) {
		h := &handshake{nc: &script{r: bytes.NewReader(stream)}}
		if err := h.run(Target{Export: "e"}); err == nil && h.size < 0 {
			t.Fatalf("size %d", h.size)
		}
	})
}

// script is a connection that reads from r and forgets what is written.
type script struct {
	net.Conn
	r io.Reader
}

func (s *script) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s *script) Write(p []byte) (int, error) { return len(p), nil }
