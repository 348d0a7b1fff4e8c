package nbd_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
)

// gate holds back operations of a disk until it is opened.
type gate struct {
	ops  map[string]bool
	open chan struct{}
}

func (w *world) gate(ops ...string) *gate {
	g := &gate{ops: make(map[string]bool), open: make(chan struct{})}
	for _, op := range ops {
		g.ops[op] = true
	}
	w.disk.Intercept(func(op string, _, _ int64) error {
		if g.ops[op] {
			<-g.open
		}
		return nil
	})
	return g
}

// goLater connects and sends GO; the reply arrives on the channel.
func (w *world) goLater(name string) (*client, <-chan uint32) {
	w.t.Helper()
	c := w.dial().hello(fixed | noZeroes)
	c.option(optGo, infoData(name))
	got := make(chan uint32, 1)
	go func() {
		for {
			r := c.answer(optGo)
			if r.rep != repInfo {
				got <- r.rep
				return
			}
		}
	}()
	return c, got
}

// notYet gives a reply that must not come the chance to come.
func notYet(t *testing.T, got <-chan uint32) {
	t.Helper()
	select {
	case r := <-got:
		t.Fatalf("the newer connection was let in too early (reply %#x)", r)
	case <-time.After(50 * time.Millisecond):
	}
}

func ack(t *testing.T, got <-chan uint32) {
	t.Helper()
	select {
	case r := <-got:
		if r != repAck {
			t.Fatalf("GO: reply %#x", r)
		}
	case <-time.After(patience):
		t.Fatal("GO was not answered")
	}
}

// Connections that are well stay: that is what MULTI_CONN promises.
func TestFenceLeavesSiblings(t *testing.T) {
	w := newWorld(t, nil)
	var all []*client
	for i := range 8 {
		c := w.modern("e")
		if i%2 == 1 {
			c = w.dialTCP().modern("e")
		}
		all = append(all, c)
		for k, c := range all {
			c.must(cmdWrite, 0, uint64(k)*512, 512, pattern(512, byte(i)))
		}
	}
	for i, c := range all {
		// Each sees what the others have written.
		c.must(cmdFlush, 0, 0, 0)
		if o := c.must(cmdRead, 0, 0, 512); !bytes.Equal(o.data, pattern(512, 7)) {
			t.Errorf("connection %d sees old data", i)
		}
		c.bye()
	}
}

func TestFenceWaitsForWorkUnderWay(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("write")
	a := w.simple("e")
	a.request(cmdWrite, 0, 0, 3, []byte("old"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	b, got := w.goLater("e")
	notYet(t, got)
	close(g.open)
	ack(t, got)
	b.must(cmdWrite, 0, 0, 3, []byte("new"))
	if d := w.disk.Bytes()[:3]; string(d) != "new" {
		t.Errorf("%q", d)
	}
}

// The client of the old connection is dead; what it sent is not.
func TestFenceWaitsForADeadClientsWork(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("write")
	a := w.simple("e")
	a.request(cmdWrite, 0, 0, 3, []byte("old"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	a.Close()
	b, got := w.goLater("e")
	notYet(t, got)
	close(g.open)
	ack(t, got)
	b.must(cmdWrite, 0, 0, 3, []byte("new"))
	if d := w.disk.Bytes()[:3]; string(d) != "new" {
		t.Errorf("%q", d)
	}
}

// What lies unread in the receive buffer lands before the newer connection.
func TestFenceReadsWhatHasArrived(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			w := newWorld(t, func(o *nbd.Options) { o.Limits.InFlight = 1 })
			g := w.gate("write")
			a := w.dial()
			if network == "tcp" {
				a = w.dialTCP()
			}
			a.modern("e")
			const n = 5
			for range n {
				a.request(cmdWrite, 0, 0, 20_000, pattern(20_000, 1))
			}
			eventually(t, "a write has begun", func() bool { return w.disk.Busy.Load() == 1 })
			_, got := w.goLater("e")
			notYet(t, got)
			close(g.open)
			ack(t, got)
			if done := w.disk.Writes.Load(); done != n || w.disk.Busy.Load() != 0 {
				t.Errorf("%d of %d writes had landed when the newer connection was let in", done, n)
			}
			for range n {
				if k := a.chunk(0); k.kind != cNone {
					t.Errorf("chunk %+v", k)
				}
			}
			a.alive()
		})
	}
}

// A request that never becomes whole is dropped with its connection.
func TestFenceKillsHalfARequest(t *testing.T) {
	for name, send := range map[string][]byte{
		"half a header":   cat(be32(0x25609513), be16(0), be16(cmdWrite)),
		"half a payload":  cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(mib), pattern(300_000, 1)),
		"no payload":      cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(5)),
		"refused payload": cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(diskSize), be32(5), []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			a := w.simple("e")
			a.alive()
			a.put(send)
			_, got := w.goLater("e")
			ack(t, got)
			a.gone()
			if !bytes.Equal(w.disk.Bytes(), make([]byte, diskSize)) {
				t.Error("half a request was carried out")
			}
			eventually(t, "the end is reported", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return len(w.closes) == 1 && w.closes[0].Reason != nil
			})
		})
	}
}

