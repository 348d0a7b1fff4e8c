package nbd_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// both runs a test with simple and with structured replies.
func both(t *testing.T, f func(t *testing.T, w *world, c *client)) {
	for _, name := range []string{"simple", "structured"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			if name == "simple" {
				f(t, w, w.simple("e"))
			} else {
				f(t, w, w.modern("e"))
			}
		})
	}
}

func TestReadWhatWasWritten(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		for _, n := range []int{1, 511, 512, 4095, 4096, 4097, 65535, 65536, 65537, mib - 1, mib, 2*mib + 3, 8 * mib} {
			for _, off := range []int{0, 1, 511, 65535, diskSize - n} {
				if off < 0 || off+n > diskSize {
					continue
				}
				want := pattern(n, byte(n+off))
				c.must(cmdWrite, 0, uint64(off), uint32(n), want)
				if o := c.must(cmdRead, 0, uint64(off), uint32(n)); !bytes.Equal(o.data, want) {
					t.Fatalf("%d bytes at %d differ", n, off)
				}
			}
		}
		c.bye()
	})
}

// Random requests, many in flight, against a plain byte slice.
func TestRandomHistory(t *testing.T) {
	const seed = 20261
	both(t, func(t *testing.T, w *world, c *client) {
		rnd := rand.New(rand.NewPCG(seed, seed))
		model := make([]byte, diskSize)
		t.Logf("seed %d", seed)
		for range 60 {
			type want struct {
				cmd, flags uint16
				off        uint64
				n          uint32
			}
			pending := make(map[uint64]want)
			// The requests of a round lie in separate lanes: order is free.
			for lane := range 16 {
				size := diskSize / 16
				off := rnd.IntN(size)
				n := 1 + rnd.IntN(min(size-off, 300_000))
				off += lane * size
				q := want{off: uint64(off), n: uint32(n)}
				switch rnd.IntN(4) {
				case 0:
					q.cmd = cmdRead
				case 1:
					q.cmd, q.flags = cmdWrite, uint16(rnd.IntN(2))*fFUA
				case 2:
					q.cmd, q.flags = cmdZero, []uint16{0, fNoHole, fFastZero, fFUA | fNoHole}[rnd.IntN(4)]
				case 3:
					q.cmd = cmdTrim
				}
				var payload []byte
				if q.cmd == cmdWrite {
					payload = pattern(n, byte(rnd.Int()))
					copy(model[off:], payload)
				} else if q.cmd != cmdRead {
					clear(model[off : off+n])
				}
				pending[c.request(q.cmd, q.flags, q.off, q.n, payload)] = q
			}
			for len(pending) > 0 {
				readAny(t, c, model, pending, func(cookie uint64) (uint16, uint64, uint32) {
					q := pending[cookie]
					return q.cmd, q.off, q.n
				})
			}
		}
		if o := c.must(cmdRead, 0, 0, diskSize); !bytes.Equal(o.data, model) {
			t.Error("the disk differs from the model")
		}
	})
}

// readAny reads one reply chunk of any pending request.
func readAny[V any](t *testing.T, c *client, model []byte, pending map[uint64]V, of func(uint64) (uint16, uint64, uint32)) {
	t.Helper()
	var k chunk
	if c.structured {
		k = c.chunk(0)
	} else {
		k.flags = cDone
		if m := c.get32(); m != 0x67446698 {
			t.Fatalf("magic %#x", m)
		}
		if e := c.get32(); e != 0 {
			t.Fatalf("errno %d", e)
		}
		k.cookie = c.get64()
		if cmd, _, n := of(k.cookie); cmd == cmdRead {
			k.kind, k.data = cData, c.get(int(n))
		}
	}
	if _, ok := pending[k.cookie]; !ok {
		t.Fatalf("reply to nothing: cookie %#x", k.cookie)
	}
	cmd, off, n := of(k.cookie)
	o := outcome{data: bytes.Clone(model[off : off+uint64(n)])}
	if c.structured {
		c.take(&o, k, off)
	} else if cmd == cmdRead {
		o.data = k.data
	}
	if o.errno != 0 || cmd == cmdRead && !bytes.Equal(o.data, model[off:off+uint64(n)]) {
		t.Fatalf("command %d at %d+%d: errno %d or wrong data", cmd, off, n, o.errno)
	}
	if k.flags&cDone != 0 {
		delete(pending, k.cookie)
	}
}

