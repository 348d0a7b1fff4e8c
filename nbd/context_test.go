package nbd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// bitmaps makes contexts; number k calls every k+2nd page changed.
func bitmaps(names ...string) (list []*nbdtest.Bitmap) {
	for k, name := range names {
		list = append(list, &nbdtest.Bitmap{Name: name, Flags: func(i int64) uint32 {
			if i%int64(k+2) == 0 {
				return 1
			}
			return 0
		}})
	}
	return list
}

// contextWorld has an export "x" with contexts, and "y" with others.
func contextWorld(t testing.TB, list []*nbdtest.Bitmap) *world {
	w := newWorld(t, nil)
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "x", ReadOnly: true}, Disk: w.disk, Bitmaps: list})
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "y", ReadOnly: true}, Disk: w.disk, Bitmaps: bitmaps("qemu:dirty-bitmap:other")})
	t.Cleanup(func() {
		for _, b := range list {
			eventually(t, b.Name+" is closed", func() bool { return b.Opened.Load() == b.Closed.Load() })
		}
	})
	return w
}

// set selects contexts and returns what the server selected, by name.
func (c *client) set(export string, queries ...string) map[string]uint32 {
	c.t.Helper()
	c.option(optSetMeta, metaData(export, queries...))
	l := c.answers(optSetMeta)
	got := map[string]uint32{}
	for _, r := range l[:len(l)-1] {
		name, id := string(r.data[4:]), binary.BigEndian.Uint32(r.data)
		if _, twice := got[name]; twice || r.rep != repMeta {
			c.t.Fatalf("reply %#x, context %q", r.rep, name)
		}
		got[name] = id
	}
	if l[len(l)-1].rep != repAck {
		c.t.Fatalf("SET_META_CONTEXT: %#x %q", l[len(l)-1].rep, l[len(l)-1].data)
	}
	return got
}

// list asks for contexts.
func (c *client) list(export string, queries ...string) (names []string) {
	c.t.Helper()
	c.option(optListMeta, metaData(export, queries...))
	l := c.answers(optListMeta)
	for _, r := range l[:len(l)-1] {
		if r.rep != repMeta || binary.BigEndian.Uint32(r.data) != 0 {
			c.t.Fatalf("reply %#x %x", r.rep, r.data)
		}
		names = append(names, string(r.data[4:]))
	}
	if l[len(l)-1].rep != repAck {
		c.t.Fatalf("LIST_META_CONTEXT: %#x", l[len(l)-1].rep)
	}
	return names
}

// statuses takes a reply's extents apart by context.
func statuses(t testing.TB, o outcome) map[uint32][][2]uint32 {
	t.Helper()
	got := map[uint32][][2]uint32{}
	for i, k := range o.chunks {
		id := binary.BigEndian.Uint32(k.data)
		if k.kind != cStatus || got[id] != nil || (k.flags&cDone != 0) != (i == len(o.chunks)-1) {
			t.Fatalf("chunk %d of %d: %+v", i, len(o.chunks), k)
		}
		for b := k.data[4:]; len(b) > 0; b = b[8:] {
			got[id] = append(got[id], [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
		}
	}
	return got
}

func (w *world) haggle(structured bool) *client {
	c := w.dial().hello(fixed | noZeroes)
	if structured {
		c.expect(optStructured, nil, repAck)
		c.structured = true
	}
	return c
}

// Every context selected answers for itself, under its own number.
func TestContexts(t *testing.T) {
	w := contextWorld(t, bitmaps("qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b"))
	const page = 65536
	pages := func(flags ...uint32) (l [][2]uint32) {
		for _, f := range flags {
			if k := len(l); k > 0 && l[k-1][1] == f {
				l[k-1][0] += page
				continue
			}
			l = append(l, [2]uint32{page, f})
		}
		return l
	}
	want := map[string][][2]uint32{
		"base:allocation":     pages(3, 3, 3, 3, 3, 3),
		"qemu:dirty-bitmap:a": pages(1, 0, 1, 0, 1, 0),
		"qemu:dirty-bitmap:b": pages(1, 0, 0, 1, 0, 0),
	}
	for _, queries := range [][]string{
		{"qemu:dirty-bitmap:a"}, {"qemu:dirty-bitmap:b"}, {"base:allocation"},
		{"base:allocation", "qemu:dirty-bitmap:b"},
		{"qemu:dirty-bitmap:b", "base:allocation", "qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b", "x:y", "qemu:dirty-bitmap:"},
	} {
		c := w.haggle(true)
		ids := c.set("x", queries...)
		c.enter(optGo, "x")
		all := statuses(t, c.must(cmdStatus, 0, 0, 6*page))
		one := statuses(t, c.must(cmdStatus, fReqOne, 0, 6*page))
		part := statuses(t, c.must(cmdStatus, fReqOne, 6*page-100, 50))
		if len(all) != len(ids) || len(one) != len(ids) || len(part) != len(ids) {
			t.Errorf("%v: %d contexts, answers of %d, %d and %d", queries, len(ids), len(all), len(one), len(part))
		}
		for name, id := range ids {
			if fmt.Sprint(all[id]) != fmt.Sprint(want[name]) {
				t.Errorf("%v: %s: %v", queries, name, all[id])
			}
			if len(one[id]) != 1 || one[id][0] != want[name][0] {
				t.Errorf("%v: %s with REQ_ONE: %v", queries, name, one[id])
			}
			if len(part[id]) != 1 || part[id][0][0] != 50 {
				t.Errorf("%v: %s of 50 bytes: %v", queries, name, part[id])
			}
		}
		c.alive()
		c.bye()
	}
}

func TestListContexts(t *testing.T) {
	list := bitmaps("qemu:dirty-bitmap:a", "qemu:other", "qemu:dirty-bitmap:hidden", "bad:\xff")
	list[2].Unlisted = true
	w := contextWorld(t, list)
	c := w.haggle(true)
	const base, a, other, hidden = "base:allocation", "qemu:dirty-bitmap:a", "qemu:other", "qemu:dirty-bitmap:hidden"
	for _, tt := range []struct{ queries, want []string }{
		{nil, []string{base, a, other}},
		{[]string{"base:"}, []string{base}},
		{[]string{"qemu:"}, []string{a, other}},
		{[]string{"qemu:dirty-bitmap:"}, []string{a}},
		{[]string{"qemu:", "base:", "qemu:"}, []string{a, other, base}},
		{[]string{hidden}, []string{hidden}},
		{[]string{a, a, "qemu:", "x:", "x:y", "base:x"}, []string{a, other}},
		{[]string{"qemu:dirty-bitmap"}, nil},
		{[]string{":"}, nil},
	} {
		if got := c.list("x", tt.queries...); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.queries, got, tt.want)
		}
	}
	if got := c.list("e"); !slices.Equal(got, []string{base}) {
		t.Errorf("an export without contexts: %q", got)
	}
}

