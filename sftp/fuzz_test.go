package sftp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

func fuzzServer(t testing.TB, mem *sftptest.FS) *sftp.Server {
	key, _ := sftptest.NewKey(t)
	login := sftp.Login{Open: func(sftp.Conn) (sftp.Tree, error) { return mem.Tree(), nil }}
	s, err := sftp.New(sftp.Options{
		HostKey: key, Auth: sftptest.OneUser{Public: key.PublicKey(), Login: login}, Passwords: true,
		Limits: sftp.Limits{Handles: 8, Burst: math.MaxInt32, NewPerSecond: 1e9},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// framed checks the framing of what a server says, and counts.
type framed struct {
	t       *testing.T
	buf     []byte
	replies int
}

func (f *framed) Write(p []byte) (int, error) {
	f.buf = append(f.buf, p...)
	for len(f.buf) >= 4 {
		n := int(binary.BigEndian.Uint32(f.buf))
		if n < 5 || n > 256<<10 {
			f.t.Fatalf("a reply of %d bytes", n)
		}
		if len(f.buf) < 4+n {
			break
		}
		switch kind := sshfx.PacketType(f.buf[4]); {
		case kind == sshfx.PacketTypeVersion && f.replies == 0:
		case kind >= sshfx.PacketTypeStatus && kind <= sshfx.PacketTypeAttrs, kind == sshfx.PacketTypeExtendedReply:
		default:
			f.t.Fatalf("a reply of type %d", kind)
		}
		f.replies++
		f.buf = f.buf[4+n:]
	}
	return len(p), nil
}

// packets counts the whole packets at the front of a stream.
func packets(b []byte) (n int) {
	for len(b) >= 4 {
		size := binary.BigEndian.Uint32(b)
		if size == 0 || size > 256<<10 || int(size) > len(b)-4 {
			break
		}
		b = b[4+size:]
		n++
	}
	return n
}

// FuzzSession gives a session a stream. It must not panic, answer more than was
// asked, or leave anything open.
func FuzzSession(f *testing.F) {
	for _, seed := range sessions() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		mem := sftptest.New()
		mem.Quota = 16 << 20
		s := fuzzServer(t, mem)
		out := &framed{t: t}
		err := s.ServeSession(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), out}, mem.Tree())
		if len(out.buf) > 0 || out.replies > packets(in) || err == nil && out.replies < packets(in) {
			t.Fatalf("%d replies and %d bytes to %d packets (%v)", out.replies, len(out.buf), packets(in), err)
		}
		if mem.Handles.Load() != 0 || mem.Trees.Load() != 0 || s.Stats().Handles != 0 {
			t.Fatalf("%d files and %d trees are left open", mem.Handles.Load(), mem.Trees.Load())
		}
	})
}