func TestErrorsOfRange(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		last := uint64(diskSize)
		for _, tt := range []struct {
			cmd, flags uint16
			off        uint64
			n          uint32
			want       uint32
		}{
			{cmdRead, 0, last, 1, eINVAL},
			{cmdRead, 0, last - 1, 2, eINVAL},
			{cmdRead, 0, 1 << 63, 1, eINVAL},
			{cmdRead, 0, ^uint64(0), 1, eINVAL},
			{cmdRead, 0, ^uint64(0) - 10, 0xffffffff, eINVAL},
			{cmdRead, 0, 0, 0xffffffff, eINVAL},
			{cmdWrite, 0, last, 1, eNOSPC},
			{cmdWrite, 0, last - 1, 2, eNOSPC},
			{cmdWrite, 0, ^uint64(0), 70000, eNOSPC},
			{cmdWrite, fFUA, 1 << 63, 3 * mib, eNOSPC},
			{cmdZero, 0, last, 1, eNOSPC},
			{cmdZero, fNoHole, last - 1, 2, eNOSPC},
			{cmdZero, fFastZero, ^uint64(0), 0xffffffff, eNOSPC},
			{cmdTrim, 0, last, 1, eINVAL},
			{cmdTrim, 0, 0, 0xffffffff, eINVAL},
			{cmdCache, 0, last, 1, eINVAL},
			{cmdFlush, 0, 1, 0, eINVAL},
			{cmdFlush, 0, 0, 1, eINVAL},
			{cmdStatus, 0, last, 1, eINVAL},
			{cmdStatus, 0, last - 1, 2, eINVAL},
			{cmdStatus, 0, 0, 0, eINVAL},
			{cmdRead, 0, last, 0, eOK},
			{cmdWrite, 0, last, 0, eOK},
			{cmdWrite, fFUA, 0, 0, eOK},
			{cmdZero, 0, 0, 0, eOK},
			{cmdTrim, 0, last, 0, eOK},
			{cmdCache, 0, 0, 0, eOK},
			{cmdRead, 0, last + 1, 0, eINVAL},
			{cmdWrite, 0, last + 1, 0, eNOSPC},
		} {
			var payload []byte
			if tt.cmd == cmdWrite {
				payload = pattern(int(tt.n), 1)
			}
			if o := c.do(tt.cmd, tt.flags, tt.off, tt.n, payload); o.errno != tt.want {
				t.Errorf("command %d flags %d at %d+%d: errno %d, want %d", tt.cmd, tt.flags, tt.off, tt.n, o.errno, tt.want)
			}
			c.alive()
		}
		if !bytes.Equal(w.disk.Bytes(), make([]byte, diskSize)) {
			t.Error("a refused request changed the disk")
		}
		c.bye()
	})
}

func TestUnknownCommandsAndFlags(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		for _, cmd := range []uint16{8, 9, 255, 0xffff} {
			if o := c.do(cmd, 0, 0, 100); o.errno != eINVAL {
				t.Errorf("command %d: errno %d", cmd, o.errno)
			}
		}
		allowed := map[uint16]uint16{
			cmdRead: fFUA | fDF, cmdWrite: fFUA, cmdFlush: fFUA, cmdTrim: fFUA, cmdCache: fFUA,
			cmdZero: fFUA | fNoHole | fFastZero, cmdStatus: fFUA | fReqOne,
		}
		if !c.structured {
			allowed[cmdRead] = fFUA
		}
		for cmd, ok := range allowed {
			for bit := range 16 {
				flag, want := uint16(1)<<bit, uint32(eINVAL)
				if ok&flag != 0 {
					want = eOK
				}
				if cmd == cmdStatus && !c.structured {
					want = eINVAL
				}
				n, payload := uint32(512), []byte(nil)
				if cmd == cmdWrite {
					payload = make([]byte, n)
				}
				if cmd == cmdFlush {
					n = 0
				}
				if o := c.do(cmd, flag, 0, n, payload); o.errno != want {
					t.Errorf("command %d flag %#x: errno %d, want %d", cmd, flag, o.errno, want)
				}
				c.alive()
			}
		}
		c.bye()
	})
}