// A listing has an end.
func TestManyContextsListed(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("qemu:dirty-bitmap:%d-%s", i, strings.Repeat("n", 4000)))
	}
	w := contextWorld(t, bitmaps(names...))
	c := w.haggle(true)
	if got := c.list("x"); len(got) != 65 || got[1] != names[0] {
		t.Errorf("%d contexts listed", len(got))
	}
	c.enter(optGo, "x")
	c.alive()
}

// SET forgets what was, whatever comes of it.
func TestContextAbuse(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("qemu:dirty-bitmap:%d", i))
	}
	long := "qemu:dirty-bitmap:" + strings.Repeat("l", 4096-len("qemu:dirty-bitmap:"))
	w := contextWorld(t, bitmaps(append(names, long)...))
	many := make([]string, 1000)
	for i := range many {
		many[i] = "qemu:dirty-bitmap:0"
	}
	for name, tt := range map[string]struct {
		queries []string
		rep     uint32
		status  uint32
	}{
		"unknown":         {[]string{"qemu:dirty-bitmap:x", "qemu:allocation-depth", "y:"}, repAck, eINVAL},
		"namespace only":  {[]string{"qemu:", "qemu:dirty-bitmap:", "base:"}, repAck, eINVAL},
		"1000 queries":    {many, errTooBig, eINVAL},
		"64 of the same":  {many[:64], repMeta, eOK},
		"17 contexts":     {names[:17], errTooBig, eINVAL},
		"16 contexts":     {names[:16], repMeta, eOK},
		"4096 bytes":      {[]string{long}, repMeta, eOK},
		"4097 bytes":      {[]string{long + "l"}, errInvalid, eINVAL},
		"no colon":        {[]string{names[0], "qemu"}, errInvalid, eINVAL},
		"of another one":  {[]string{"qemu:dirty-bitmap:other"}, repAck, eINVAL},
		"nothing":         {nil, repAck, eINVAL},
		"empty query":     {[]string{""}, errInvalid, eINVAL},
		"colon":           {[]string{":"}, repAck, eINVAL},
		"zero byte":       {[]string{names[0] + "\x00"}, errInvalid, eINVAL},
		"known, unknown":  {[]string{"x:y", names[3]}, repMeta, eOK},
		"half a protocol": {[]string{"base:allocation", "base:", "qemu:"}, repMeta, eOK},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.haggle(true)
			c.t = t
			c.set("x", "base:allocation", names[5])
			c.option(optSetMeta, metaData("x", tt.queries...))
			if l := c.answers(optSetMeta); l[0].rep != tt.rep {
				t.Fatalf("%#x %q, want %#x", l[0].rep, l[0].data, tt.rep)
			}
			c.enter(optGo, "x")
			if o := c.do(cmdStatus, fReqOne, 0, 4096); o.errno != tt.status {
				t.Errorf("BLOCK_STATUS: errno %d, want %d", o.errno, tt.status)
			}
			c.alive()
			c.bye()
		})
	}
}

