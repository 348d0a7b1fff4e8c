package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

func TestUnknownClientFlagsDrop(t *testing.T) {
	w := newWorld(t, nil)
	for _, flags := range []uint32{4, 1 << 31, 0x10000 | fixed, 0xffffffff} {
		w.dial().hello(flags).gone()
	}
}

func TestClientFlagCombinations(t *testing.T) {
	w := newWorld(t, nil)
	for _, flags := range []uint32{0, fixed, noZeroes, fixed | noZeroes} {
		c := w.dial().hello(flags)
		c.enter(optGo, "e")
		c.alive()
		c.bye()
	}
}

func TestUnknownOptions(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed | noZeroes)
	for _, id := range []uint32{0, 4, optExtended, 12, 0xffffffff} {
		c.expect(id, nil, errUnsup)
		c.expect(id, bytes.Repeat([]byte{1}, 100<<10), errUnsup)
	}
	c.enter(optGo, "e")
	c.alive()
}

func TestBadOptionMagicDrops(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	c.put([]byte("IHAVEOPX"), be32(optAbort), be32(0))
	c.gone()
}

func TestOptionLengths(t *testing.T) {
	w := newWorld(t, nil)
	for _, id := range []uint32{optExportName, optAbort, optList, optStartTLS, optInfo, optGo, optStructured, optListMeta, optSetMeta, 77} {
		for _, n := range []uint32{4<<20 + 1, 32 << 20, 0xffffffff} {
			c := w.dial().hello(fixed)
			c.put([]byte("IHAVEOPT"), be32(id), be32(n))
			c.gone()
		}
	}
}

func TestOptionCount(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	for range 32 {
		c.expect(99, nil, errUnsup)
	}
	c.option(99, nil)
	c.gone()
}

// Listing tools ask two options about each export that LIST has told.
func TestOptionCountGrowsWithList(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 100 {
		w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: fmt.Sprint("x", i)}, Disk: w.disk})
	}
	c := w.dial().hello(fixed)
	c.option(optList, nil)
	if l := c.answers(optList); len(l) != 103 {
		t.Fatalf("%d replies to LIST, want 102 exports and ACK", len(l))
	}
	c.expect(optStructured, nil, repAck)
	for i := range 100 {
		c.enter(optInfo, fmt.Sprint("x", i))
		c.option(optListMeta, metaData(fmt.Sprint("x", i)))
		c.answers(optListMeta)
	}
}

func TestExportName(t *testing.T) {
	w := newWorld(t, nil)
	for _, tt := range []struct {
		flags uint32
		pad   int
	}{{fixed, 124}, {fixed | noZeroes, 0}, {0, 124}} {
		c := w.dial().hello(tt.flags)
		c.option(optExportName, []byte("e"))
		if got := c.get64(); got != diskSize {
			t.Errorf("size %d", got)
		}
		if got := c.get16(); got != 0xd6d {
			t.Errorf("transmission flags %#x", got)
		}
		if pad := c.get(tt.pad); !bytes.Equal(pad, make([]byte, tt.pad)) {
			t.Errorf("padding is not zero")
		}
		c.alive()
		c.bye()
	}
}

func TestExportNameCannotError(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"nope", "", "a\x00b", "\xff\xfe", strings.Repeat("n", 4097), strings.Repeat("n", 100000)} {
		c := w.dial().hello(fixed)
		c.option(optExportName, []byte(name))
		c.gone()
	}
}

// A structured negotiation holds for EXPORT_NAME too.
func TestExportNameAfterStructured(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed | noZeroes)
	c.expect(optStructured, nil, repAck)
	c.option(optSetMeta, metaData("e", "base:allocation"))
	c.answers(optSetMeta)
	c.option(optExportName, []byte("e"))
	c.get64()
	if f := c.get16(); f&0x80 == 0 {
		t.Errorf("no DF flag in %#x", f)
	}
	c.structured = true
	if o := c.must(cmdStatus, 0, 0, 100); len(o.status) != 1 {
		t.Errorf("status %v", o.status)
	}
}

func TestAbort(t *testing.T) {
	w := newWorld(t, nil)
	for _, data := range [][]byte{nil, []byte("because")} {
		c := w.dial().hello(fixed)
		c.expect(optAbort, data, repAck)
		c.gone()
	}
	c := w.dial().hello(fixed)
	c.option(optAbort, nil) // and gone without waiting
	c.Close()
	eventually(t, "all closed", func() bool { return w.srv.Stats().ConnectionsOpen == 0 })
	if n := w.srv.Stats().HandshakeFailures; n != 0 {
		t.Errorf("%d handshake failures after ABORT", n)
	}
}