func TestReadOnly(t *testing.T) {
	w := newWorld(t, nil)
	w.simple("e").must(cmdWrite, 0, 0, 5, []byte("hello"))
	for _, c := range []*client{w.simple("ro"), w.modern("ro")} {
		flushes := w.disk.Flushes.Load()
		for _, cmd := range []uint16{cmdWrite, cmdZero, cmdTrim} {
			for _, off := range []uint64{0, diskSize} {
				var payload []byte
				if cmd == cmdWrite {
					payload = pattern(100_000, 3)
				}
				if o := c.do(cmd, 0, off, 100_000, payload); o.errno != ePERM {
					t.Errorf("command %d: errno %d, want EPERM", cmd, o.errno)
				}
			}
		}
		if o := c.must(cmdRead, 0, 0, 5); string(o.data) != "hello" {
			t.Errorf("read %q", o.data)
		}
		c.must(cmdFlush, fFUA, 0, 0)
		c.must(cmdRead, fFUA, 0, 1)
		c.must(cmdCache, 0, 0, 100)
		if w.disk.Flushes.Load() != flushes {
			t.Error("the device of a read-only export was flushed")
		}
		c.bye()
	}
}

func TestTooLongPayloads(t *testing.T) {
	w := newWorld(t, nil)
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "big"}, Disk: nbdtest.NewDisk(1 << 40)})
	for _, c := range []*client{w.simple("big"), w.modern("big")} {
		want := uint32(eINVAL)
		if c.structured {
			want = eOVERFLOW
		}
		for _, n := range []uint32{32*mib + 1, 64 * mib, 0xffffffff} {
			if o := c.do(cmdRead, 0, 0, n); o.errno != want {
				t.Errorf("READ of %d: errno %d", n, o.errno)
			}
			// No payload, so no limit but 32 bits.
			c.must(cmdZero, fNoHole, 12345, n)
			c.must(cmdZero, fFastZero, 12345, n)
			c.must(cmdTrim, 0, 12345, n)
			c.must(cmdCache, 0, 12345, n)
		}
		data := pattern(32*mib, 9)
		c.must(cmdWrite, 0, 1<<39, 32*mib, data)
		if o := c.must(cmdRead, 0, 1<<39, 32*mib); !bytes.Equal(o.data, data) {
			t.Error("32 MiB differ")
		}
		if o := c.do(cmdWrite, 0, 0, 32*mib+1); o.errno != eINVAL {
			t.Errorf("WRITE of 32 MiB + 1: errno %d", o.errno)
		}
		c.gone()
	}
}

func TestBadRequestMagicDrops(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		c.alive()
		c.put(be32(0x25609514), make([]byte, 24))
		c.gone()
		eventually(t, "the connection is closed", func() bool { return w.disk.Closed.Load() == 1 })
	})
}

// Whatever was sent before DISC is answered, and nothing after it is read.
func TestDisc(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		release := make(chan struct{})
		w.disk.Intercept(func(op string, _, _ int64) error {
			if op == "write" {
				<-release
			}
			return nil
		})
		cookie := c.request(cmdWrite, 0, 0, 3, []byte("abc"))
		c.request(cmdDisc, 0, 77, 78)
		eventually(t, "the write has begun", func() bool { return w.disk.Busy.Load() == 1 })
		close(release)
		if o := c.reply(cmdWrite, cookie, 0, 3); o.errno != 0 {
			t.Errorf("errno %d", o.errno)
		}
		c.gone()
	})
}

