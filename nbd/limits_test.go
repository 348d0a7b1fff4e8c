package nbd_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

func TestBadLimits(t *testing.T) {
	for _, l := range []nbd.Limits{
		{Connections: -1}, {InFlight: -1}, {InFlight: 5000}, {MemoryBytes: 1 << 20},
		{HandshakeTimeout: -1}, {StallTimeout: -1}, {FenceTimeout: -1},
	} {
		if _, err := nbd.New(nbd.Options{Exports: new(nbdtest.Exports), Limits: l}); err == nil {
			t.Errorf("%+v accepted", l)
		}
	}
	if _, err := nbd.New(nbd.Options{}); err == nil {
		t.Error("no Exports accepted")
	}
}

// Slow clients do not get more time by saying a little now and then.
func TestHandshakeDeadline(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) { o.Limits.HandshakeTimeout = 150 * time.Millisecond })
	silent, chatty, half := w.dial(), w.dialTCP().hello(fixed), w.dial()
	half.put([]byte{0})
	gone := later(func() { _, _ = io.Copy(io.Discard, chatty) })
	for msg := bytes.Repeat(cat([]byte("IHAVEOPT"), be32(99), be32(1000), make([]byte, 1000)), 10); ; msg = msg[1:] {
		if _, err := chatty.Write(msg[:1]); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	<-gone
	half.get(18)
	half.gone()
	silent.get(18)
	silent.gone()
	eventually(t, "all have ended", func() bool { return w.srv.Stats().ConnectionsOpen == 0 })
}

func TestConnectionLimit(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) { o.Limits.Connections = 4 })
	var in []*client
	for range 4 {
		in = append(in, w.simple("ro"))
	}
	late := w.dial().hello(fixed)
	if r := late.expect(optGo, infoData("ro"), errPolicy); !strings.Contains(string(r.data), "connections") {
		t.Errorf("text %q", r.data)
	}
	late.expect(optStructured, nil, errPolicy)
	late.expect(optAbort, nil, repAck)
	late.gone()
	late = w.dial().hello(fixed)
	late.option(optExportName, []byte("ro"))
	late.gone()
	if out, err := tryTool("nbdinfo", w.uri("ro")); err == nil {
		t.Errorf("nbdinfo got in: %s", out)
	}
	// Too many even to be told.
	refused := w.srv.Stats().ConnectionsRefused
	for range 30 {
		w.dial()
	}
	eventually(t, "all 30 are refused", func() bool { return w.srv.Stats().ConnectionsRefused == refused+30 })
	if st := w.srv.Stats(); st.ConnectionsOpen != 4 || refused < 3 {
		t.Errorf("%+v", st)
	}
	for _, c := range in {
		c.alive()
	}
	in[0].bye()
	eventually(t, "there is room again", func() bool { return w.srv.Stats().ConnectionsOpen == 3 })
	w.simple("ro").alive()
}

// A request that has begun must go on; a connection between requests may rest.
func TestStallDeadline(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) { o.Limits.StallTimeout = 120 * time.Millisecond })
	write := cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(400))
	idle, slow := w.simple("e"), w.simple("e")
	for _, begun := range [][]byte{{0x25}, write[:27], write, cat(write, make([]byte, 399)),
		cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(diskSize), be32(400), make([]byte, 300))} {
		c := w.simple("ro")
		c.alive()
		c.put(begun)
		c.gone()
	}
	// Progress counts, however slow.
	slow.put(write)
	for range 40 {
		slow.put(make([]byte, 10))
		time.Sleep(10 * time.Millisecond)
	}
	if k := slow.chunk(0); k.kind != cNone {
		t.Errorf("chunk %+v", k)
	}
	idle.alive()
	slow.alive()
}

// peakHeap runs f and returns the most memory it had in use meanwhile.
func peakHeap(f func()) uint64 {
	var m runtime.MemStats
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what the tests throw away is not the server's
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, peak := m.HeapInuse, uint64(0)
	done := later(f)
	for {
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
		select {
		case <-done:
			return peak - min(base, peak)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Headers of huge writes whose payload never comes: memory stays within the
// budget and a well-behaved client goes on at once.
func TestFloodOfWriteHeaders(t *testing.T) {
	const budget = 64 * mib
	w := newWorld(t, func(o *nbd.Options) { o.Limits.MemoryBytes = budget })
	big := nbdtest.NewDisk(1 << 40)
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "big"}, Disk: big})
	good := w.modern("e")
	header := cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(32*mib))
	peak := peakHeap(func() {
		var flood []*client
		for range 16 {
			flood = append(flood, w.simple("big"))
		}
		for _, c := range flood {
			c.put(header, make([]byte, 100))
		}
		eventually(t, "the flood waits", func() bool { return w.srv.Stats().BudgetWaiting > 8 })
		for i := range 20 {
			good.must(cmdWrite, 0, 0, mib, pattern(mib, byte(i)))
		}
		for _, c := range flood {
			c.Close()
		}
	})
	if peak > budget+32*mib {
		t.Errorf("peak heap %d MiB with a budget of %d MiB", peak/mib, budget/mib)
	}
	eventually(t, "memory is given back", func() bool { return w.srv.Stats().BudgetBytes == 0 })
}

