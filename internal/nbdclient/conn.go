package nbdclient

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
)

// Conn is an open export. Its methods may be called concurrently; each call is
// one request in flight.
type Conn struct {
	size    int64
	context uint32
	nc      net.Conn
	stop    func() bool
	ended   chan struct{} // closed when the reader has returned

	writeMu sync.Mutex

	mu      sync.Mutex
	pending map[uint64]*call
	next    uint64
	err     error // why the connection ended
}

// call is a request in flight. The reader owns it from the write on until done.
type call struct {
	dst     []byte // READ: where the data goes
	off     int64  // READ: of dst[0]
	missing int    // READ: bytes that have not come
	extents []Extent
	status  int64 // BLOCK_STATUS: length asked about, else 0
	err     error // first error chunk
	done    chan error
}

func newConn(h *handshake, stop func() bool) *Conn {
	c := &Conn{size: h.size, context: h.context, nc: h.nc, stop: stop, pending: map[uint64]*call{}, ended: make(chan struct{})}
	go c.readReplies()
	return c
}

// Size is the export's, in bytes.
func (c *Conn) Size() int64 { return c.size }

// ReadAt fills p, of at most ReadMax bytes, or fails. An error of the store
// wraps its syscall.Errno and carries the server's text.
func (c *Conn) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > ReadMax || off < 0 || int64(len(p)) > c.size-off {
		return 0, fmt.Errorf("read of %d bytes at %d: outside the export of %d bytes, or above %d", len(p), off, c.size, ReadMax)
	}
	if len(p) == 0 {
		return 0, nil
	}
	err := c.do(cmdRead, off, uint32(len(p)), &call{dst: p, off: off, missing: len(p)})
	if err != nil {
		return 0, fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
	}
	return len(p), nil
}

// Close ends the connection, politely when nothing is in flight.
func (c *Conn) Close() error {
	c.writeMu.Lock()
	c.nc.Write(request(cmdDisc, 0, 0, 0))
	c.writeMu.Unlock()
	c.stop()
	err := c.nc.Close()
	<-c.ended
	return err
}

func request(kind uint16, cookie uint64, off int64, length uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicRequest)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	return binary.BigEndian.AppendUint32(b, length)
}

// do sends one request and waits for its last reply.
func (c *Conn) do(kind uint16, off int64, length uint32, k *call) error {
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

	c.writeMu.Lock()
	_, err := c.nc.Write(request(kind, cookie, off, length))
	c.writeMu.Unlock()
	if err != nil {
		c.nc.Close() // the reader ends, and fails every call
	}
	return <-k.done
}

func (c *Conn) readReplies() {
	defer close(c.ended)
	r := bufio.NewReaderSize(c.nc, 256<<10)
	var err error
	for err == nil {
		err = c.readChunk(r)
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