// A client that only shuts down its sending side gets its answers.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, nil)
	c := w.simple("e")
	a, b := c.request(cmdWrite, 0, 0, 3, []byte("abc")), c.request(cmdFlush, 0, 0, 0)
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{c.chunk(0).cookie: true, c.chunk(0).cookie: true}
	if !seen[a] || !seen[b] {
		t.Errorf("answers to %v", seen)
	}
	c.gone()
}

func TestFUAAndFlush(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		for _, tt := range []struct {
			cmd, flags uint16
			flushes    int64
		}{
			{cmdWrite, 0, 0}, {cmdZero, 0, 0}, {cmdTrim, 0, 0}, {cmdRead, fFUA, 0}, {cmdCache, fFUA, 0},
			{cmdWrite, fFUA, 1}, {cmdZero, fFUA, 1}, {cmdTrim, fFUA, 1}, {cmdFlush, 0, 1}, {cmdFlush, fFUA, 1},
		} {
			before := w.disk.Flushes.Load()
			n, payload := uint32(10), []byte(nil)
			switch tt.cmd {
			case cmdWrite:
				payload = make([]byte, 10)
			case cmdFlush:
				n = 0
			}
			c.must(tt.cmd, tt.flags, 0, n, payload)
			if got := w.disk.Flushes.Load() - before; got != tt.flushes {
				t.Errorf("command %d flags %d: %d flushes, want %d", tt.cmd, tt.flags, got, tt.flushes)
			}
		}
	})
}

// A slow FLUSH holds up neither the reader nor other requests.
func TestFlushDoesNotBlock(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		release := make(chan struct{})
		w.disk.Intercept(func(op string, _, _ int64) error {
			if op == "flush" {
				<-release
			}
			return nil
		})
		flush := c.request(cmdFlush, 0, 0, 0)
		for range 5 {
			c.must(cmdWrite, 0, 0, 5, []byte("hello"))
		}
		close(release)
		if o := c.reply(cmdFlush, flush, 0, 0); o.errno != 0 {
			t.Errorf("errno %d", o.errno)
		}
	})
}

// Requests run at the same time, up to the limit, and are then held back.
func TestConcurrency(t *testing.T) {
	w := newWorld(t, func(o *nbd.Options) { o.Limits.InFlight = 16 })
	release := make(chan struct{})
	w.disk.Intercept(func(string, int64, int64) error { <-release; return nil })
	c := w.simple("e")
	want := make(map[uint64]bool)
	for range 40 {
		want[c.request(cmdWrite, 0, 0, 1, []byte{1})] = true
	}
	eventually(t, "16 requests are under way", func() bool { return w.disk.Busy.Load() == 16 })
	if n := w.disk.Writes.Load(); n != 16 {
		t.Errorf("%d writes begun", n)
	}
	close(release)
	for range 40 {
		delete(want, c.chunk(0).cookie)
	}
	if len(want) > 0 {
		t.Errorf("%d requests without an answer", len(want))
	}
}

