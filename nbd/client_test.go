package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// The constants of the wire are written down here once more, from the
// protocol's text, so that a typing error in the server cannot hide.
const (
	optExportName, optAbort, optList, optStartTLS = 1, 2, 3, 5
	optInfo, optGo, optStructured                 = 6, 7, 8
	optListMeta, optSetMeta, optExtended          = 9, 10, 11

	repAck, repServer, repInfo, repMeta = 1, 2, 3, 4

	errUnsup, errPolicy, errInvalid, errTLSReqd = 1<<31 | 1, 1<<31 | 2, 1<<31 | 3, 1<<31 | 5
	errUnknown, errShutdown, errTooBig          = 1<<31 | 6, 1<<31 | 7, 1<<31 | 9

	cmdRead, cmdWrite, cmdDisc, cmdFlush   = 0, 1, 2, 3
	cmdTrim, cmdCache, cmdZero, cmdStatus  = 4, 5, 6, 7
	fFUA, fNoHole, fDF, fReqOne, fFastZero = 1, 2, 4, 8, 16

	eOK, ePERM, eIO, eINVAL, eNOSPC     = 0, 1, 5, 22, 28
	eOVERFLOW, eNOTSUP                  = 75, 95
	cDone, cNone, cData, cHole, cStatus = 1, 0, 1, 2, 5
	cError, cErrorOffset                = 1<<15 | 1, 1<<15 | 2

	fixed, noZeroes = 1, 2
)

const mib = 1 << 20

// noDeadline takes a deadline away.
var noDeadline time.Time

// patience bounds every wait of the tests; it is never reached when all is well.
const patience = 20 * time.Second

// world is a server with exports, listening on a unix socket and loopback.
type world struct {
	t       testing.TB
	srv     *nbd.Server
	exports *nbdtest.Exports
	disk    *nbdtest.Disk // export "e"
	unix    string
	tcp     string

	mu       sync.Mutex
	closes   []nbd.ConnEvent
	failures []error
	requests []nbd.RequestEvent
}

const diskSize = 8 * mib

// newWorld starts a server. change may alter the options.
func newWorld(t testing.TB, change func(*nbd.Options)) *world {
	t.Helper()
	w := &world{t: t, exports: new(nbdtest.Exports), disk: nbdtest.NewDisk(diskSize)}
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "e", Description: "a disk"}, Disk: w.disk})
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "ro", ReadOnly: true}, Disk: w.disk})
	o := nbd.Options{Exports: w.exports, Events: w.events()}
	if change != nil {
		change(&o)
	}
	var err error
	if w.srv, err = nbd.New(o); err != nil {
		t.Fatal(err)
	}
	w.unix = filepath.Join(t.TempDir(), "s")
	w.listen("unix", w.unix)
	w.tcp = w.listen("tcp", "127.0.0.1:0")
	t.Cleanup(w.stop)
	return w
}

func (w *world) events() nbd.Events {
	return nbd.Events{
		ConnClose: func(e nbd.ConnEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.closes = append(w.closes, e)
		},
		HandshakeFailed: func(_ nbd.Peer, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failures = append(w.failures, err)
		},
		RequestError: func(e nbd.RequestEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.requests = append(w.requests, e)
		},
	}
}

func (w *world) listen(network, addr string) string {
	w.t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve(context.Background(), ln) }()
	w.t.Cleanup(func() {
		if err := <-served; !errors.Is(err, nbd.ErrServerClosed) {
			w.t.Errorf("Serve returned %v", err)
		}
	})
	return ln.Addr().String()
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.srv.Shutdown(ctx); err != nil {
		w.t.Errorf("Shutdown: %v", err)
	}
	if o, c := w.disk.Opened.Load(), w.disk.Closed.Load(); o != c {
		w.t.Errorf("%d devices opened, %d closed", o, c)
	}
	if b := w.srv.Stats().BudgetBytes; b != 0 {
		w.t.Errorf("%d bytes of the budget are still lent", b)
	}
}

// uri names an export over the unix socket.
func (w *world) uri(export string) string {
	return "nbd+unix:///" + export + "?socket=" + w.unix
}

// client is a client that can do everything wrong.
type client struct {
	t testing.TB
	net.Conn
	structured bool
	cookie     uint64
}

func (w *world) dial() *client    { w.t.Helper(); return dial(w.t, "unix", w.unix) }
func (w *world) dialTCP() *client { w.t.Helper(); return dial(w.t, "tcp", w.tcp) }

func dial(t testing.TB, network, addr string) *client {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return adopt(t, c)
}

