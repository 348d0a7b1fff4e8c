package nbdclient

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"syscall"
)

// readReply reads one simple reply, or one chunk of a structured reply, and hands
// it to its call. An error ends the connection: the stream cannot be trusted any
// more.
func (c *Conn) readReply(r io.Reader) error {
	var h [20]byte
	if _, err := io.ReadFull(r, h[:16]); err != nil {
		return err
	}
	switch binary.BigEndian.Uint32(h[:]) {
	case magicSimple:
		return c.readSimple(binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint64(h[8:]))
	case magicChunk:
		if _, err := io.ReadFull(r, h[16:]); err != nil {
			return err
		}
		return c.readChunk(r, &h)
	}
	return fmt.Errorf("%w: reply %x", ErrProtocol, h[:16])
}

// readSimple takes a reply without a payload. Servers may answer so what has
// nothing to tell, even when structured replies were agreed on.
func (c *Conn) readSimple(code uint32, cookie uint64) error {
	k, err := c.lookup(cookie, true)
	if err != nil {
		return err
	}
	switch {
	case code != 0:
		k.done <- replyError(code, nil)
	case k.kind == cmdRead || k.kind == cmdStatus:
		err = fmt.Errorf("%w: a simple reply to command %d", ErrProtocol, k.kind)
		k.done <- err
	default:
		k.done <- k.result()
	}
	return err
}

func (c *Conn) readChunk(r io.Reader, h *[20]byte) error {
	flags, kind := binary.BigEndian.Uint16(h[4:]), binary.BigEndian.Uint16(h[6:])
	cookie := binary.BigEndian.Uint64(h[8:])
	k, err := c.lookup(cookie, false)
	if err != nil {
		return err
	}
	if err := c.readPayload(r, k, kind, binary.BigEndian.Uint32(h[16:])); err != nil {
		return err
	}
	if flags&chunkDone != 0 {
		if _, err := c.lookup(cookie, true); err != nil {
			return err
		}
		k.done <- k.result()
	}
	return nil
}

func (k *call) result() error {
	switch {
	case k.err != nil:
		return k.err
	case k.missing != 0:
		return fmt.Errorf("%w: %d bytes of a read did not come", ErrProtocol, k.missing)
	case k.kind == cmdStatus && len(k.extents) == 0:
		return fmt.Errorf("%w: no extents", ErrProtocol)
	}
	return nil
}

func (c *Conn) readPayload(r io.Reader, k *call, kind uint16, n uint32) error {
	switch {
	case kind == chunkNone && n == 0:
		return nil
	case kind == chunkData && n > 8:
		return k.readData(r, n-8)
	case kind == chunkHole && n == 12:
		return k.readHole(r)
	case kind == chunkStatus && k.kind == cmdStatus && n >= 12 && n <= statusPayloadMax && (n-4)%8 == 0:
		return c.readStatus(r, k, n)
	case kind&chunkErrBit != 0 && n >= 6 && n <= errorPayloadMax:
		return k.readError(r, kind, n)
	}
	return fmt.Errorf("%w: reply of type %d with %d bytes", ErrProtocol, kind, n)
}

// place checks that a chunk lies within the read and returns its part of dst.
func (k *call) place(off uint64, n uint32) ([]byte, error) {
	at := off - uint64(k.off) // wraps to a huge number when off is too small
	if at > uint64(len(k.dst)) || uint64(n) > uint64(len(k.dst))-at || int(n) > k.missing {
		return nil, fmt.Errorf("%w: %d bytes at %d are not part of the read of %d at %d", ErrProtocol, n, off, len(k.dst), k.off)
	}
	k.missing -= int(n)
	return k.dst[at:][:n], nil
}

func (k *call) readData(r io.Reader, n uint32) error {
	var off [8]byte
	if _, err := io.ReadFull(r, off[:]); err != nil {
		return err
	}
	dst, err := k.place(binary.BigEndian.Uint64(off[:]), n)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(r, dst)
	return err
}

func (k *call) readHole(r io.Reader) error {
	var b [12]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	dst, err := k.place(binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint32(b[8:]))
	clear(dst)
	return err
}

func (c *Conn) readStatus(r io.Reader, k *call, n uint32) error {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	id := binary.BigEndian.Uint32(b)
	if id != k.context && c.selected(id) {
		return nil // the server tells of every context, each time
	}
	if id != k.context || len(k.extents) > 0 {
		return fmt.Errorf("%w: extents of a context nobody asked for", ErrProtocol)
	}
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := extent{length: int64(binary.BigEndian.Uint32(b)), flags: binary.BigEndian.Uint32(b[4:])}
		if e.length == 0 {
			return fmt.Errorf("%w: an extent of no length", ErrProtocol)
		}
		k.extents = append(k.extents, e)
	}
	return nil
}

func (c *Conn) selected(id uint32) bool {
	for _, have := range c.contexts {
		if have == id {
			return true
		}
	}
	return false
}

func (k *call) readError(r io.Reader, kind uint16, n uint32) error {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	text := b[6:]
	size := int(binary.BigEndian.Uint16(b[4:]))
	if size > len(text) || kind == chunkErrAt && len(text)-size != 8 {
		return fmt.Errorf("%w: error reply %x", ErrProtocol, b)
	}
	if k.err == nil {
		k.err = replyError(binary.BigEndian.Uint32(b), text[:size])
	}
	k.missing = 0
	return nil
}

// ServerError is an error the server answered a request with.
type ServerError struct {
	Errno syscall.Errno
	Text  string // what the server says of it, may be empty
}

func (e *ServerError) Error() string {
	if e.Text == "" {
		return "the server answers: " + e.Errno.Error()
	}
	return fmt.Sprintf("the server answers: %s (%v)", e.Text, e.Errno)
}

func (e *ServerError) Unwrap() error { return e.Errno }

// replyError makes an error of what came over the wire: an errno of which only
// some values are defined, and text that is printed but not trusted.
func replyError(code uint32, text []byte) error {
	e := &ServerError{Errno: syscall.EIO}
	if code > 0 && code < 256 {
		e.Errno = syscall.Errno(code)
	}
	if quoted := strconv.QuoteToGraphic(string(text)); len(text) > 0 {
		e.Text = quoted[1 : len(quoted)-1]
	}
	return e
}
