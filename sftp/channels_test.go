package sftp_test

import (
	"errors"
	"strings"
	"testing"

	sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// TestOnlySFTP asks for everything else that SSH has.
func TestOnlySFTP(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) { o.Events = j.events() })
	c := s.DialSSH(t)
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "x11", "auth-agent@openssh.com", "tun@openssh.com", "forwarded-tcpip", "what\n"} {
		ch, _, err := c.OpenChannel(kind, make([]byte, 1000))
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != ssh.Prohibited {
			t.Errorf("channel %s: %v, %v", kind, ch, err)
		}
	}
	for _, kind := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "x"} {
		if ok, _, err := c.SendRequest(kind, true, ssh.Marshal(struct {
			Addr string
			Port uint32
		}{"0.0.0.0", 22})); ok || err != nil {
			t.Errorf("request %s: %v, %v", kind, ok, err)
		}
	}
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
		t.Errorf("keepalive: %v, %v", ok, err)
	}
	requests := map[string]string{
		"exec": "id", "shell": "", "pty-req": "xterm", "env": "LANG", "x11-req": "", "auth-agent-req@openssh.com": "",
		"subsystem": "netconf", "signal": "KILL", "window-change": "", "eow@openssh.com": "",
	}
	ch, in, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(in)
	for kind, arg := range requests {
		if ok, err := ch.SendRequest(kind, true, ssh.Marshal(struct{ S string }{arg})); ok || err != nil {
			t.Errorf("request %s: %v, %v", kind, ok, err)
		}
	}
	ch.Close()
	for what, names := range map[string][]string{
		sftp.RefusedChannel: {"direct-tcpip", "x11", "auth-agent@openssh.com", `"what\n"`},
		sftp.RefusedGlobal:  {"tcpip-forward", "streamlocal-forward@openssh.com"},
		sftp.RefusedRequest: {"exec", "shell", "pty-req", "env", "x11-req", "auth-agent-req@openssh.com", "subsystem"},
	} {
		for _, name := range names {
			if j.has(what, name) != 1 {
				t.Errorf("%d events tell of %s %s", j.has(what, name), what, name)
			}
		}
	}
	if st := s.Stats(); st.Refused[sftp.RefusedRequest] != uint64(len(requests)) || st.SessionsTotal != 0 {
		t.Errorf("told %v refused, %d sessions", st.Refused, st.SessionsTotal)
	}
}

// TestSessionsOneAfterTheOther opens a session, is refused a second beside it,
// and opens one when the first has ended.
func TestSessionsOneAfterTheOther(t *testing.T) {
	mem, s := serveMem(t, nil)
	w := newWire(t, s)
	w.open("/f", 0x1b)
	if _, _, err := w.ssh.OpenChannel("session", nil); err == nil || !strings.Contains(err.Error(), "one session") {
		t.Errorf("a second session: %v", err)
	}
	if ok, err := w.ch.SendRequest("subsystem", true, ssh.Marshal(struct{ S string }{"sftp"})); ok || err != nil {
		t.Errorf("a second subsystem: %v, %v", ok, err)
	}
	for range 3 {
		if err := w.ch.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.tryReceive(); err == nil {
			t.Fatal("a reply to nothing")
		}
		w.ch.Close()
		await(t, func() bool { return mem.Trees.Load() == 0 && mem.Handles.Load() == 0 })
		var ch ssh.Channel
		await(t, func() bool {
			c, in, err := w.ssh.OpenChannel("session", nil)
			if err == nil {
				go ssh.DiscardRequests(in)
				ch = c
			}
			return err == nil
		})
		if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ S string }{"sftp"})); !ok || err != nil {
			t.Fatal(ok, err)
		}
		w.ch, w.out = ch, ch
		w.in.Reset(ch)
		w.send([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3})
		w.receive()
		w.open("/f", 0x1b)
	}
	if n := s.Stats().SessionsTotal; n != 4 {
		t.Errorf("%d sessions counted", n)
	}
}

// TestRefusalsEndTheConnection keeps asking.
func TestRefusalsEndTheConnection(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) { o.Events = j.events() })
	c := s.DialSSH(t)
	go func() {
		// Not waited for: the client's OpenChannel waits for ever when the
		// connection ends as it asks.
		for range 1000 {
			if ch, _, err := c.OpenChannel("direct-tcpip", nil); err == nil {
				ch.Close()
			}
		}
	}()
	if e := j.end(t); e.Reason == nil || j.has(sftp.RefusedChannel, "direct-tcpip") > 80 {
		t.Errorf("%d refusals, then %v", j.has(sftp.RefusedChannel, "direct-tcpip"), e.Reason)
	}
}

func TestTreeThatDoesNotOpen(t *testing.T) {
	s := sftptest.Start(t, func(sftp.Conn) (sftp.Tree, error) { return nil, errors.New("the store is full of eels") }, nil)
	w := silentWire(t, s)
	_, _ = w.out.Write(w.packet(sshfx.PacketTypeInit, 3))
	w.wantEnd("full of eels")
}
