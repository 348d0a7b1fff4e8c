package sftp_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// serveMem is a server of a file system in memory.
func serveMem(t testing.TB, change func(*sftp.Options)) (*sftptest.FS, *sftptest.Server) {
	t.Helper()
	mem := sftptest.New()
	return mem, sftptest.Start(t, func(sftp.Conn) (sftp.Tree, error) { return mem.Tree(), nil }, change)
}

// TestOverlappingWritesKeepTheirOrder sends pairs of writes to one place, the
// second right behind the first. Servers that hand requests to several workers
// get one in eight of them wrong.
func TestOverlappingWritesKeepTheirOrder(t *testing.T) {
	const pairs, size = 20000, 96
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	go func() {
		var batch []byte
		for i := range pairs {
			off := uint64(i * size / 2) // half of it is the next pair's
			batch = append(batch, w.packet(sshfx.PacketTypeWrite, uint32(2*i), h, off, bytes.Repeat([]byte{0xee}, size))...)
			second := make([]byte, size)
			binary.BigEndian.PutUint32(second, uint32(i))
			batch = append(batch, w.packet(sshfx.PacketTypeWrite, uint32(2*i+1), h, off, second)...)
			if len(batch) > 64<<10 || i == pairs-1 {
				if _, err := w.out.Write(batch); err != nil {
					t.Error(err)
				}
				batch = batch[:0]
			}
		}
	}()
	for i := range 2 * pairs {
		r := w.receive()
		if r.id != uint32(i) {
			t.Fatalf("reply %d is to request %d", i, r.id)
		}
		w.want(r, sshfx.StatusOK)
	}
	got, wrong := mem.Bytes("/f"), 0
	for i := range pairs {
		if binary.BigEndian.Uint32(got[i*size/2:]) != uint32(i) {
			wrong++
		}
	}
	if wrong > 0 || len(got) != (pairs+1)*size/2 {
		t.Errorf("%d of %d pairs were applied out of order; %d bytes", wrong, pairs, len(got))
	}
}

// TestLaterRequestsSeeEarlierOnes sends what sshfs sends without waiting: LSTAT
// behind the OPEN that makes the file, FSTAT, READ and FSETSTAT behind writes.
func TestLaterRequestsSeeEarlierOnes(t *testing.T) {
	_, s := serveMem(t, nil)
	w := newWire(t, s)
	for i := range 200 {
		name := fmt.Sprintf("/f%d", i)
		w.send(append(w.packet(sshfx.PacketTypeOpen, 1, name, uint32(0x2a|1), uint32(4), uint32(0o100644)),
			w.packet(sshfx.PacketTypeLStat, 2, name)...))
		r := w.receive()
		if r.kind != sshfx.PacketTypeHandle {
			t.Fatal(r.status())
		}
		h := r.body.ConsumeString()
		if r = w.receive(); r.kind != sshfx.PacketTypeAttrs || r.id != 2 {
			t.Fatal(r.status())
		}
		var batch []byte
		batch = append(batch, w.packet(sshfx.PacketTypeWrite, 3, h, uint64(i), []byte("abc"))...)
		batch = append(batch, w.packet(sshfx.PacketTypeFStat, 4, h)...)
		batch = append(batch, w.packet(sshfx.PacketTypeRead, 5, h, uint64(i), uint32(100))...)
		batch = append(batch, w.packet(sshfx.PacketTypeFSetStat, 6, h, uint32(1), uint64(i+1))...)
		batch = append(batch, w.packet(sshfx.PacketTypeRead, 7, h, uint64(i), uint32(100))...)
		batch = append(batch, w.packet(sshfx.PacketTypeClose, 8, h)...)
		w.send(batch)
		w.want(w.receive(), sshfx.StatusOK)
		var a sshfx.AttrsPacket
		if err := a.UnmarshalPacketBody(w.receive().body); err != nil || a.Attrs.Size != uint64(i+3) {
			t.Fatalf("FSTAT behind a write: %d, %v", a.Attrs.Size, err)
		}
		if got := w.receive().body.ConsumeString(); got != "abc" {
			t.Fatalf("READ behind a write: %q", got)
		}
		w.want(w.receive(), sshfx.StatusOK)
		if got := w.receive().body.ConsumeString(); got != "a" {
			t.Fatalf("READ behind a truncate: %q", got)
		}
		w.want(w.receive(), sshfx.StatusOK)
	}
}
