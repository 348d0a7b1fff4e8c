package nbd_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// memoryConn gives a server the bytes of a file as what a client sends, then
// the end. What the server says is checked as it is written.
type memoryConn struct {
	in    []byte
	check *replyChecker
}

func (c *memoryConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *memoryConn) Write(p []byte) (int, error) {
	c.check.out = append(c.check.out, p...)
	return len(p), nil
}
func (c *memoryConn) Close() error                     { return nil }
func (c *memoryConn) LocalAddr() net.Addr              { return memoryAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return memoryAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }

// replyChecker holds what the server sent and checks its framing.
type replyChecker struct{ out []byte }

func (k *replyChecker) take(n int) []byte {
	if len(k.out) < n {
		return nil
	}
	b := k.out[:n]
	k.out = k.out[n:]
	return b
}

const fuzzDisk = 300_000

func fuzzServer(t testing.TB) (*nbd.Server, *nbdtest.Disk) {
	disk := nbdtest.NewDisk(fuzzDisk)
	x := new(nbdtest.Exports).Add(&nbdtest.Export{Info: nbd.Info{Name: "e", Description: "d"}, Disk: disk})
	x.Add(&nbdtest.Export{Info: nbd.Info{Name: "ro", ReadOnly: true}, Disk: disk, Bitmaps: bitmaps("qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b")})
	srv, err := nbd.New(nbd.Options{Exports: x, Limits: nbd.Limits{InFlight: 4, MemoryBytes: 64 * mib}})
	if err != nil {
		t.Fatal(err)
	}
	return srv, disk
}

// run serves one connection and checks that nothing is left of it.
func run(t *testing.T, srv *nbd.Server, disk *nbdtest.Disk, in []byte) *replyChecker {
	t.Helper()
	k := new(replyChecker)
	srv.ServeConn(&memoryConn{in: in, check: k})
	if st := srv.Stats(); st.ConnectionsOpen != 0 || st.BudgetBytes != 0 {
		t.Fatalf("left behind: %+v", st)
	}
	if disk.Opened.Load() != disk.Closed.Load() || disk.Busy.Load() != 0 {
		t.Fatal("a device was left open")
	}
	if g := k.take(18); string(g) != "NBDMAGICIHAVEOPT\x00\x03" {
		t.Fatalf("greeting %q", g)
	}
	return k
}

// FuzzOptions feeds the haggling: client flags, then options. Every reply must
// be well formed and answer an option that was sent.
func FuzzOptions(f *testing.F) {
	s := script()
	f.Add(s[:len(s)-1])
	option := func(id uint32, data []byte) []byte {
		return cat([]byte("IHAVEOPT"), be32(id), be32(uint32(len(data))), data)
	}
	f.Add(cat(be32(fixed), option(optExportName, []byte("e"))))
	f.Add(cat(be32(0), option(optList, nil), option(optAbort, []byte("x"))))
	f.Add(cat(be32(fixed), option(optStructured, nil), option(optListMeta, metaData("ro", "base:", "qemu:x")), option(optGo, infoData("ro", 0, 1, 2, 3, 99))))
	f.Add(cat(be32(fixed), option(optStartTLS, nil), option(77, make([]byte, 70_000)), option(optInfo, cat(be32(0xffffffff), []byte("e")))))
	f.Add(cat(be32(fixed), option(optStructured, nil), option(optListMeta, metaData("ro")), option(optSetMeta, metaData("ro", "qemu:dirty-bitmap:b", "base:allocation", "qemu:")), option(optGo, infoData("ro"))))
	srv, disk := fuzzServer(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		k := run(t, srv, disk, in)
		for len(k.out) >= 20 && binary.BigEndian.Uint64(k.out) == 0x3e889045565a9 {
			h := k.take(20)
			rep, n := binary.BigEndian.Uint32(h[12:]), binary.BigEndian.Uint32(h[16:])
			body := k.take(int(n))
			switch {
			case n > 0 && body == nil:
				t.Fatalf("reply %#x of %d bytes is cut off", rep, n)
			case rep&(1<<31) != 0 && n > 900:
				t.Fatalf("error text of %d bytes", n)
			case rep == repAck && n != 0:
				t.Fatal("ACK with data")
			case rep == repServer && int(binary.BigEndian.Uint32(body)) > int(n)-4:
				t.Fatal("name longer than its reply")
			}
		}
	})
}