func TestList(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	c.expect(optList, []byte("x"), errInvalid)
	c.option(optList, nil)
	l := c.answers(optList)
	if len(l) != 3 {
		t.Fatalf("%d replies, want 3", len(l))
	}
	if got, want := l[0].data, cat(be32(1), []byte("e"), []byte("a disk")); l[0].rep != repServer || !bytes.Equal(got, want) {
		t.Errorf("first export %q", got)
	}
	if got, want := l[1].data, cat(be32(2), []byte("ro")); l[1].rep != repServer || !bytes.Equal(got, want) {
		t.Errorf("second export %q", got)
	}
}

func TestListIsBounded(t *testing.T) {
	many := make(manyExports, 10_050)
	srv, err := nbd.New(nbd.Options{Exports: many})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	served := later(func() { srv.ServeConn(far) })
	c := adopt(t, near).hello(fixed)
	sent := later(func() { c.option(optList, nil) })
	if l := c.answers(optList); len(l) != 10_001 {
		t.Errorf("%d replies, want 10000 exports and ACK", len(l))
	}
	<-sent
	c.Close()
	<-served
}

// manyExports lists as many exports as it is long and serves none.
type manyExports []struct{}

func (m manyExports) List(context.Context) ([]nbd.Info, error) {
	l := make([]nbd.Info, len(m))
	for i := range l {
		l[i].Name = fmt.Sprint(i)
	}
	return l, nil
}

func (manyExports) Stat(context.Context, string) (nbd.Info, int64, error) {
	return nbd.Info{}, 0, nbd.ErrUnknownExport
}

func (manyExports) Open(context.Context, string) (nbd.Device, nbd.Info, error) {
	return nil, nbd.Info{}, nbd.ErrUnknownExport
}

func TestListLeavesOutImpossibleNames(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"a\x00b", "\xff", strings.Repeat("n", 4097)} {
		w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: name}, Disk: w.disk})
	}
	c := w.dial().hello(fixed)
	c.option(optList, nil)
	if l := c.answers(optList); len(l) != 3 {
		t.Fatalf("%d replies, want 3", len(l))
	}
}

// writableFlags and readOnlyFlags spell out the flags clients rely on.
const (
	writableFlags = 1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<8 | 1<<10 | 1<<11
	readOnlyFlags = 1 | 1<<1 | 1<<2 | 1<<3 | 1<<8 | 1<<10
	dfFlag        = 1 << 7
)

func TestInfoAndGo(t *testing.T) {
	w := newWorld(t, nil)
	for _, structured := range []bool{false, true} {
		for name, flags := range map[string]uint16{"e": writableFlags, "ro": readOnlyFlags} {
			c := w.dial().hello(fixed | noZeroes)
			if structured {
				c.expect(optStructured, nil, repAck)
				flags |= dfFlag
			}
			// 4711 is no information anybody knows.
			a := c.enter(optInfo, name, 0, 1, 2, 3, 4711)
			b := c.enter(optGo, name, 3, 2, 1, 0, 4711)
			if a.size != diskSize || a.flags != flags {
				t.Errorf("%s: size %d flags %#x, want flags %#x", name, a.size, a.flags, flags)
			}
			for k, v := range a.infos {
				if !bytes.Equal(v, b.infos[k]) {
					t.Errorf("%s: information %d: INFO %x, GO %x", name, k, v, b.infos[k])
				}
			}
			if len(a.infos) != len(b.infos) {
				t.Errorf("%s: INFO told %d, GO %d", name, len(a.infos), len(b.infos))
			}
			if got, want := a.infos[3], cat(be32(1), be32(65536), be32(32<<20)); !bytes.Equal(got, want) {
				t.Errorf("block sizes %x", got)
			}
			if string(a.infos[1]) != name {
				t.Errorf("name %q", a.infos[1])
			}
			if name == "e" && string(a.infos[2]) != "a disk" {
				t.Errorf("description %q", a.infos[2])
			}
			c.structured = structured
			c.alive()
			c.bye()
		}
	}
}

func TestInfoOnlyWhatIsAsked(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	if g := c.enter(optInfo, "e"); len(g.infos) != 1 {
		t.Errorf("information %v without asking", g.infos)
	}
}