// A client that leaves its replies unread would keep its requests unread, too.
func TestFenceKillsAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *nbd.Options) { o.Limits.InFlight = 2 })
	a := w.simple("e")
	for range 4 {
		a.request(cmdRead, 0, 0, 4*mib)
	}
	a.request(cmdWrite, 0, 0, 3, []byte("old"))
	eventually(t, "a reply is on its way", func() bool { return w.disk.Reads.Load() == 2 && w.disk.Busy.Load() == 0 })
	b, got := w.goLater("e")
	ack(t, got)
	b.must(cmdWrite, 0, 0, 3, []byte("new"))
	if d := w.disk.Bytes()[:3]; string(d) != "new" {
		t.Errorf("%q", d)
	}
	eventually(t, "the old connection has ended", func() bool { return w.srv.Stats().ConnectionsOpen == 1 })
}

// A sibling in the middle of heavy work is neither hurt nor waited for long.
func TestFenceOnABusySibling(t *testing.T) {
	for _, size := range []uint32{100, 1000, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { fenceOnABusySibling(t, size) })
	}
}

func fenceOnABusySibling(t *testing.T, size uint32) {
	w := newWorld(t, nil)
	a := w.simple("e")
	payload := pattern(int(size), 1)
	var stop atomic.Bool
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			b := cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(uint64(n)), be64(0), be32(size), payload)
			if _, err := a.Conn.Write(b); err != nil {
				t.Error(err)
				break
			}
		}
		sent <- n
	}()
	answered := make(chan int, 1)
	go func() {
		n := 0
		for buf := make([]byte, 16); ; n++ {
			if _, err := readFull(a.Conn, buf); err != nil {
				break
			}
		}
		answered <- n
	}()
	for range 20 {
		b := w.modern("e")
		b.must(cmdWrite, 0, mib, 3, []byte("new"))
		b.bye()
	}
	stop.Store(true)
	n := <-sent
	eventually(t, "all is done", func() bool { return w.disk.Writes.Load() == int64(n+20) && w.disk.Busy.Load() == 0 })
	if err := a.Conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got != n {
		t.Errorf("%d writes sent, %d answered", n, got)
	}
}

func TestFenceWithTLS(t *testing.T) {
	w := newTLSWorld(t, nil)
	a := w.dialTCP().hello(fixed | noZeroes).secure(w.config())
	a.negotiateModern("e")
	for range 5 {
		a.must(cmdWrite, 0, 0, 100_000, pattern(100_000, 1))
		b := w.dialTCP().hello(fixed | noZeroes).secure(w.config())
		b.negotiateModern("e")
		b.must(cmdWrite, 0, 0, 100_000, pattern(100_000, 2))
		a.alive()
	}
}

