package nbdclient

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Conn is an open export. Its methods may be called concurrently; each call is
// one request in flight.
type Conn struct {
	size     int64
	flags    uint16
	contexts map[string]uint32 // selected, and their ids
	nc       net.Conn
	stop     func() bool
	ended    chan struct{} // closed when the reader has returned

	writeMu sync.Mutex

	mu      sync.Mutex
	pending map[uint64]*call
	next    uint64
	err     error // why the connection ended
}

// call is a request in flight. The reader owns it from the write on until done.
type call struct {
	kind    uint16
	dst     []byte // READ: where the data goes
	off     int64  // READ: of dst[0]
	missing int    // READ: bytes that have not come
	payload []byte // WRITE: what is sent
	context uint32 // BLOCK_STATUS: the one that is wanted
	extents []extent
	err     error // first error chunk
	done    chan error
}

// extent is a part of a BLOCK_STATUS reply.
type extent struct {
	length int64
	flags  uint32
}

func newConn(h *handshake, stop func() bool) *Conn {
	c := &Conn{
		size: h.size, flags: h.flags, contexts: h.contexts,
		nc: h.nc, stop: stop, pending: map[uint64]*call{}, ended: make(chan struct{}),
	}
	go c.readReplies()
	return c
}

// Size is the export's, in bytes.
func (c *Conn) Size() int64 { return c.size }

// ReadOnly says that the export cannot be written.
func (c *Conn) ReadOnly() bool { return c.flags&exportReadOnly != 0 }

// ReadAt fills p, of at most ReadMax bytes, or fails. An error of the store
// wraps its syscall.Errno and carries the server's text.
func (c *Conn) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > ReadMax {
		return 0, fmt.Errorf("read of %d bytes at %d: more than %d at once", len(p), off, ReadMax)
	}
	if err := c.check("read", off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	err := c.do(off, uint32(len(p)), &call{kind: cmdRead, dst: p, off: off, missing: len(p)})
	if err != nil {
		return 0, fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
	}
	return len(p), nil
}

// check refuses a range that is not within the export.
func (c *Conn) check(what string, off, n int64) error {
	if off < 0 || n < 0 || off > c.size || n > c.size-off {
		return fmt.Errorf("%s of %d bytes at %d: outside the export of %d bytes", what, n, off, c.size)
	}
	return nil
}

// Close ends the connection, politely when nothing is in flight. A server that
// takes nothing any more holds it up for no longer than closeTimeout. Calls in
// flight fail.
func (c *Conn) Close() error {
	c.nc.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.writeMu.Lock()
	c.nc.Write(request(cmdDisc, 0, 0, 0))
	c.writeMu.Unlock()
	c.stop()
	err := c.nc.Close()
	<-c.ended
	return err
}

func request(kind uint16, cookie uint64, off int64, length uint32) []byte {
	b := make([]byte, 0, 28)
	b = binary.BigEndian.AppendUint32(b, magicRequest)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	return binary.BigEndian.AppendUint32(b, length)
}

// do sends one request and waits for its last reply.
func (c *Conn) do(off int64, length uint32, k *call) error {
	k.done = make(chan error, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	c.next++
	cookie := c.next
	c.pending[cookie] = k
	c.mu.Unlock()

	if err := c.send(request(k.kind, cookie, off, length), k.payload); err != nil {
		c.nc.Close() // the reader ends, and fails every call
	}
	return <-k.done
}

// send writes a request; the payload goes to the kernel from where it lies.
func (c *Conn) send(head, payload []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if len(payload) == 0 {
		_, err := c.nc.Write(head)
		return err
	}
	both := net.Buffers{head, payload}
	_, err := both.WriteTo(c.nc)
	return err
}

func (c *Conn) readReplies() {
	defer close(c.ended)
	r := bufio.NewReaderSize(c.nc, 256<<10)
	var err error
	for err == nil {
		err = c.readReply(r)
	}
	if err == io.EOF {
		err = fmt.Errorf("the server closed it: %w", io.ErrUnexpectedEOF)
	}
	c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("connection lost: %w", err)
	for _, k := range c.pending {
		k.done <- c.err
	}
	clear(c.pending)
}

// lookup finds the call a reply belongs to, and forgets it when it is the last.
func (c *Conn) lookup(cookie uint64, last bool) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.pending[cookie]
	if !ok {
		return nil, fmt.Errorf("%w: reply to a request never sent", ErrProtocol)
	}
	if last {
		delete(c.pending, cookie)
	}
	return k, nil
}