func TestMalformedInfo(t *testing.T) {
	w := newWorld(t, nil)
	bad := map[string][]byte{
		"empty":              nil,
		"short length":       {0, 0, 1},
		"name past the end":  cat(be32(10), []byte("e"), be16(0)),
		"name huge":          cat(be32(0xffffffff), []byte("e"), be16(0)),
		"name optlen-5":      cat(be32(2), []byte("ee"), []byte{0}),
		"no count":           cat(be32(1), []byte("e")),
		"count too large":    cat(be32(1), []byte("e"), be16(3), be16(0)),
		"count too small":    cat(be32(1), []byte("e"), be16(0), be16(0)),
		"odd tail":           cat(be32(1), []byte("e"), be16(1), be16(0), []byte{1}),
		"NUL":                infoData("e\x00"),
		"not UTF-8":          infoData("\xc3\x28"),
		"name of 4097":       infoData(strings.Repeat("n", 4097)),
		"tail of 1 MiB":      cat(infoData("e"), make([]byte, mib)),
		"everything is 0xff": bytes.Repeat([]byte{0xff}, 300),
	}
	for _, id := range []uint32{optInfo, optGo} {
		for name, data := range bad {
			t.Run(fmt.Sprint(id, name), func(t *testing.T) {
				c := w.dial()
				c.t = t
				c.hello(fixed | noZeroes)
				c.expect(id, data, errInvalid)
				c.enter(optGo, "e") // still in step
				c.alive()
				c.bye()
			})
		}
	}
}

func TestUnknownAndRefusedExports(t *testing.T) {
	w := newWorld(t, nil)
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "dead"}, Disk: w.disk,
		Err: fmt.Errorf("session 7 may have lost writes: %w", nbd.ErrRefused)})
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "busy"}, Disk: w.disk, Err: errors.New("store is starting")})
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "late"}, Disk: w.disk,
		OpenErr: fmt.Errorf("gone meanwhile: %w", nbd.ErrUnknownExport)})
	c := w.dial().hello(fixed | noZeroes)
	for _, id := range []uint32{optInfo, optGo} {
		c.expect(id, infoData("nope"), errUnknown)
		c.expect(id, infoData(""), errUnknown)
		if r := c.expect(id, infoData("dead"), errUnknown); !strings.Contains(string(r.data), "lost writes") {
			t.Errorf("text %q", r.data)
		}
		c.expect(id, infoData("busy"), errPolicy)
		if r := c.expect(id, infoData(strings.Repeat("é", 2048)), errUnknown); len(r.data) > 900 {
			t.Errorf("error text of %d bytes", len(r.data))
		}
	}
	c.expect(optGo, infoData("late"), errUnknown)
	c.enter(optGo, "e")
	c.alive()
}

func TestUnusualNames(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"", "/", "a/b@c", "vm:disk@2026-01-01T00:00:00Z", "žluťoučký 🐎", strings.Repeat("n", 4096)} {
		w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: name, Description: "d"}, Disk: w.disk})
		c := w.modern(name)
		c.alive()
		c.bye()
	}
}

func TestStructuredReplyOption(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	c.expect(optStructured, []byte("x"), errInvalid)
	c.expect(optStructured, nil, repAck)
	c.expect(optStructured, nil, errInvalid)
	c.structured = true
	c.enter(optGo, "e")
	c.alive()
}

func TestMetaContexts(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	c.expect(optSetMeta, metaData("e", "base:allocation"), errInvalid)
	c.expect(optListMeta, metaData("e"), errInvalid)
	c.expect(optStructured, nil, repAck)
	for _, tt := range []struct {
		id      uint32
		queries []string
		hit     bool
	}{
		{optListMeta, nil, true},
		{optListMeta, []string{"base:"}, true},
		{optListMeta, []string{"base:allocation"}, true},
		{optListMeta, []string{"base:alloc"}, false},
		{optListMeta, []string{"qemu:", "x-y:z"}, false},
		{optSetMeta, nil, false},
		{optSetMeta, []string{"base:"}, false},
		{optSetMeta, []string{"base:other", "qemu:dirty-bitmap:x"}, false},
		{optSetMeta, []string{"base:allocation"}, true},
		{optSetMeta, []string{"x-a:b", "base:allocation", "base:allocation"}, true},
	} {
		c.option(tt.id, metaData("e", tt.queries...))
		l := c.answers(tt.id)
		if got := len(l) == 2; got != tt.hit || l[len(l)-1].rep != repAck {
			t.Errorf("option %d %q: replies %v", tt.id, tt.queries, l)
			continue
		}
		if !tt.hit {
			continue
		}
		if l[0].rep != repMeta || string(l[0].data[4:]) != "base:allocation" {
			t.Errorf("option %d: %v", tt.id, l[0])
		}
		if id := binary.BigEndian.Uint32(l[0].data); tt.id == optListMeta && id != 0 {
			t.Errorf("LIST_META_CONTEXT told id %d", id)
		}
	}
}

