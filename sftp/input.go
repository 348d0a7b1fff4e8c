package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// input cuts the stream of a session into packets:
//
//	length (4) | type (1) | id (4) | …       length counts what follows it
type input struct {
	src  io.Reader
	buf  []byte
	r, w int  // buf[r:w] is to be parsed
	full bool // the last read filled it: the client is ahead
}

func newInput(src io.Reader) *input { return &input{src: src, buf: make([]byte, inputMin)} }

// next is the next packet without its length, if all of it has been read; the
// slice is valid until fill. An error is the end of the session.
func (in *input) next() (packet []byte, ok bool, err error) {
	have := in.buf[in.r:in.w]
	if len(have) < 4 {
		return nil, false, nil
	}
	n := binary.BigEndian.Uint32(have)
	switch {
	case n == 0:
		return nil, false, fmt.Errorf("%w: an empty packet", errProtocol)
	case n > packetMax:
		return nil, false, fmt.Errorf("%w: a packet of %d bytes, at most %d are taken", errProtocol, n, packetMax)
	case len(have) < 4+int(n):
		in.need(4 + int(n))
		return nil, false, nil
	}
	in.r += 4 + int(n)
	return have[4 : 4+n : 4+n], true, nil
}

// need makes the buffer large enough for a packet that is under way.
func (in *input) need(n int) {
	if n > len(in.buf) {
		in.grow()
	}
	if in.r+n > len(in.buf) {
		in.compact()
	}
}

func (in *input) grow() {
	old := in.buf
	in.buf = make([]byte, inputMax)
	in.w = copy(in.buf, old[in.r:in.w])
	in.r = 0
}

func (in *input) compact() {
	in.w = copy(in.buf, in.buf[in.r:in.w])
	in.r = 0
}

// fill reads once, waiting for bytes. io.EOF comes only between packets.
func (in *input) fill() error {
	switch {
	case in.full && len(in.buf) < inputMax:
		in.grow()
	case in.r == in.w || in.w == len(in.buf):
		in.compact()
	}
	n, err := in.src.Read(in.buf[in.w:])
	in.w += n
	in.full = in.w == len(in.buf)
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) && in.r != in.w {
		return errCutOff
	}
	return err
}