func adopt(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{t: t, Conn: c, cookie: 0xfeedface00000000}
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func (c *client) put(parts ...[]byte) {
	c.t.Helper()
	if _, err := c.Write(cat(parts...)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *client) get(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

func (c *client) get16() uint16 { c.t.Helper(); return binary.BigEndian.Uint16(c.get(2)) }
func (c *client) get32() uint32 { c.t.Helper(); return binary.BigEndian.Uint32(c.get(4)) }
func (c *client) get64() uint64 { c.t.Helper(); return binary.BigEndian.Uint64(c.get(8)) }

// gone waits for the server to close the connection without another byte.
func (c *client) gone() {
	c.t.Helper()
	// Sooner than the handshake timeout, which must not be what ends it.
	_ = c.SetReadDeadline(time.Now().Add(8 * time.Second))
	b, err := io.ReadAll(c)
	if len(b) > 0 {
		c.t.Fatalf("server sent %d bytes (%x) instead of closing", len(b), b[:min(len(b), 64)])
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("server did not close the connection")
	}
}

// hello does the greeting.
func (c *client) hello(flags uint32) *client {
	c.t.Helper()
	if got, want := c.get(16), []byte("NBDMAGICIHAVEOPT"); !bytes.Equal(got, want) {
		c.t.Fatalf("greeting %q", got)
	}
	if got := c.get16(); got != fixed|noZeroes {
		c.t.Fatalf("handshake flags %#x", got)
	}
	c.put(be32(flags))
	return c
}

// option sends an option.
func (c *client) option(id uint32, data []byte) {
	c.t.Helper()
	c.put([]byte("IHAVEOPT"), be32(id), be32(uint32(len(data))), data)
}

type optReply struct {
	rep  uint32
	data []byte
}

// answer reads one option reply.
func (c *client) answer(id uint32) optReply {
	c.t.Helper()
	if got := c.get64(); got != 0x3e889045565a9 {
		c.t.Fatalf("option reply magic %#x", got)
	}
	if got := c.get32(); got != id {
		c.t.Fatalf("reply to option %d instead of %d", got, id)
	}
	r := optReply{rep: c.get32()}
	n := c.get32()
	if n > mib {
		c.t.Fatalf("option reply of %d bytes", n)
	}
	r.data = c.get(int(n))
	return r
}

// answers reads replies up to and with the final one.
func (c *client) answers(id uint32) []optReply {
	c.t.Helper()
	var l []optReply
	for {
		r := c.answer(id)
		l = append(l, r)
		if r.rep == repAck || r.rep&(1<<31) != 0 {
			return l
		}
	}
}

// expect sends an option and wants a single reply of a type.
func (c *client) expect(id uint32, data []byte, rep uint32) optReply {
	c.t.Helper()
	c.option(id, data)
	r := c.answer(id)
	if r.rep != rep {
		c.t.Fatalf("option %d: reply %#x %q, want %#x", id, r.rep, r.data, rep)
	}
	return r
}

func infoData(name string, infos ...uint16) []byte {
	b := cat(be32(uint32(len(name))), []byte(name), be16(uint16(len(infos))))
	for _, i := range infos {
		b = append(b, be16(i)...)
	}
	return b
}

func metaData(name string, queries ...string) []byte {
	b := cat(be32(uint32(len(name))), []byte(name), be32(uint32(len(queries))))
	for _, q := range queries {
		b = cat(b, be32(uint32(len(q))), []byte(q))
	}
	return b
}

// goInfo is what GO told.
type goInfo struct {
	size  uint64
	flags uint16
	infos map[uint16][]byte
}

// enter sends INFO or GO and reads a good answer.
func (c *client) enter(id uint32, name string, infos ...uint16) goInfo {
	c.t.Helper()
	c.option(id, infoData(name, infos...))
	g := goInfo{infos: make(map[uint16][]byte)}
	l := c.answers(id)
	for _, r := range l[:len(l)-1] {
		if r.rep != repInfo {
			c.t.Fatalf("reply %#x to INFO or GO", r.rep)
		}
		g.infos[binary.BigEndian.Uint16(r.data)] = r.data[2:]
	}
	if last := l[len(l)-1]; last.rep != repAck {
		c.t.Fatalf("GO %q: reply %#x %q", name, last.rep, last.data)
	}
	e := g.infos[0]
	if len(e) != 10 {
		c.t.Fatalf("INFO_EXPORT has %d bytes", len(e))
	}
	g.size, g.flags = binary.BigEndian.Uint64(e), binary.BigEndian.Uint16(e[8:])
	return g
}

// simple connects with simple replies.
func (w *world) simple(name string) *client {
	w.t.Helper()
	c := w.dial().hello(fixed | noZeroes)
	c.enter(optGo, name)
	return c
}

// modern connects as QEMU does, with structured replies and base:allocation.
func (w *world) modern(name string) *client {
	w.t.Helper()
	return w.dial().modern(name)
}

func (c *client) modern(name string) *client {
	c.t.Helper()
	c.hello(fixed | noZeroes)
	c.negotiateModern(name)
	return c
}

func (c *client) negotiateModern(name string) {
	c.t.Helper()
	c.expect(optStructured, nil, repAck)
	c.structured = true
	c.option(optSetMeta, metaData(name, "base:allocation"))
	if l := c.answers(optSetMeta); len(l) != 2 || l[0].rep != repMeta || l[1].rep != repAck {
		c.t.Fatalf("SET_META_CONTEXT: %v", l)
	}
	c.enter(optGo, name)
}

// request sends a request and returns its cookie.
func (c *client) request(cmd, flags uint16, off uint64, length uint32, payload ...[]byte) uint64 {
	c.t.Helper()
	c.cookie++
	c.put(append([][]byte{be32(0x25609513), be16(flags), be16(cmd), be64(c.cookie), be64(off), be32(length)}, payload...)...)
	return c.cookie
}

// chunk is one chunk of a structured reply; a simple reply is one too.
type chunk struct {
	simple bool
	flags  uint16
	kind   uint16
	cookie uint64
	data   []byte
}

// chunk reads one chunk; n is the data length of a good simple reply.
func (c *client) chunk(n int) chunk {
	c.t.Helper()
	switch m := c.get32(); m {
	case 0x67446698:
		k := chunk{simple: true, flags: cDone}
		e := c.get32()
		k.cookie = c.get64()
		if e != 0 {
			k.kind, k.data = cError, cat(be32(e), be16(0))
			return k
		}
		k.data = c.get(n)
		return k
	case 0x668e33ef:
		if !c.structured {
			c.t.Fatal("structured reply not negotiated")
		}
		k := chunk{flags: c.get16(), kind: c.get16(), cookie: c.get64()}
		length := c.get32()
		if length > 33*mib {
			c.t.Fatalf("chunk of %d bytes", length)
		}
		k.data = c.get(int(length))
		return k
	default:
		c.t.Fatalf("reply magic %#x", m)
		panic("unreachable")
	}
}

// outcome is the whole reply to one request.
type outcome struct {
	errno  uint32
	text   string
	at     *uint64
	data   []byte // READ: data put together
	chunks []chunk
	status [][2]uint32
}

// reply reads the whole reply to the request with the cookie.
func (c *client) reply(cmd uint16, cookie, off uint64, length uint32) outcome {
	c.t.Helper()
	n := 0
	if cmd == cmdRead {
		n = int(length)
	}
	var o outcome
	if cmd == cmdRead && c.structured && length <= 32*mib {
		o.data = bytes.Repeat([]byte{0xEE}, int(length))
	}
	for {
		k := c.chunk(n)
		if k.cookie != cookie {
			c.t.Fatalf("cookie %#x, want %#x", k.cookie, cookie)
		}
		o.chunks = append(o.chunks, k)
		c.take(&o, k, off)
		if k.simple && cmd == cmdRead && c.structured {
			c.t.Fatal("simple reply to READ although structured replies are on")
		}
		if k.flags&cDone != 0 {
			return o
		}
	}
}

func (c *client) take(o *outcome, k chunk, off uint64) {
	c.t.Helper()
	switch {
	case k.kind == cError || k.kind == cErrorOffset:
		o.errno = binary.BigEndian.Uint32(k.data)
		n := int(binary.BigEndian.Uint16(k.data[4:]))
		o.text = string(k.data[6 : 6+n])
		if k.kind == cErrorOffset {
			at := binary.BigEndian.Uint64(k.data[6+n:])
			o.at = &at
		}
		if len(k.data) > 950 {
			c.t.Fatalf("error chunk of %d bytes: QEMU would hang up", len(k.data))
		}
	case k.simple:
		o.data = k.data
	case k.kind == cData:
		copy(o.data[binary.BigEndian.Uint64(k.data)-off:], k.data[8:])
	case k.kind == cHole:
		at := binary.BigEndian.Uint64(k.data) - off
		clear(o.data[at : at+uint64(binary.BigEndian.Uint32(k.data[8:]))])
	case k.kind == cStatus:
		for b := k.data[4:]; len(b) > 0; b = b[8:] {
			o.status = append(o.status, [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
		}
	}
}

// do sends a request and reads its reply.
func (c *client) do(cmd, flags uint16, off uint64, length uint32, payload ...[]byte) outcome {
	c.t.Helper()
	cookie := c.request(cmd, flags, off, length, payload...)
	return c.reply(cmd, cookie, off, length)
}

// must wants success.
func (c *client) must(cmd, flags uint16, off uint64, length uint32, payload ...[]byte) outcome {
	c.t.Helper()
	o := c.do(cmd, flags, off, length, payload...)
	if o.errno != 0 {
		c.t.Fatalf("command %d at %d+%d: errno %d %q", cmd, off, length, o.errno, o.text)
	}
	return o
}

// alive shows that the connection is in step.
func (c *client) alive() {
	c.t.Helper()
	c.must(cmdRead, 0, 0, 1)
}

// bye disconnects in good order.
func (c *client) bye() {
	c.t.Helper()
	c.request(cmdDisc, 0, 0, 0)
	c.gone()
	c.Close()
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}

// pattern fills n bytes that differ by place and seed.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i>>8)*7 + byte(i)
	}
	return b
}
