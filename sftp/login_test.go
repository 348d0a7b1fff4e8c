package sftp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// journal keeps the events of a server.
type journal struct {
	mu      sync.Mutex
	refused []sftp.RefusedEvent
	failed  []error
	ends    []sftp.EndEvent
	logins  []sftp.Peer
}

func (j *journal) events() sftp.Events {
	note := func(f func()) {
		j.mu.Lock()
		defer j.mu.Unlock()
		f()
	}
	return sftp.Events{
		Login:       func(p sftp.Peer) { note(func() { j.logins = append(j.logins, p) }) },
		LoginFailed: func(_ sftp.Peer, err error) { note(func() { j.failed = append(j.failed, err) }) },
		End:         func(e sftp.EndEvent) { note(func() { j.ends = append(j.ends, e) }) },
		Refused:     func(e sftp.RefusedEvent) { note(func() { j.refused = append(j.refused, e) }) },
	}
}

// has counts refusals of a kind with a name.
func (j *journal) has(what, name string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.refused {
		if e.What == what && e.Name == name {
			n++
		}
	}
	return n
}

// end waits for the end of a connection.
func (j *journal) end(t *testing.T) sftp.EndEvent {
	t.Helper()
	await(t, func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(j.ends) > 0
	})
	return j.ends[0]
}

// dial tries to log in with one method.
func dial(s *sftptest.Server, user string, methods ...ssh.AuthMethod) error {
	config := s.ClientConfig()
	config.User, config.Auth = user, methods
	c, err := ssh.Dial("tcp", s.Addr, config)
	if err == nil {
		c.Close()
	}
	return err
}

func TestLogins(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) { o.Events = j.events() })
	stranger, _ := sftptest.NewKey(t)
	for _, c := range []struct {
		what, user string
		method     ssh.AuthMethod
		ok         bool
	}{
		{"key", sftptest.User, ssh.PublicKeys(s.Key), true},
		{"password", sftptest.User, ssh.Password(sftptest.Password), true},
		{"another's key", sftptest.User, ssh.PublicKeys(stranger), false},
		{"another key first", sftptest.User, ssh.PublicKeys(stranger, s.Key), true},
		{"wrong password", sftptest.User, ssh.Password("x"), false},
		{"no password", sftptest.User, ssh.Password(""), false},
		{"another user's name", "root", ssh.PublicKeys(s.Key), false},
		{"a strange name", "root\n\x00", ssh.Password(sftptest.Password), false},
		{"keyboard-interactive", sftptest.User, ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil }), false},
	} {
		if err := dial(s, c.user, c.method); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	await(t, func() bool { return len(s.Connections()) == 0 && s.Stats().Connections == 0 })
	st := s.Stats()
	if st.LoginsTotal["key"] != 2 || st.LoginsTotal["password"] != 1 || st.LoginsFailed["key"] != 3 || st.LoginsFailed["password"] != 3 {
		t.Errorf("told logins %v, failed %v", st.LoginsTotal, st.LoginsFailed)
	}
	for _, e := range j.refused {
		if strings.ContainsAny(e.Peer.User, "\n\x00") || e.Reason == nil {
			t.Errorf("event %+v is not fit for a log", e)
		}
	}
}

// TestOtherCiphers checks that only AES-GCM is spoken.
func TestOtherCiphers(t *testing.T) {
	_, s := serveMem(t, nil)
	for cipher, ok := range map[string]bool{
		ssh.CipherAES128GCM: true, ssh.CipherAES256GCM: true, ssh.CipherChaCha20Poly1305: false, ssh.CipherAES128CTR: false, ssh.CipherAES256CTR: false,
	} {
		config := s.ClientConfig()
		config.Ciphers = []string{cipher}
		c, err := ssh.Dial("tcp", s.Addr, config)
		if (err == nil) != ok {
			t.Errorf("%s: %v", cipher, err)
		}
		if err == nil {
			c.Close()
		}
	}
	for _, kex := range []string{ssh.KeyExchangeDH14SHA256, ssh.InsecureKeyExchangeDH14SHA1} {
		config := s.ClientConfig()
		config.KeyExchanges = []string{kex}
		if c, err := ssh.Dial("tcp", s.Addr, config); err == nil {
			c.Close()
			t.Errorf("%s is spoken", kex)
		}
	}
}