// Contexts count for the export they were set for, also by EXPORT_NAME, and not
// without structured replies.
func TestContextsOfAnotherExport(t *testing.T) {
	w := contextWorld(t, bitmaps("qemu:dirty-bitmap:a"))
	c := w.haggle(true)
	c.set("x", "qemu:dirty-bitmap:a")
	c.enter(optGo, "y")
	if o := c.do(cmdStatus, 0, 0, 4096); o.errno != eINVAL {
		t.Errorf("status of y: errno %d", o.errno)
	}
	c.bye()

	c = w.haggle(true)
	if got := c.set("y", "qemu:dirty-bitmap:a"); len(got) != 0 {
		t.Errorf("y has %v", got)
	}
	c.expect(optSetMeta, metaData("z", "qemu:dirty-bitmap:a"), errUnknown)
	ids := c.set("x", "qemu:dirty-bitmap:a")
	c.option(optExportName, []byte("x"))
	c.get(10)
	if got := statuses(t, c.must(cmdStatus, fReqOne, 0, 4096)); len(got[ids["qemu:dirty-bitmap:a"]]) != 1 {
		t.Errorf("after EXPORT_NAME: %v", got)
	}
	c.bye()

	c = w.haggle(false)
	c.expect(optSetMeta, metaData("x", "qemu:dirty-bitmap:a"), errInvalid)
	c.enter(optGo, "x")
	if o := c.do(cmdStatus, 0, 0, 4096); o.errno != eINVAL {
		t.Errorf("status with simple replies: errno %d", o.errno)
	}
}

// A context that cannot be opened any more fails GO, and leaves nothing open;
// the client may go on without it.
func TestContextGone(t *testing.T) {
	list := bitmaps("qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b")
	list[1].OpenErr = errors.New("its point was removed")
	w := contextWorld(t, list)
	c := w.haggle(true)
	c.set("x", "qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b")
	for range 2 {
		r := c.expect(optGo, infoData("x"), errPolicy)
		if text := string(r.data); !strings.Contains(text, "its point was removed") || !strings.Contains(text, "qemu:dirty-bitmap:b") {
			t.Errorf("GO says %q", text)
		}
	}
	if o, d := list[0].Opened.Load(), list[0].Closed.Load(); o != 2 || d != 2 {
		t.Errorf("the other context was opened %d and closed %d times", o, d)
	}
	c.set("x", "qemu:dirty-bitmap:a")
	c.enter(optGo, "x")
	c.must(cmdStatus, 0, 0, 4096)
}

// An error of one context is the request's; the connection goes on.
func TestContextError(t *testing.T) {
	list := bitmaps("qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b")
	list[1].Err = fmt.Errorf("pack 7 is damaged: %w", syscall.EIO)
	w := contextWorld(t, list)
	c := w.haggle(true)
	c.set("x", "qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b")
	c.enter(optGo, "x")
	for range 3 {
		o := c.do(cmdStatus, 0, 0, diskSize)
		if o.errno != eIO || !strings.Contains(o.text, "pack 7 is damaged") || len(o.chunks) != 1 {
			t.Errorf("errno %d %q, %d chunks", o.errno, o.text, len(o.chunks))
		}
		c.alive()
	}
}

// However little memory there is, no context goes without an extent.
func TestManyContextsOfManyExtents(t *testing.T) {
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("qemu:dirty-bitmap:%d", i))
	}
	list := bitmaps(names...)
	for _, b := range list {
		b.Grain = 1
	}
	w := contextWorld(t, list)
	c := w.haggle(true)
	ids := c.set("x", names...)
	c.enter(optGo, "x")
	got := statuses(t, c.must(cmdStatus, 0, 0, diskSize))
	extents := 0
	for i, name := range names {
		l := got[ids[name]]
		sum := uint32(0)
		for k, e := range l {
			if k > 0 && l[k-1][1] == e[1] || e[0] == 0 || e[1] != list[i].Flags(int64(sum)) {
				t.Fatalf("%s: extent %d is %v", name, k, e)
			}
			sum += e[0]
		}
		if len(l) < 32 || sum > diskSize {
			t.Errorf("%s: %d extents of %d bytes", name, len(l), sum)
		}
		extents += len(l)
	}
	if extents*8 > 32*mib {
		t.Errorf("%d extents in one reply", extents)
	}
	c.alive()
}
