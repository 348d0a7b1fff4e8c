package sftp_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// wire is a session on which tests send what they like.
type wire struct {
	t   testing.TB
	ssh *ssh.Client
	ch  ssh.Channel
	out io.Writer
	in  *bufio.Reader
	id  uint32
}

// reply is an answer without its length.
type reply struct {
	kind sshfx.PacketType
	id   uint32
	body *sshfx.Buffer
}

// newWire opens a session and greets.
func newWire(t testing.TB, s *sftptest.Server) *wire {
	t.Helper()
	w := silentWire(t, s)
	w.send([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3})
	if r := w.receive(); r.kind != sshfx.PacketTypeVersion || r.id != 3 {
		t.Fatalf("INIT was answered with %v %d", r.kind, r.id)
	}
	return w
}

// silentWire opens a session and says nothing.
func silentWire(t testing.TB, s *sftptest.Server) *wire {
	t.Helper()
	client := s.DialSSH(t)
	ch, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil || !ok {
		t.Fatalf("subsystem sftp: %v, %v", ok, err)
	}
	return &wire{t: t, ssh: client, ch: ch, out: ch, in: bufio.NewReaderSize(ch, 512<<10)}
}

func (w *wire) send(b []byte) {
	w.t.Helper()
	if _, err := w.out.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// packet is a request with these fields: strings and bytes with their length.
func (w *wire) packet(kind sshfx.PacketType, id uint32, fields ...any) []byte {
	b := sshfx.NewMarshalBuffer(64)
	b.StartPacket(kind, id)
	for _, f := range fields {
		switch v := f.(type) {
		case string:
			b.AppendString(v)
		case []byte:
			b.AppendString(string(v))
		case uint32:
			b.AppendUint32(v)
		case uint64:
			b.AppendUint64(v)
		default:
			panic(fmt.Sprintf("no encoding of %T", f))
		}
	}
	p, _, _ := b.Packet(nil)
	return p
}

func (w *wire) receive() reply {
	w.t.Helper()
	r, err := w.tryReceive()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *wire) tryReceive() (reply, error) {
	var head [4]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return reply{}, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(w.in, b); err != nil {
		return reply{}, err
	}
	buf := sshfx.NewBuffer(b)
	return reply{kind: sshfx.PacketType(buf.ConsumeUint8()), id: buf.ConsumeUint32(), body: buf}, nil
}

// call sends a request and returns its reply.
func (w *wire) call(kind sshfx.PacketType, fields ...any) reply {
	w.t.Helper()
	w.id++
	w.send(w.packet(kind, w.id, fields...))
	r := w.receive()
	if r.id != w.id {
		w.t.Fatalf("request %d was answered as %d", w.id, r.id)
	}
	return r
}

// status is a reply's code and text; a reply of another kind counts as OK.
func (r reply) status() (sshfx.Status, string) {
	if r.kind != sshfx.PacketTypeStatus {
		return sshfx.StatusOK, ""
	}
	return sshfx.Status(r.body.ConsumeUint32()), r.body.ConsumeString()
}

// open opens a file with pflags and permissions of 0, as sshfs does.
func (w *wire) open(name string, pflags uint32) (handle string) {
	w.t.Helper()
	r := w.call(sshfx.PacketTypeOpen, name, pflags, uint32(4), uint32(0))
	if r.kind != sshfx.PacketTypeHandle {
		code, text := r.status()
		w.t.Fatalf("OPEN %q: %v %s", name, code, text)
	}
	return r.body.ConsumeString()
}

// want checks the status of a reply.
func (w *wire) want(r reply, code sshfx.Status) {
	w.t.Helper()
	if got, text := r.status(); got != code {
		w.t.Errorf("got %v (%s), want %v", got, text, code)
	}
}