// sessions are streams with every kind of request.
func sessions() [][]byte {
	var w wire
	h := "\x00\x00\x00\x00\x00\x00\x00\x01"
	hello := []byte{0, 0, 0, 5, 1, 0, 0, 0, 3}
	open := w.packet(sshfx.PacketTypeOpen, 1, "/f", uint32(0x1b), uint32(4), uint32(0o644))
	folder := append(w.packet(sshfx.PacketTypeMkdir, 1, "/d", uint32(0)), w.packet(sshfx.PacketTypeOpenDir, 2, "/d")...)
	all := [][]byte{
		hello,
		bytes.Join([][]byte{
			hello, open, w.packet(sshfx.PacketTypeWrite, 2, h, uint64(70000), []byte("abc")), w.packet(sshfx.PacketTypeRead, 3, h, uint64(0), uint32(80000)),
			w.packet(sshfx.PacketTypeFStat, 4, h), w.packet(sshfx.PacketTypeFSetStat, 5, h, uint32(0xd), uint64(3), uint32(0o600), uint32(1), uint32(2)),
			w.packet(sshfx.PacketTypeExtended, 6, "fsync@openssh.com", h), w.packet(sshfx.PacketTypeExtended, 7, "fstatvfs@openssh.com", h),
			w.packet(sshfx.PacketTypeClose, 8, h), w.packet(sshfx.PacketTypeClose, 9, h),
		}, nil),
		bytes.Join([][]byte{
			hello, folder, w.packet(sshfx.PacketTypeReadDir, 3, h), w.packet(sshfx.PacketTypeReadDir, 3, h), w.packet(sshfx.PacketTypeClose, 4, h),
			w.packet(sshfx.PacketTypeRmdir, 5, "d"), w.packet(sshfx.PacketTypeRealPath, 6, "a/../.."), w.packet(sshfx.PacketTypeStat, 7, "/"),
		}, nil),
		bytes.Join([][]byte{
			hello, open, w.packet(sshfx.PacketTypeRename, 2, "/f", "/g"), w.packet(sshfx.PacketTypeExtended, 3, "posix-rename@openssh.com", "/g", "/f"),
			w.packet(sshfx.PacketTypeExtended, 4, "hardlink@openssh.com", "/f", "/g"), w.packet(sshfx.PacketTypeRemove, 5, "/f"),
			w.packet(sshfx.PacketTypeSetStat, 6, "/g", uint32(1<<31), uint32(2), "a", "b", "c", "d"),
			w.packet(sshfx.PacketTypeExtended, 7, "lsetstat@openssh.com", "/g", uint32(2), uint32(1), uint32(1)),
			w.packet(sshfx.PacketTypeExtended, 8, "limits@openssh.com"), w.packet(sshfx.PacketTypeExtended, 9, "statvfs@openssh.com", "/"),
			w.packet(sshfx.PacketTypeSymlink, 10, "a", "b"), w.packet(sshfx.PacketTypeReadLink, 11, "a"), w.packet(sshfx.PacketTypeExtended, 12, "?"),
		}, nil),
	}
	for _, s := range all[1:] {
		all = append(all, s[:len(s)*2/3])
	}
	return all
}

// FuzzAttrs compares our reader of ATTRS with the codec's, which must not see a
// count of extended attributes that it believes.
func FuzzAttrs(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte("\x00\x00\x00\x0f\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x01\xa4\x00\x00\x00\x04\x00\x00\x00\x05"))
	f.Add([]byte("\x80\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x01a\x00\x00\x00\x01b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := sftp.ParseAttrs(bytes.Clone(b))
		if got.HasExtended() {
			return
		}
		var want sshfx.Attributes
		if wantErr := want.UnmarshalBinary(b); !errors.Is(err, wantErr) || err == nil && (got.Flags != want.Flags || got.Size != want.Size ||
			got.Permissions != want.Permissions || got.ATime != want.ATime || got.MTime != want.MTime || got.UID != want.UID || got.GID != want.GID) {
			t.Fatalf("%+v, %v; the codec says %+v, %v", got, err, want, wantErr)
		}
	})
}

// FuzzHandshake gives the SSH server what a client sends before it has logged
// in. Nobody gets in and nothing is left.
func FuzzHandshake(f *testing.F) {
	mem := sftptest.New()
	s := fuzzServer(f, mem)
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Add([]byte("no\r\nSSH-1.99-x\n\x00\x00\x00\x0c\x0a\x14"))
	f.Add(append([]byte("SSH-2.0-x\r\n"), kexInit()...))
	f.Add(append(append([]byte("SSH-2.0-x\r\n"), kexInit()...), ecdhInit()...))
	f.Fuzz(func(t *testing.T, in []byte) {
		s.ServeConn(sftp.MemoryConn{Reader: bytes.NewReader(in), Writer: io.Discard})
		if st := s.Stats(); st.Connections != 0 || st.Logins != 0 || len(st.LoginsTotal) != 0 || mem.Trees.Load() != 0 {
			t.Fatalf("left behind or let in: %+v", st)
		}
	})
}

// plain is an SSH packet before there are keys.
func plain(payload []byte) []byte {
	padding := 8 - (5+len(payload))%8 + 4
	if (5+len(payload)+padding)%8 != 0 {
		padding = 16 - (5+len(payload))%8
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	b = append(append(b, byte(padding)), payload...)
	return append(b, make([]byte, padding)...)
}

func kexInit() []byte {
	b := append([]byte{20}, make([]byte, 16)...)
	for _, list := range []string{
		"curve25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com", "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", "",
	} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		b = append(b, list...)
	}
	return plain(append(b, 0, 0, 0, 0, 0))
}

func ecdhInit() []byte {
	point := make([]byte, 32)
	point[0] = 9
	return plain(append([]byte{30, 0, 0, 0, 32}, point...))
}
