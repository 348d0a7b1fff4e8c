package nbdio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// Requests and flags that go-nbd's protocol package does not name.
const (
	typeFlush      = uint16(3)
	typeTrim       = uint16(4)
	typeWriteZeros = uint16(6)

	flagNoHole = uint16(1 << 1)
)

// Client is an open export. Its methods may be called concurrently; requests
// go one after another. Offsets and lengths are bytes.
type Client struct {
	Flags uint16 // the export's transmission flags

	size int64
	mu   sync.Mutex
	conn net.Conn
	tag  uint64
}

// Size is the export's.
func (c *Client) Size() int64 { return c.size }

// ReadAt fills p.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	return len(p), c.request(protocol.TRANSMISSION_TYPE_REQUEST_READ, 0, off, uint32(len(p)), nil, p)
}

// WriteAt sends p and waits for the server's word.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	return len(p), c.request(protocol.TRANSMISSION_TYPE_REQUEST_WRITE, 0, off, uint32(len(p)), p, nil)
}

// Zero makes n bytes read as zeros, in the way QEMU's backup asks for it
// (NO_HOLE).
func (c *Client) Zero(off, n int64) error {
	return c.request(typeWriteZeros, flagNoHole, off, uint32(n), nil, nil)
}

// Trim discards n bytes.
func (c *Client) Trim(off, n int64) error { return c.request(typeTrim, 0, off, uint32(n), nil, nil) }

// Flush makes answered writes durable.
func (c *Client) Flush() error { return c.request(typeFlush, 0, 0, 0, nil, nil) }

// Close says goodbye (DISC) and ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(c.header(protocol.TRANSMISSION_TYPE_REQUEST_DISC, 0, 0, 0))
	c.conn.Close()
	return err
}

// Drop ends the connection without a word, as a client that dies does.
func (c *Client) Drop() { c.conn.Close() }

func (c *Client) header(kind, flags uint16, off int64, length uint32) []byte {
	c.tag++
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, protocol.TransmissionRequestHeader{
		RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST, CommandFlags: flags, Type: kind,
		Handle: c.tag, Offset: uint64(off), Length: length,
	})
	return b.Bytes()
}

func (c *Client) request(kind, flags uint16, off int64, length uint32, send, receive []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	message := net.Buffers{c.header(kind, flags, off, length), send}
	if _, err := message.WriteTo(c.conn); err != nil {
		return err
	}
	var r protocol.TransmissionReplyHeader
	if err := binary.Read(c.conn, binary.BigEndian, &r); err != nil {
		return err
	}
	if r.ReplyMagic != protocol.TRANSMISSION_MAGIC_REPLY || r.Handle != c.tag {
		return fmt.Errorf("nbd: bad reply: magic %#x, handle %d for %d", r.ReplyMagic, r.Handle, c.tag)
	}
	if r.Error != 0 {
		return fmt.Errorf("nbd request %d at %d+%d: %w", kind, off, length, syscall.Errno(r.Error))
	}
	_, err := io.ReadFull(c.conn, receive)
	return err
}