// FuzzRequests feeds the transmission phase behind a good handshake. The first
// byte chooses the handshake. Every reply must be well formed.
func FuzzRequests(f *testing.F) {
	request := func(cmd, flags uint16, off uint64, n uint32, payload ...byte) []byte {
		return cat(be32(0x25609513), be16(flags), be16(cmd), be64(off+7), be64(off), be32(n), payload)
	}
	f.Add(byte(0), cat(request(cmdWrite, fFUA, 10, 20, make([]byte, 20)...), request(cmdRead, 0, 0, 100), request(cmdDisc, 0, 0, 0)))
	f.Add(byte(1), cat(request(cmdRead, 0, 0, fuzzDisk), request(cmdStatus, fReqOne, 0, fuzzDisk), request(cmdStatus, 0, 5, 100)))
	f.Add(byte(1), cat(request(cmdZero, fNoHole|fFastZero, 0, 0xffffffff), request(cmdTrim, 0, 0, fuzzDisk), request(cmdCache, 0, 1, 2), request(99, 0, 0, 0)))
	f.Add(byte(2), cat(request(cmdWrite, 0, 0, 4, 1, 2, 3, 4), request(cmdRead, fDF, 65536, 65536), request(cmdFlush, 0, 0, 0)))
	f.Add(byte(3), request(cmdWrite, 0, 0, 0xffffffff, 1, 2, 3))
	f.Add(byte(3), cat(request(cmdStatus, 0, 0, fuzzDisk), request(cmdStatus, fReqOne, 70000, 200000), request(cmdRead, 0, 0, 10)))
	srv, disk := fuzzServer(f)
	f.Fuzz(func(t *testing.T, mode byte, in []byte) {
		name, structured := "e", mode&1 != 0
		if mode&2 != 0 {
			name = "ro"
		}
		option := func(id uint32, data []byte) []byte {
			return cat([]byte("IHAVEOPT"), be32(id), be32(uint32(len(data))), data)
		}
		pre := be32(fixed | noZeroes)
		if structured {
			pre = cat(pre, option(optStructured, nil), option(optSetMeta, metaData(name, "base:allocation", "qemu:dirty-bitmap:b", "qemu:dirty-bitmap:a")))
		}
		k := run(t, srv, disk, cat(pre, option(optGo, infoData(name)), in))
		for binary.BigEndian.Uint64(k.out) == 0x3e889045565a9 {
			h := k.take(20)
			k.take(int(binary.BigEndian.Uint32(h[16:])))
			if len(k.out) < 8 {
				return
			}
		}
		if structured {
			k.structured(t)
		}
	})
}

// structured checks a stream of replies of a connection with structured
// replies; simple ones carry no data there.
func (k *replyChecker) structured(t *testing.T) {
	t.Helper()
	for len(k.out) > 0 {
		switch m := k.take(4); {
		case m == nil:
			t.Fatal("a reply is cut off")
		case binary.BigEndian.Uint32(m) == 0x67446698:
			if k.take(12) == nil {
				t.Fatal("a simple reply is cut off")
			}
		case binary.BigEndian.Uint32(m) == 0x668e33ef:
			k.chunk(t)
		default:
			t.Fatalf("reply magic %x", m)
		}
	}
}

func (k *replyChecker) chunk(t *testing.T) {
	t.Helper()
	h := k.take(16)
	if h == nil {
		t.Fatal("a chunk is cut off")
	}
	flags, kind, n := binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:]), binary.BigEndian.Uint32(h[12:])
	body := k.take(int(n))
	switch {
	case n > 0 && body == nil:
		t.Fatalf("chunk %#x of %d bytes is cut off", kind, n)
	case kind == cNone && (n != 0 || flags&cDone == 0):
		t.Fatal("bad NONE chunk")
	case kind == cData && n < 9, kind == cHole && n != 12, kind == cStatus && (n < 12 || (n-4)%8 != 0):
		t.Fatalf("chunk %d of %d bytes", kind, n)
	case kind&(1<<15) != 0 && (n < 6 || n > 950 || binary.BigEndian.Uint32(body) == 0):
		t.Fatalf("bad error chunk %x", body)
	}
}