func TestReadHoles(t *testing.T) {
	w := newWorld(t, nil)
	c := w.modern("e")
	const block = 65536
	c.must(cmdWrite, 0, 2*block, block, pattern(block, 1))
	c.must(cmdWrite, 0, 5*block+100, 10, pattern(10, 2))
	want := w.disk.Bytes()

	kinds := func(o outcome) (l []uint16) {
		for _, k := range o.chunks {
			l = append(l, k.kind)
		}
		return l
	}
	for _, tt := range []struct {
		flags  uint16
		off, n int
		kinds  string
	}{
		{0, 0, 8 * block, "[2 1 2 1 2]"},
		{fDF, 0, 8 * block, "[1]"},
		{fDF, 1, 65536, "[1]"},
		{0, 0, 2 * block, "[2]"},
		{0, 2 * block, block, "[1]"},
		{0, block, 2 * block, "[2 1]"},
		{0, 100, block, "[2]"},
		{0, 2*block + 1, 2 * block, "[1 2]"},
		{0, 3*block - 100, block + 200, "[1 2]"},
		{0, 0, 4096, "[1]"}, // too short to ask
	} {
		exts := w.disk.Exts.Load()
		o := c.must(cmdRead, tt.flags, uint64(tt.off), uint32(tt.n))
		if !bytes.Equal(o.data, want[tt.off:tt.off+tt.n]) {
			t.Errorf("%d+%d: wrong data", tt.off, tt.n)
		}
		if got := fmt.Sprint(kinds(o)); got != tt.kinds {
			t.Errorf("%d+%d flags %d: chunks %s, want %s", tt.off, tt.n, tt.flags, got, tt.kinds)
		}
		if asked := w.disk.Exts.Load() > exts; asked != (tt.n >= block && tt.flags&fDF == 0) {
			t.Errorf("%d+%d flags %d: device asked for extents: %v", tt.off, tt.n, tt.flags, asked)
		}
	}
	s := w.simple("e")
	exts := w.disk.Exts.Load()
	if o := s.must(cmdRead, 0, 0, 8*block); !bytes.Equal(o.data, want[:8*block]) {
		t.Error("simple read: wrong data")
	}
	if w.disk.Exts.Load() != exts {
		t.Error("extents asked for a simple read")
	}
}

// More pieces than fit one reply: the rest is sent as data.
func TestReadManyHoles(t *testing.T) {
	w := newWorld(t, nil)
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "comb"}, Disk: nbdtest.NewDisk(32 * mib)})
	c := w.modern("comb")
	for i := 0; i < 32*mib/65536; i += 2 {
		c.must(cmdWrite, 0, uint64(i)*65536, 65536, pattern(65536, byte(i)))
	}
	o := c.must(cmdRead, 0, 0, 32*mib)
	if len(o.chunks) > 66 {
		t.Errorf("%d chunks", len(o.chunks))
	}
	for i := 0; i < 32*mib/65536; i++ {
		want := make([]byte, 65536)
		if i%2 == 0 {
			want = pattern(65536, byte(i))
		}
		if !bytes.Equal(o.data[i*65536:(i+1)*65536], want) {
			t.Fatalf("block %d differs", i)
		}
	}
}

func TestBlockStatus(t *testing.T) {
	w := newWorld(t, nil)
	c := w.modern("e")
	const block = 65536
	c.must(cmdWrite, 0, 2*block, 2*block, pattern(2*block, 1))
	c.must(cmdWrite, 0, 7*block, 1, []byte{1})
	for _, tt := range []struct {
		flags  uint16
		off, n int
		want   string
	}{
		{0, 0, diskSize, "[[131072 3] [131072 0] [196608 3] [65536 0] [7864320 3]]"},
		{fReqOne, 0, diskSize, "[[131072 3]]"},
		{fReqOne, 0, 100, "[[100 3]]"},
		{fReqOne, 3 * block, diskSize - 3*block, "[[65536 0]]"},
		{fReqOne, 8 * block, diskSize - 8*block, "[[7864320 3]]"},
		{0, 2*block - 1, 2, "[[1 3] [1 0]]"},
		{0, diskSize - 1, 1, "[[1 3]]"},
		{fFUA, 2 * block, 10, "[[10 0]]"},
	} {
		o := c.must(cmdStatus, tt.flags, uint64(tt.off), uint32(tt.n))
		if got := fmt.Sprint(o.status); got != tt.want {
			t.Errorf("%d+%d flags %d: %s, want %s", tt.off, tt.n, tt.flags, got, tt.want)
		}
		if len(o.chunks) != 1 || o.chunks[0].kind != cStatus {
			t.Errorf("chunks %v", o.chunks)
		}
	}
}

// rangesDevice tells extents of its own choice.
type rangesDevice struct {
	nbd.Device
	size    int64
	extents func(off, n int64, yield func(int64, bool) bool) error
}

func (d *rangesDevice) Size() int64 { return d.size }
func (d *rangesDevice) Extents(off, n int64, yield func(int64, bool) bool) error {
	return d.extents(off, n, yield)
}

