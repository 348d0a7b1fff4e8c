package sftp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"syscall"
	"testing"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"

	"github.com/strongroom-backup/strongroom/sftp"
)

func TestVersionAndExtensions(t *testing.T) {
	_, s := serveMem(t, nil)
	w := silentWire(t, s)
	w.send([]byte{0, 0, 0, 5, 1, 0, 0, 0, 6}) // a later version may be asked for
	var v sshfx.VersionPacket
	var head [5]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:])-1)
	if _, err := io.ReadFull(w.in, b); err != nil {
		t.Fatal(err)
	}
	if err := v.UnmarshalBinary(b); err != nil || v.Version != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	var got []string
	for _, e := range v.Extensions {
		got = append(got, e.Name+"="+e.Data)
	}
	want := "posix-rename@openssh.com=1 hardlink@openssh.com=1 statvfs@openssh.com=2 fstatvfs@openssh.com=2 " +
		"fsync@openssh.com=1 limits@openssh.com=1 lsetstat@openssh.com=1"
	if strings.Join(got, " ") != want {
		t.Errorf("extensions %v, want %s", got, want)
	}
}

func TestExtensions(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	r := w.call(sshfx.PacketTypeExtended, "limits@openssh.com")
	for i, want := range []uint64{256 << 10, 255 << 10, 255 << 10, 1024} {
		if got := r.body.ConsumeUint64(); got != want {
			t.Errorf("limit %d is %d, want %d", i, got, want)
		}
	}
	synced := 0
	mem.Intercept(func(op, name string) error {
		if op == "Sync" && name == "/f" {
			synced++
		}
		return nil
	})
	w.want(w.call(sshfx.PacketTypeExtended, "fsync@openssh.com", h), sshfx.StatusOK)
	if synced != 1 {
		t.Errorf("%d syncs reached the file", synced)
	}
	for _, r := range []reply{w.call(sshfx.PacketTypeExtended, "fstatvfs@openssh.com", h), w.call(sshfx.PacketTypeExtended, "statvfs@openssh.com", "/")} {
		if block, _, blocks := r.body.ConsumeUint64(), r.body.ConsumeUint64(), r.body.ConsumeUint64(); block*blocks != 1<<40 {
			t.Errorf("told %d blocks of %d bytes", blocks, block)
		}
	}
	w.want(w.call(sshfx.PacketTypeExtended, "lsetstat@openssh.com", "/f", uint32(1), uint64(77)), sshfx.StatusOK)
	if n := len(mem.Bytes("/f")); n != 77 {
		t.Errorf("size %d after lsetstat", n)
	}
	for _, name := range []string{"", "check-file", "copy-data", "expand-path@openssh.com", strings.Repeat("x", 1000), "\xff\n"} {
		w.want(w.call(sshfx.PacketTypeExtended, name, "what", "ever"), sshfx.StatusOpUnsupported)
	}
}

// TestOpenKeepsTheMode opens as sshfs does: with permissions of 0 whenever the
// file is there already.
func TestOpenKeepsTheMode(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	r := w.call(sshfx.PacketTypeOpen, "/f", uint32(0x0b), uint32(4), uint32(0o100640))
	w.want(r, sshfx.StatusOK)
	for _, pflags := range []uint32{0x1, 0x3, 0xb, 0x1b, 0xe, 0x4} {
		w.open("/f", pflags)
		if a, err := mem.Tree().Stat("/f"); err != nil || a.Mode != 0o640 {
			t.Errorf("after OPEN with %#x: %v, %v", pflags, a.Mode, err)
		}
	}
	for _, pflags := range []uint32{0, 0x8, 0x9, 0x11, 0x20} {
		w.want(w.call(sshfx.PacketTypeOpen, "/f", pflags, uint32(0)), sshfx.StatusFailure)
	}
	w.want(w.call(sshfx.PacketTypeOpen, "/f", uint32(0x2a), uint32(0)), sshfx.StatusFailure)
}

func TestReadsAreShortened(t *testing.T) {
	_, s := serveMem(t, nil)
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	data := bytes.Repeat([]byte("0123456789abcdef"), 20<<10) // 320 KiB
	for off := 0; off < len(data); off += 32 << 10 {
		w.want(w.call(sshfx.PacketTypeWrite, h, uint64(off), data[off:off+32<<10]), sshfx.StatusOK)
	}
	for _, c := range []struct {
		off  uint64
		n    uint32
		want int
	}{
		{0, 1, 1}, {0, 255 << 10, 255 << 10}, {0, 255<<10 + 1, 255 << 10}, {5, math.MaxUint32, 255 << 10},
		{300 << 10, 255 << 10, 20 << 10}, {320<<10 - 1, math.MaxUint32, 1},
	} {
		got := w.call(sshfx.PacketTypeRead, h, c.off, c.n).body.ConsumeString()
		if got != string(data[c.off:int(c.off)+c.want]) {
			t.Errorf("READ of %d bytes at %d: %d bytes, want %d", c.n, c.off, len(got), c.want)
		}
	}
	for _, off := range []uint64{320 << 10, 1 << 40, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		w.want(w.call(sshfx.PacketTypeRead, h, off, uint32(math.MaxUint32)), sshfx.StatusEOF)
	}
	w.want(w.call(sshfx.PacketTypeRead, h, uint64(0), uint32(0)), sshfx.StatusEOF)
	w.want(w.call(sshfx.PacketTypeWrite, h, uint64(math.MaxInt64), []byte("x")), sshfx.StatusFailure)
	w.want(w.call(sshfx.PacketTypeWrite, h, uint64(math.MaxUint64), []byte("x")), sshfx.StatusFailure)
	w.want(w.call(sshfx.PacketTypeFSetStat, h, uint32(1), uint64(math.MaxUint64)), sshfx.StatusFailure)
	w.want(w.call(sshfx.PacketTypeFSetStat, h, uint32(8), uint32(0), uint32(0)), sshfx.StatusOK) // the year 1970
}