// With requests small enough to use the whole budget a good client has to
// wait, but not for ever: the deadline of a begun request frees the memory.
func TestFloodOfSmallerWrites(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) {
		o.Limits.MemoryBytes = 64 * mib
		o.Limits.StallTimeout = 150 * time.Millisecond
	})
	good := w.modern("e")
	header := cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(1), be64(0), be32(2*mib))
	var flood []*client
	for range 60 {
		flood = append(flood, w.simple("e"))
	}
	for _, c := range flood {
		c.put(header, make([]byte, 100))
	}
	eventually(t, "the budget is lent out", func() bool { return w.srv.Stats().BudgetWaiting > 0 })
	good.must(cmdWrite, 0, 0, 2*mib, pattern(2*mib, 1))
	for _, c := range flood {
		c.gone()
	}
}

// Replies that nobody fetches hold memory only while nobody else needs it.
func TestHoarders(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) {
		o.Limits.MemoryBytes = 64 * mib
		o.Limits.StallTimeout = 100 * time.Millisecond
	})
	lazy := w.simple("e")
	for range 8 {
		lazy.request(cmdRead, 0, 0, 2*mib)
	}
	eventually(t, "the replies are stuck", func() bool { return w.disk.Reads.Load() == 8 && w.disk.Busy.Load() == 0 })
	time.Sleep(200 * time.Millisecond)
	var cookies []uint64
	good := w.simple("ro")
	for range 4 {
		cookies = append(cookies, good.request(cmdRead, 0, 0, 2*mib))
	}
	for range cookies {
		good.chunk(2 * mib)
	}
	// Nobody waited: the lazy client still has its replies.
	for range 8 {
		lazy.chunk(2 * mib)
	}
	lazy.alive()

	greedy := w.simple("e")
	for range 40 {
		greedy.request(cmdRead, 0, 0, 2*mib)
	}
	eventually(t, "the budget is lent out", func() bool { return w.srv.Stats().BudgetWaiting > 0 })
	if o := good.must(cmdRead, 0, 0, 2*mib); len(o.data) != 2*mib {
		t.Error("short read")
	}
	eventually(t, "the greedy client is gone", func() bool { return w.srv.Stats().ConnectionsOpen == 2 })
}

// script is a whole session, byte for byte, as a client would send it.
func script() []byte {
	option := func(id uint32, data []byte) []byte {
		return cat([]byte("IHAVEOPT"), be32(id), be32(uint32(len(data))), data)
	}
	request := func(cmd, flags uint16, off uint64, n uint32, payload ...byte) []byte {
		return cat(be32(0x25609513), be16(flags), be16(cmd), be64(off+7), be64(off), be32(n), payload)
	}
	return cat(be32(fixed|noZeroes),
		option(optStructured, nil), option(optList, nil),
		option(optSetMeta, metaData("e", "base:allocation")),
		option(optInfo, infoData("e", 3)), option(optGo, infoData("e", 3)),
		request(cmdWrite, fFUA, 0, 20, make([]byte, 20)...),
		request(cmdRead, 0, 0, 4096), request(cmdStatus, 0, 0, mib), request(cmdFlush, 0, 0, 0),
		request(cmdZero, fNoHole, 4096, mib), request(cmdDisc, 0, 0, 0))
}

// A connection may end after any byte, politely or with a reset.
func TestEndAfterEveryByte(t *testing.T) {
	w := newWorld(t, nil)
	s := script()
	for n := range len(s) + 1 {
		for _, reset := range []bool{false, true} {
			c, err := net.Dial("tcp", w.tcp)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(s[:n]); err != nil {
				t.Fatal(err)
			}
			if reset {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
	}
	eventually(t, "all have ended", func() bool { return w.srv.Stats().ConnectionsOpen == 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.failures {
		if strings.Contains(fmt.Sprint(err), "magic") {
			t.Errorf("reported: %v", err)
		}
	}
}

// Port scanners and health checks make no noise.
func TestConnectAndClose(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 50 {
		c := w.dialTCP()
		if i%2 == 0 {
			c.get(18)
		}
		if i%5 == 0 {
			c.put([]byte{0, 0})
		}
		c.Close()
	}
	eventually(t, "all have ended", func() bool {
		st := w.srv.Stats()
		return st.ConnectionsOpen == 0 && st.ConnectionsTotal == 50
	})
	if n := w.srv.Stats().HandshakeFailures; n != 0 {
		t.Errorf("%d failures reported", n)
	}
}