func TestBlockStatusOfHugeHole(t *testing.T) {
	w := newWorld(t, nil)
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "huge"}, Disk: nbdtest.NewDisk(16 << 40)})
	c := w.modern("huge")
	for _, flags := range []uint16{0, fReqOne} {
		for _, n := range []uint32{0xffffffff, 0xffff0001, 0xffff0000, 1 << 31} {
			o := c.must(cmdStatus, flags, 0, n)
			if want := min(n, 0xffff0000); len(o.status) != 1 || o.status[0] != [2]uint32{want, 3} {
				t.Errorf("length %#x: %v", n, o.status)
			}
		}
	}
}

func TestBlockStatusOfManyExtents(t *testing.T) {
	big := &bigExports{Exports: new(nbdtest.Exports), dev: &rangesDevice{size: 1 << 31}}
	w := newWorld(t, func(o *nbd.Options) { o.Exports = big })
	big.Device = nbdtest.NewDisk(4096).Open()
	big.dev.extents = func(_, n int64, yield func(int64, bool) bool) error {
		for i := int64(0); i < n; i += 512 {
			// Each extent is told in two parts: neighbours are merged.
			if !yield(256, i/512%2 == 0) || !yield(256, i/512%2 == 0) {
				return nil
			}
		}
		return nil
	}
	big.dev.Device = big.Device
	c := w.modern("big")
	o := c.must(cmdStatus, 0, 0, 1<<31)
	if len(o.status) != 1<<20 {
		t.Fatalf("%d extents, want 2^20", len(o.status))
	}
	for i, e := range o.status {
		if want := [2]uint32{512, uint32(1-i%2) * 3}; e != want {
			t.Fatalf("extent %d is %v, want %v", i, e, want)
		}
	}
	if o := c.must(cmdStatus, fReqOne, 0, 1<<31); fmt.Sprint(o.status) != "[[512 3]]" {
		t.Errorf("REQ_ONE: %v", o.status)
	}
	if o := c.must(cmdStatus, 0, 0, 100); fmt.Sprint(o.status) != "[[100 3]]" {
		t.Errorf("extents longer than asked: %v", o.status)
	}
}

func TestDeviceErrors(t *testing.T) {
	secret := strings.Repeat("chunk 7 of vm1/vda is damaged; ", 100)
	for _, tt := range []struct {
		err  error
		want uint32
	}{
		{errors.New(secret), eIO},
		{syscall.EIO, eIO},
		{fmt.Errorf("reserve touched: %w", syscall.ENOSPC), eNOSPC},
		{syscall.EDQUOT, eNOSPC},
		{syscall.EFBIG, eNOSPC},
		{syscall.EROFS, ePERM},
		{syscall.EPERM, ePERM},
		{syscall.EINVAL, eINVAL},
		{syscall.ENOMEM, eIO},
		{syscall.EOVERFLOW, eIO},
		{syscall.ENOTSUP, eIO},
		{syscall.ESHUTDOWN, 108},
		{syscall.Errno(9999), eIO},
	} {
		t.Run(fmt.Sprint(tt.want), func(t *testing.T) {
			w := newWorld(t, nil)
			var on atomic.Bool
			w.disk.Intercept(func(string, int64, int64) error {
				if on.Load() {
					return tt.err
				}
				return nil
			})
			for _, c := range []*client{w.simple("e"), w.modern("e")} {
				on.Store(true)
				for _, cmd := range []uint16{cmdRead, cmdWrite, cmdFlush, cmdTrim, cmdZero, cmdStatus} {
					n, payload := uint32(70000), []byte(nil)
					switch {
					case cmd == cmdWrite:
						payload = make([]byte, n)
					case cmd == cmdFlush:
						n = 0
					case cmd == cmdStatus && !c.structured:
						continue
					}
					o := c.do(cmd, 0, 0, n, payload)
					if o.errno != tt.want {
						t.Errorf("command %d: errno %d, want %d", cmd, o.errno, tt.want)
					}
					if c.structured && !strings.HasPrefix(tt.err.Error(), o.text) || len(o.text) > 900 {
						t.Errorf("text %q", o.text)
					}
				}
				on.Store(false)
				c.alive()
				c.bye()
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.requests) != 11 {
				t.Errorf("%d request errors reported, want 11", len(w.requests))
			}
			for _, e := range w.requests {
				if e.Export != "e" || e.Errno != tt.want || !errors.Is(e.Err, tt.err) {
					t.Errorf("reported %+v", e)
				}
			}
		})
	}
}