func TestHandlesAreBounded(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	var open []string
	for i := range 10000 {
		r := w.call(sshfx.PacketTypeOpen, fmt.Sprintf("/f%d", i%10), uint32(0x0b), uint32(0))
		if r.kind == sshfx.PacketTypeHandle {
			open = append(open, r.body.ConsumeString())
			continue
		}
		if code, text := r.status(); code != sshfx.StatusFailure || !strings.Contains(text, "too many open files") {
			t.Fatalf("OPEN %d: %v %s", i, code, text)
		}
	}
	if len(open) != 1024 || mem.Handles.Load() != 1024 || s.Stats().Handles != 1024 {
		t.Errorf("%d handles, %d files open, %d told", len(open), mem.Handles.Load(), s.Stats().Handles)
	}
	w.want(w.call(sshfx.PacketTypeOpenDir, "/"), sshfx.StatusFailure)
	w.want(w.call(sshfx.PacketTypeClose, open[500]), sshfx.StatusOK)
	h := w.open("/f0", 0x0b)
	for _, bad := range []string{open[500], "", "x", h + "x", strings.Repeat("\xff", 8)} {
		w.want(w.call(sshfx.PacketTypeClose, bad), sshfx.StatusFailure)
		w.want(w.call(sshfx.PacketTypeRead, bad, uint64(0), uint32(1)), sshfx.StatusFailure)
		w.want(w.call(sshfx.PacketTypeFStat, bad), sshfx.StatusFailure)
	}
	w.ssh.Close()
	await(t, func() bool { return mem.Handles.Load() == 0 && s.Stats().Handles == 0 && mem.Trees.Load() == 0 })
}

// TestMalformedRequests cuts every request short. Each is answered; too many
// end the session.
func TestMalformedRequests(t *testing.T) {
	_, s := serveMem(t, nil)
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	whole := [][]byte{
		w.packet(sshfx.PacketTypeOpen, 9, "/f", uint32(3), uint32(0)),
		w.packet(sshfx.PacketTypeWrite, 9, h, uint64(0), []byte("data")),
		w.packet(sshfx.PacketTypeRead, 9, h, uint64(0), uint32(9)),
		w.packet(sshfx.PacketTypeSetStat, 9, "/f", uint32(0xf), uint64(1), uint32(0), uint32(0), uint32(0), uint32(0), uint32(0)),
		w.packet(sshfx.PacketTypeSetStat, 9, "/f", uint32(1<<31), uint32(math.MaxUint32), "a", "b"),
		w.packet(sshfx.PacketTypeRename, 9, "/f", "/g"),
		w.packet(sshfx.PacketTypeExtended, 9, "fsync@openssh.com", h),
	}
	for _, p := range whole {
		for _, n := range []int{9, 10, len(p) / 2, len(p) - 1} {
			w := newWire(t, s)
			cut := bytes.Clone(p[:n])
			binary.BigEndian.PutUint32(cut, uint32(n-4))
			w.send(cut)
			if code, _ := w.receive().status(); code != sshfx.StatusBadMessage && code != sshfx.StatusFailure {
				t.Errorf("type %d cut to %d of %d bytes: %v", p[4], n, len(p), code)
			}
			w.want(w.call(sshfx.PacketTypeStat, "/"), sshfx.StatusOK)
			w.ssh.Close()
		}
	}
	for range 17 {
		w.want(w.call(sshfx.PacketTypeStat), sshfx.StatusBadMessage)
	}
	w.wantEnd("malformed")
	for kind := range 256 {
		if k := sshfx.PacketType(kind); k > sshfx.PacketTypeSymlink && k != sshfx.PacketTypeExtended {
			if kind == 21 {
				w = newWire(t, s)
			}
			w.want(w.call(k, "x"), sshfx.StatusOpUnsupported)
		}
	}
}

// wantEnd checks that the server ends the session, with the reason told.
func (w *wire) wantEnd(reason string) {
	w.t.Helper()
	said, _ := io.ReadAll(w.ch.Stderr())
	if !strings.Contains(string(said), reason) {
		w.t.Errorf("the session ended with %q, want %q", said, reason)
	}
	if _, err := w.tryReceive(); !errors.Is(err, io.EOF) {
		w.t.Errorf("the session goes on (%v)", err)
	}
	w.ssh.Close()
}

