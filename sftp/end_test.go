package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

func TestLoginGone(t *testing.T) {
	var j journal
	mem := sftptest.New()
	gone := make(chan struct{})
	_, s := serveMem(t, func(o *sftp.Options) {
		o.Events = j.events()
		auth := o.Auth.(sftptest.OneUser)
		auth.Login = sftp.Login{Gone: gone, GoneReason: "the backup was committed", Open: func(sftp.Conn) (sftp.Tree, error) { return mem.Tree(), nil }}
		o.Auth = auth
	})
	w := newWire(t, s)
	w.open("/f", 0x1b)
	close(gone)
	w.wantEnd("the backup was committed")
	if e := j.end(t); e.Reason == nil || e.Reason.Error() != "the backup was committed" {
		t.Errorf("ended with %v", e.Reason)
	}
	if mem.Handles.Load() != 0 || mem.Trees.Load() != 0 {
		t.Error("files or the tree are left open")
	}
}

// TestShutdownFinishesTheRequest shuts down while a request is inside the tree:
// it is answered, then the client is told.
func TestShutdownFinishesTheRequest(t *testing.T) {
	mem, s := serveMem(t, nil)
	idle, busy := newWire(t, s), newWire(t, s)
	h := busy.open("/f", 0x1b)
	inside, goOn := make(chan struct{}), make(chan struct{})
	mem.Intercept(func(op, _ string) error {
		if op == "WriteAt" {
			close(inside)
			<-goOn
		}
		return nil
	})
	busy.send(busy.packet(sshfx.PacketTypeWrite, 77, h, uint64(0), []byte("x")))
	<-inside
	ended := make(chan error)
	go func() { ended <- s.Shutdown(context.Background()) }()
	idle.wantEnd("shutting down")
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v with a request under way", err)
	default:
	}
	close(goOn)
	r := busy.receive()
	if r.id != 77 {
		t.Errorf("reply to %d", r.id)
	}
	busy.want(r, sshfx.StatusOK)
	busy.wantEnd("shutting down")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if mem.Trees.Load() != 0 || mem.Handles.Load() != 0 {
		t.Error("files or trees are left open")
	}
	if _, err := net.Dial("tcp", s.Addr); err == nil {
		t.Error("the server still listens")
	}
}

// TestShutdownInTime gives up on a request that does not end.
func TestShutdownInTime(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	inside, goOn := make(chan struct{}), make(chan struct{})
	mem.Intercept(func(op, _ string) error {
		if op == "Mkdir" {
			close(inside)
			<-goOn
		}
		return nil
	})
	w.send(w.packet(sshfx.PacketTypeMkdir, 1, "/d", uint32(0)))
	<-inside
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v", err)
	}
	if _, err := w.tryReceive(); err == nil {
		t.Error("a reply after the end")
	}
	close(goOn)
	await(t, func() bool { return mem.Trees.Load() == 0 })
}

// TestDeadClient stops answering; the server notices and lets go of the files.
func TestDeadClient(t *testing.T) {
	var j journal
	mem, s := serveMem(t, func(o *sftp.Options) {
		o.Events = j.events()
		o.Limits.KeepAlive = 60 * time.Millisecond
	})
	alive := newWire(t, s)
	raw, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	relay, far := net.Pipe()
	stop := make(chan struct{})
	copied := make(chan struct{}, 2)
	go func() { // what the server says does not arrive any more once stop is closed
		buf := make([]byte, 64<<10)
		for {
			n, err := raw.Read(buf)
			if err != nil {
				break
			}
			select {
			case <-stop:
				continue
			default:
			}
			if _, err := far.Write(buf[:n]); err != nil {
				break
			}
		}
		copied <- struct{}{}
	}()
	go func() { _, _ = io.Copy(raw, far); copied <- struct{}{} }()
	conn, channels, requests, err := ssh.NewClientConn(relay, s.Addr, s.ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(conn, channels, requests)
	ch, in, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(in)
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ S string }{"sftp"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	await(t, func() bool { return mem.Trees.Load() == 2 })
	close(stop)
	if e := j.end(t); e.Reason == nil || !strings.Contains(e.Reason.Error(), "no sign of life") {
		t.Errorf("ended with %v", e.Reason)
	}
	if s.Stats().Dead != 1 || mem.Trees.Load() != 1 {
		t.Errorf("%d dead, %d trees open", s.Stats().Dead, mem.Trees.Load())
	}
	alive.want(alive.call(sshfx.PacketTypeStat, "/"), sshfx.StatusOK) // keepalives kept it
	c.Close()
	raw.Close()
	far.Close()
	<-copied
	<-copied
}

// TestSlowTree keeps a request in the tree for much longer than a client may be
// silent. The client is alive and is not dropped.
func TestSlowTree(t *testing.T) {
	mem, s := serveMem(t, func(o *sftp.Options) { o.Limits.KeepAlive = 40 * time.Millisecond })
	w := newWire(t, s)
	mem.Intercept(func(op, _ string) error {
		if op == "Rename" {
			time.Sleep(400 * time.Millisecond) // the time it takes is what is tested
		}
		return nil
	})
	w.want(w.call(sshfx.PacketTypeRename, "/a.part", "/a"), sshfx.StatusNoSuchFile)
	if n := s.Stats().Dead; n != 0 {
		t.Errorf("%d clients were taken for dead", n)
	}
}

func TestIdleClient(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) {
		o.Events = j.events()
		o.Limits.KeepAlive, o.Limits.IdleTimeout = 90*time.Millisecond, 200*time.Millisecond
	})
	w := newWire(t, s)
	for range 5 {
		time.Sleep(60 * time.Millisecond) // not what is waited for, but what keeps it from being idle
		w.want(w.call(sshfx.PacketTypeStat, "/"), sshfx.StatusOK)
	}
	w.wantEnd("idle limit")
	if e := j.end(t); e.Reason == nil {
		t.Error("no reason told")
	}
}

// TestRepliesLeftUnread sends reads and takes no replies. The server stops
// reading requests instead of keeping their replies.
func TestRepliesLeftUnread(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	h := w.open("/f", 0x1b)
	w.want(w.call(sshfx.PacketTypeWrite, h, uint64(0), bytes.Repeat([]byte{1}, 250<<10)), sshfx.StatusOK)
	request := w.packet(sshfx.PacketTypeRead, 1, h, uint64(0), uint32(250<<10))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 100000 { // 25 GB of replies
			if _, err := w.out.Write(request); err != nil {
				return
			}
		}
	}()
	var before uint64
	await(t, func() bool {
		now := s.Stats().ReadBytes
		stuck := now == before && now > 0
		before = now
		time.Sleep(20 * time.Millisecond)
		return stuck
	})
	if before > 16<<20 {
		t.Errorf("%d bytes were read for a client that takes none", before)
	}
	w.ssh.Close()
	<-sent
	await(t, func() bool { return mem.Handles.Load() == 0 })
}