func TestFastZeroMayFail(t *testing.T) {
	w := newWorld(t, nil)
	w.disk.Intercept(func(op string, _, _ int64) error { return syscall.ENOTSUP })
	c := w.modern("e")
	if o := c.do(cmdZero, fFastZero, 0, 100); o.errno != eNOTSUP {
		t.Errorf("fast: errno %d", o.errno)
	}
	if o := c.do(cmdZero, 0, 0, 100); o.errno != eIO {
		t.Errorf("slow: errno %d", o.errno)
	}
}

// A READ that fails sends no data, says where, and leaves the connection in
// step.
func TestReadErrorHasPlace(t *testing.T) {
	w := newWorld(t, nil)
	c := w.modern("e")
	c.must(cmdWrite, 0, 0, 3*65536, pattern(3*65536, 1))
	c.must(cmdWrite, 0, 4*65536, 65536, pattern(65536, 1))
	w.disk.Intercept(func(op string, off, _ int64) error {
		if op == "read" && off == 4*65536 {
			return errors.New("block is damaged")
		}
		return nil
	})
	o := c.do(cmdRead, 0, 0, 6*65536)
	if o.errno != eIO || o.at == nil || *o.at != 4*65536 || len(o.chunks) != 1 || o.text != "block is damaged" {
		t.Errorf("outcome errno %d text %q chunks %d", o.errno, o.text, len(o.chunks))
	}
	s := w.simple("e")
	if o := s.do(cmdRead, 0, 4*65536, 10); o.errno != eIO || len(o.chunks) != 1 {
		t.Errorf("simple: %+v", o)
	}
	s.alive()
	c.alive()
}

func TestCookiesVerbatim(t *testing.T) {
	both(t, func(t *testing.T, w *world, c *client) {
		for _, cookie := range []uint64{0, 1, 1 << 63, ^uint64(0)} {
			c.cookie = cookie - 1
			c.must(cmdRead, 0, 0, 10)
			c.must(cmdFlush, 0, 0, 0)
		}
	})
}

func TestStats(t *testing.T) {
	w := newWorld(t, nil)
	c := w.modern("e")
	c.must(cmdWrite, 0, 0, 1000, make([]byte, 1000))
	c.must(cmdRead, 0, 0, 700)
	c.must(cmdZero, 0, 0, 2*mib)
	c.do(cmdRead, 0, diskSize, 1)
	c.do(cmdWrite, 0, diskSize, 1, []byte{1})
	c.do(77, 0, 0, 0)
	st := w.srv.Stats()
	got := make(map[string]string)
	for _, s := range st.Commands {
		got[s.Command] = fmt.Sprint(s.Requests, s.Bytes, s.Errors, s.Latency.Count())
	}
	for name, want := range map[string]string{
		"write": "2 1000 map[ENOSPC:1] 2", "read": "2 700 map[EINVAL:1] 2", "write_zeroes": "1 2097152 map[] 1",
		"flush": "0 0 map[] 0",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	if st.UnknownCommands != 1 || st.ConnectionsOpen != 1 || st.ConnectionsTotal != 1 {
		t.Errorf("%+v", st)
	}
	c.bye()
	eventually(t, "no connection", func() bool { return w.srv.Stats().ConnectionsOpen == 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.closes) != 1 || w.closes[0].Reason != nil || w.closes[0].Export != "e" {
		t.Errorf("closed: %+v", w.closes)
	}
}