func TestMalformedMeta(t *testing.T) {
	w := newWorld(t, nil)
	many := make([]string, 65)
	for i := range many {
		many[i] = "x-q:1"
	}
	for name, tt := range map[string]struct {
		data []byte
		rep  uint32
	}{
		"empty":               {nil, errInvalid},
		"name past the end":   {cat(be32(9), []byte("e"), be32(0)), errInvalid},
		"name huge":           {cat(be32(0xffffffff), []byte("e"), be32(0)), errInvalid},
		"no count":            {cat(be32(1), []byte("e")), errInvalid},
		"queries missing":     {cat(be32(1), []byte("e"), be32(1)), errInvalid},
		"count huge":          {cat(be32(1), []byte("e"), be32(0xffffffff), be32(1), []byte("b")), errInvalid},
		"query past the end":  {cat(be32(1), []byte("e"), be32(1), be32(99), []byte("base:allocation")), errInvalid},
		"query huge":          {cat(be32(1), []byte("e"), be32(1), be32(0xffffffff)), errInvalid},
		"tail":                {cat(metaData("e", "base:allocation"), []byte{0}), errInvalid},
		"query without colon": {metaData("e", "base"), errInvalid},
		"query of 4097":       {metaData("e", "base:"+strings.Repeat("x", 4092)), errInvalid},
		"name of 4097":        {metaData(strings.Repeat("x", 4097), "base:allocation"), errInvalid},
		"query not UTF-8":     {metaData("e", "base:\xff"), errInvalid},
		"65 queries":          {metaData("e", many...), errTooBig},
		"1 MiB":               {metaData("e", strings.Repeat("x", mib)), errTooBig},
		"unknown export":      {metaData("nope", "base:allocation"), errUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.dial()
			c.t = t
			c.hello(fixed | noZeroes)
			c.expect(optStructured, nil, repAck)
			c.expect(optListMeta, tt.data, tt.rep)
			// SET forgets what was set before, also when it fails.
			c.option(optSetMeta, metaData("e", "base:allocation"))
			c.answers(optSetMeta)
			c.expect(optSetMeta, tt.data, tt.rep)
			c.enter(optGo, "e")
			c.structured = true
			if o := c.do(cmdStatus, 0, 0, 4096); o.errno != eINVAL {
				t.Errorf("BLOCK_STATUS after a failed SET: errno %d", o.errno)
			}
			c.alive()
			c.bye()
		})
	}
}

// The contexts count only when they were set for the export that is entered.
func TestMetaForAnotherExport(t *testing.T) {
	w := newWorld(t, nil)
	for _, tt := range []struct {
		set  []string
		want uint32
	}{{[]string{"e"}, eOK}, {[]string{"ro"}, eINVAL}, {[]string{"e", "ro"}, eINVAL}, {[]string{"ro", "e"}, eOK}} {
		c := w.dial().hello(fixed | noZeroes)
		c.expect(optStructured, nil, repAck)
		for _, name := range tt.set {
			c.option(optSetMeta, metaData(name, "base:allocation"))
			c.answers(optSetMeta)
		}
		c.enter(optGo, "e")
		c.structured = true
		if o := c.do(cmdStatus, 0, 0, 4096); o.errno != tt.want {
			t.Errorf("set for %q: errno %d, want %d", tt.set, o.errno, tt.want)
		}
		c.bye()
	}
}

// Options may come in any order, again and again.
func TestOptionsInAnyOrder(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed | noZeroes)
	c.enter(optInfo, "ro", 3)
	c.expect(optSetMeta, metaData("ro", "base:allocation"), errInvalid)
	c.expect(optGo, infoData("nope"), errUnknown)
	c.expect(optStructured, nil, repAck)
	c.expect(optGo, infoData("nope"), errUnknown)
	for range 3 {
		c.enter(optInfo, "e", 3)
		c.option(optSetMeta, metaData("e", "base:allocation"))
		c.answers(optSetMeta)
		c.option(optListMeta, metaData("ro"))
		c.answers(optListMeta)
	}
	c.enter(optGo, "e")
	c.structured = true
	c.must(cmdStatus, fReqOne, 0, 4096)
}

func TestNoTLS(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dialTCP().hello(fixed | noZeroes)
	c.expect(optStartTLS, nil, errPolicy)
	c.expect(optStartTLS, []byte("x"), errInvalid)
	c.enter(optGo, "e")
	c.alive()
}

// Nothing is opened before an export has been chosen.
func TestNothingOpenedBeforeGo(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial().hello(fixed)
	c.enter(optInfo, "e")
	c.option(optList, nil)
	c.answers(optList)
	c.expect(optStructured, nil, repAck)
	c.option(optSetMeta, metaData("e", "base:allocation"))
	c.answers(optSetMeta)
	if n := w.disk.Opened.Load(); n != 0 {
		t.Errorf("%d devices opened", n)
	}
	c.enter(optGo, "e")
	if n := w.disk.Opened.Load(); n != 1 {
		t.Errorf("%d devices opened after GO", n)
	}
}