// TestKeyQueryOpensNothing asks about a good key without having it, then logs in
// as another: who the client is comes from the method that was accepted.
func TestKeyQueryOpensNothing(t *testing.T) {
	victim, _ := sftptest.NewKey(t)
	mine, _ := sftptest.NewKey(t)
	var opened atomic.Int64
	asked := map[string]int{} // by the goroutine of the one connection, before it has logged in
	users := map[string]ssh.PublicKey{"victim": victim.PublicKey(), "mine": mine.PublicKey()}
	auth := authFunc(func(_ string, key ssh.PublicKey) (*sftp.Login, error) {
		for name, k := range users {
			if bytes.Equal(k.Marshal(), key.Marshal()) {
				asked[name]++
				return &sftp.Login{User: name, Open: func(sftp.Conn) (sftp.Tree, error) {
					opened.Add(1)
					return sftptest.New().Tree(), nil
				}}, nil
			}
		}
		return nil, errors.New("unknown")
	})
	_, s := serveMem(t, func(o *sftp.Options) { o.Auth = auth })
	config := s.ClientConfig()
	config.Auth = []ssh.AuthMethod{ssh.PublicKeys(twoFaced{mine, victim.PublicKey()})}
	c, err := ssh.Dial("tcp", s.Addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	await(t, func() bool { return len(s.Connections()) == 1 })
	list := s.Connections()
	if list[0].Peer.User != "mine" || asked["victim"] != 1 || asked["mine"] != 1 || opened.Load() != 0 {
		t.Errorf("logged in as %+v; asked about %v, %d trees opened", list, asked, opened.Load())
	}
}

// twoFaced is a key of its owner's that asks with the victim's.
type twoFaced struct {
	ssh.Signer
	victim ssh.PublicKey
}

func (k twoFaced) PublicKey() ssh.PublicKey {
	return &mask{PublicKey: k.Signer.PublicKey(), victim: k.victim}
}

// mask shows the victim's key when the client asks, and when it checks that the
// answer is about what it asked.
type mask struct {
	ssh.PublicKey
	victim ssh.PublicKey
	shown  int
}

func (m *mask) Marshal() []byte {
	if m.shown++; m.shown <= 2 {
		return m.victim.Marshal()
	}
	return m.PublicKey.Marshal()
}

// authFunc knows keys only.
type authFunc func(user string, key ssh.PublicKey) (*sftp.Login, error)

func (f authFunc) Key(user string, key ssh.PublicKey, _ sftp.Conn) (*sftp.Login, error) {
	return f(user, key)
}

func (f authFunc) Certificate(user string, c *ssh.Certificate, _ sftp.Conn) (*sftp.Login, error) {
	return f(user, c.Key)
}

func (authFunc) Password(string, []byte, sftp.Conn) (*sftp.Login, error) {
	return nil, errors.New("no passwords")
}

// TestHalfOpenLogins holds as many connections as there may be that say
// nothing, a banner, or half a key exchange. They end at the deadline.
func TestHalfOpenLogins(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) {
		o.Events = j.events()
		o.Limits = sftp.Limits{Logins: 12, LoginTimeout: 400 * time.Millisecond, Burst: 1000}
	})
	says := []string{"", "SSH-2.0-x\r\n", "SSH-2.0-x\r\n" + string(kexInit()), "GET / HTTP/1.1\r\n"}
	begin := time.Now()
	var open []net.Conn
	for i := range 20 {
		nc, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := io.WriteString(nc, says[i%len(says)]); err != nil && i < 6 {
			t.Error(err)
		}
		open = append(open, nc)
	}
	await(t, func() bool { return j.has(sftp.RefusedConnection, "address") == 14 }) // half of 12 are one address's
	if n := s.Stats().Logins; n > 6 {
		t.Errorf("%d connections are logging in", n)
	}
	for _, nc := range open {
		_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("half-open logins lasted %v", took)
	}
	await(t, func() bool { st := s.Stats(); return st.Connections == 0 && st.HandshakeFailures == 6 })
	if c := s.DialSSH(t); c == nil {
		t.Error("nobody can log in any more")
	}
}

// TestGuessing tries passwords until the server has had enough of this address.
func TestGuessing(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) {
		o.Events = j.events()
		o.Limits = sftp.Limits{NewPerSecond: 0.001, Burst: 30}
	})
	begin := time.Now()
	var tries atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			_ = dial(s, sftptest.User, ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
				tries.Add(1)
				return "guess", nil
			}), 100))
		})
	}
	wg.Wait()
	if n := tries.Load(); n < 3 || n > 3*12 {
		t.Errorf("%d guesses were let through", n)
	}
	if took := time.Since(begin); took < 3*700*time.Millisecond {
		t.Errorf("three guesses took %v", took)
	}
	if err := dial(s, sftptest.User, ssh.PublicKeys(s.Key)); err == nil {
		t.Error("the address has credit left")
	}
	if j.has(sftp.RefusedLogin, "password") != int(tries.Load()) || j.has(sftp.RefusedConnection, "rate") == 0 {
		t.Errorf("events: %d refused passwords, %d refused connections", j.has(sftp.RefusedLogin, "password"), j.has(sftp.RefusedConnection, "rate"))
	}
}

func TestConnectionLimits(t *testing.T) {
	var j journal
	_, s := serveMem(t, func(o *sftp.Options) {
		o.Events = j.events()
		o.Limits = sftp.Limits{ConnectionsPerUser: 2, Connections: 4}
	})
	for range 2 {
		s.Dial(t)
	}
	c := s.DialSSH(t)
	_, _, err := c.OpenChannel("session", nil)
	if err == nil || !strings.Contains(err.Error(), "too many connections of this login") {
		t.Errorf("a third connection of a user: %v", err)
	}
	s.DialSSH(t)
	if err := dial(s, sftptest.User, ssh.PublicKeys(s.Key)); err == nil {
		t.Error("a fifth connection was let in")
	}
	await(t, func() bool { // the client may see the end before the server tells of it
		return j.has(sftp.RefusedConnection, "user") == 1 && j.has(sftp.RefusedConnection, "connections") == 1
	})
	await(t, func() bool { return len(s.Connections()) == 4 })
	if list := s.Connections(); !slices.IsSortedFunc(list, func(a, b sftp.ConnInfo) int { return a.Since.Compare(b.Since) }) {
		t.Errorf("%d connections listed", len(list))
	}
}

// TestManyJobsAtOnce logs in as a hypervisor does that starts its jobs at the
// same minute.
func TestManyJobsAtOnce(t *testing.T) {
	_, s := serveMem(t, func(o *sftp.Options) { o.Limits.ConnectionsPerUser = 64 })
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if err := dial(s, sftptest.User, ssh.PublicKeys(s.Key)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