// Readers do not wait for each other.
func TestNoFenceOnReadOnlyExports(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gate("read")
	a := w.simple("ro")
	a.request(cmdRead, 0, 0, 10)
	a.put(be32(0x25609513))
	eventually(t, "the read has begun", func() bool { return w.disk.Busy.Load() == 1 })
	_, got := w.goLater("ro")
	ack(t, got)
	close(g.open)
}

// When the work of an old connection does not end, the newer one is refused.
func TestFenceGivesUp(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) { o.Limits.FenceTimeout = 100 * time.Millisecond })
	g := w.gate("write")
	a := w.simple("e")
	cookie := a.request(cmdWrite, 0, 0, 3, []byte("old"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	for range 3 {
		_, got := w.goLater("e")
		if r := <-got; r != errPolicy {
			t.Errorf("reply %#x", r)
		}
	}
	close(g.open)
	a.reply(cmdWrite, cookie, 0, 3)
	a.alive()
	_, got := w.goLater("e")
	ack(t, got)
	a.alive()
}

// farConn looks as if it came from another machine.
type farConn struct{ *net.UnixConn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711} }

// far connects as if from another machine.
func (w *world) far() *client {
	w.t.Helper()
	ln, err := net.Listen("unix", w.t.TempDir()+"/far")
	if err != nil {
		w.t.Fatal(err)
	}
	defer ln.Close()
	c := dial(w.t, "unix", ln.Addr().String())
	s, err := ln.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); w.srv.ServeConn(farConn{s.(*net.UnixConn)}) }()
	w.t.Cleanup(func() { c.Close(); <-ended })
	return c.hello(fixed | noZeroes)
}

// Over a network something may still be under way: an older connection that
// has written is closed before a newer one writes, one that has only read may
// stay. A newer one that does not write does no harm.
func TestFenceOverANetwork(t *testing.T) {
	w := newWorld(t, nil)
	reader, writer := w.far(), w.far()
	reader.enter(optGo, "e")
	reader.alive()
	writer.enter(optGo, "e")
	g := w.gate("write")
	cookie := writer.request(cmdWrite, 0, 0, 3, []byte("old"))
	eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
	b, got := w.goLater("e")
	notYet(t, got)
	close(g.open)
	ack(t, got)
	if o := writer.reply(cmdWrite, cookie, 0, 3); o.errno != 0 {
		t.Errorf("errno %d", o.errno)
	}
	b.alive()
	w.far().enter(optGo, "e")
	writer.must(cmdWrite, 0, 0, 3, []byte("mid"))
	b.must(cmdWrite, 0, 0, 3, []byte("new"))
	writer.gone()
	reader.alive()
	b.must(cmdWrite, 0, 0, 3, []byte("NEW"))
	if n := w.srv.Stats().Fenced; n != 1 {
		t.Errorf("%d connections fenced", n)
	}
}

// A race of connections, CloseExport and requests: nothing is left behind.
func TestAdmissionRaces(t *testing.T) {
	w := newWorld(t, nil)
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 20 {
				c, err := net.Dial("unix", w.unix)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				greeting, reply := make([]byte, 18), make([]byte, 20+12+20)
				_, _ = readFull(c, greeting)
				_, _ = c.Write(cat(be32(3), []byte("IHAVEOPT"), be32(optGo), be32(7), infoData("e")))
				_, _ = readFull(c, reply)
				_, _ = c.Write(cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(3), []byte("abc")))
				_, _ = readFull(c, reply[:16])
				c.Close()
			}
		}()
	}
	for ended := 0; ended < 8; {
		select {
		case <-done:
			ended++
		case <-time.After(time.Millisecond):
			w.srv.CloseExport("e", errors.New("test"))
		}
	}
	w.srv.CloseExport("e", errors.New("test"))
	eventually(t, "all connections have ended", func() bool { return w.srv.Stats().ConnectionsOpen == 0 })
}