func TestBrokenFraming(t *testing.T) {
	_, s := serveMem(t, nil)
	for reason, bytes := range map[string]string{
		"a packet of 262145 bytes":     "\x00\x04\x00\x01",
		"a packet of 4294967295 bytes": "\xff\xff\xff\xff\x05",
		"an empty packet":              "\x00\x00\x00\x00",
		"no request id":                "\x00\x00\x00\x02\x05\x00",
	} {
		w := newWire(t, s)
		w.send([]byte(bytes))
		w.wantEnd(reason)
	}
	for reason, bytes := range map[string]string{
		"no INIT":   "\x00\x00\x00\x05\x03\x00\x00\x00\x03",
		"version 2": "\x00\x00\x00\x05\x01\x00\x00\x00\x02",
	} {
		w := silentWire(t, s)
		w.send([]byte(bytes))
		w.wantEnd(reason)
	}
	w := newWire(t, s)
	w.send([]byte{0, 0, 1, 0, 5})
	if err := w.ch.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	w.wantEnd("inside a packet")
	if n := s.Stats().ProtocolErrors; n != 7 {
		t.Errorf("%d protocol errors counted, want 7", n)
	}
}

// TestWholePackets sends the largest packets there may be.
func TestWholePackets(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	data := bytes.Repeat([]byte{1}, 256<<10-(1+4+4+8+8+4))
	for i := range 8 {
		w.want(w.call(sshfx.PacketTypeWrite, h, uint64(i*len(data)), data), sshfx.StatusOK)
	}
	if n := len(mem.Bytes("/f")); n != 8*len(data) {
		t.Errorf("%d bytes arrived, want %d", n, 8*len(data))
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	for err, want := range map[error]sshfx.Status{
		fs.ErrNotExist: sshfx.StatusNoSuchFile, syscall.ENOENT: sshfx.StatusNoSuchFile, syscall.ENOTDIR: sshfx.StatusNoSuchFile,
		fs.ErrPermission: sshfx.StatusPermissionDenied, syscall.EACCES: sshfx.StatusPermissionDenied, syscall.EROFS: sshfx.StatusPermissionDenied,
		errors.ErrUnsupported: sshfx.StatusOpUnsupported, io.EOF: sshfx.StatusEOF,
		fs.ErrExist: sshfx.StatusFailure, fs.ErrInvalid: sshfx.StatusFailure, syscall.ENOSPC: sshfx.StatusFailure,
		syscall.EDQUOT: sshfx.StatusFailure, syscall.EIO: sshfx.StatusFailure, errors.New("a\nb\xff"): sshfx.StatusFailure,
	} {
		mem.Intercept(func(op, _ string) error {
			if op == "Remove" {
				return fmt.Errorf("disk sda of vm1: %w", err)
			}
			return nil
		})
		code, text := w.call(sshfx.PacketTypeRemove, "/x").status()
		if code != want || !strings.HasPrefix(text, "disk sda of vm1: ") || strings.ContainsAny(text, "\n\xff") {
			t.Errorf("%v became %v %q, want %v", err, code, text, want)
		}
	}
}

// TestFilesFailing checks that errors of a file reach the client and the events,
// and that a handle is gone after a CLOSE that failed.
func TestFilesFailing(t *testing.T) {
	events := make(chan sftp.RequestEvent, 100)
	mem, s := serveMem(t, func(o *sftp.Options) { o.Events.RequestError = func(e sftp.RequestEvent) { events <- e } })
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	mem.Intercept(func(op, name string) error {
		switch op {
		case "ReadAt", "WriteAt", "Sync", "FileStat", "FileSetAttr", "FileClose":
			return fmt.Errorf("%s of %s: %w", op, name, syscall.EIO)
		}
		return nil
	})
	for request, r := range map[string]func() reply{
		"read":     func() reply { return w.call(sshfx.PacketTypeRead, h, uint64(0), uint32(9)) },
		"write":    func() reply { return w.call(sshfx.PacketTypeWrite, h, uint64(0), []byte("x")) },
		"fsync":    func() reply { return w.call(sshfx.PacketTypeExtended, "fsync@openssh.com", h) },
		"fstat":    func() reply { return w.call(sshfx.PacketTypeFStat, h) },
		"fsetstat": func() reply { return w.call(sshfx.PacketTypeFSetStat, h, uint32(1), uint64(0)) },
	} {
		code, text := r().status()
		e := <-events
		if code != sshfx.StatusFailure || !strings.Contains(text, "/f: input/output error") || e.Request != request || e.Name != "/f" || !errors.Is(e.Err, syscall.EIO) {
			t.Errorf("%s: %v %q; event %+v", request, code, text, e)
		}
	}
	w.want(w.call(sshfx.PacketTypeClose, h), sshfx.StatusFailure)
	w.want(w.call(sshfx.PacketTypeClose, h), sshfx.StatusFailure)
	if mem.Handles.Load() != 0 {
		t.Error("the file is still open")
	}
	mem.Intercept(nil)
}
