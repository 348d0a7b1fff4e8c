package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// abused is a server with a well-behaved client beside the abuse.
type abused struct {
	*scene
	good *drop
}

func newAbused(t *testing.T, settings ...string) *abused {
	t.Helper()
	s := newFileScene(t, settings...)
	return &abused{s, s.drop("good")}
}

// survived checks what must be true after any abuse: the server is the same
// process, its memory is bounded, a good client gets in and can work, and the
// log has the words.
func (a *abused) survived(words ...string) {
	a.Helper()
	path := filepath.Join(a.good.mount(), "after.txt")
	a.put(path, []byte("all is well"))
	a.sameFile(path, []byte("all is well"))
	const bound = 700 << 20 // caches and the SFTP server's own memory
	if rss := a.rss(); rss > bound {
		a.Errorf("the server has %d MiB in memory", rss>>20)
	}
	log, err := os.ReadFile(a.srv.Log)
	a.must(err)
	for _, w := range words {
		if !bytes.Contains(log, []byte(w)) {
			a.Errorf("the log does not say %q:\n%s", w, a.srv.LogTail())
		}
	}
	if len(log) > 1<<20 {
		a.Errorf("the log has %d bytes: what clients do wrong fills it", len(log))
	}
	if bytes.Contains(log, []byte("panic")) {
		a.Errorf("a panic:\n%s", a.srv.LogTail())
	}
}

// rss is what the server's process has in memory, in bytes.
func (a *abused) rss() int64 {
	a.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.srv.Pid()))
	a.must(err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		a.Fatalf("no VmRSS of process %d:\n%s", a.srv.Pid(), status)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	a.must(err)
	return kib << 10
}

// ssh runs OpenSSH's client; it must fail and print nothing.
func (a *abused) sshFails(what string, args ...string) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, 10*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "ssh", append(a.good.client.Args("-p"), args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("id\n"), &stdout, &stderr
	if err := cmd.Run(); err == nil || ctx.Err() != nil || strings.Contains(stdout.String(), "uid=") {
		a.Errorf("%s: %v, %v, it printed %q %q", what, err, ctx.Err(), &stdout, &stderr)
	}
}

// TestOnlySftpIsServed asks OpenSSH's client, then a client of our own, for all
// that SSH offers besides SFTP.
func TestOnlySftpIsServed(t *testing.T) {
	t.Parallel()
	a := newAbused(t)
	to := a.good.client.Target()
	a.sshFails("a command", to, "id")
	a.sshFails("a shell", "-T", to)
	a.sshFails("a terminal", "-tt", to)
	a.sshFails("another subsystem", "-s", to, "netconf")
	a.sshFails("remote forwarding", "-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9", to)
	a.sshFails("a tunnel", "-N", "-o", "ExitOnForwardFailure=yes", "-w", "any", to)
	a.forwardsNothing("-L")
	a.forwardsNothing("-D")
	a.requestsRefused()
	a.survived("only the sftp subsystem", "name=exec", "name=shell", "name=pty-req", "name=direct-tcpip", "name=tcpip-forward")
}

// forwardsNothing lets ssh listen for a forwarding, which needs no server, and
// sends something through: it must not arrive.
func (a *abused) forwardsNothing(flag string) {
	a.Helper()
	secret, err := net.Listen("tcp", "127.0.0.1:0")
	a.must(err)
	defer secret.Close()
	var reached atomic.Bool
	go func() {
		if c, err := secret.Accept(); err == nil {
			reached.Store(true)
			c.Close()
		}
	}()
	socket := a.path("forward" + flag)
	spec := socket + ":" + secret.Addr().String()
	if flag == "-D" {
		spec = socket
	}
	cmd := exec.Command("ssh", append(a.good.client.Args("-p"), "-N", flag, spec, a.good.client.Target())...)
	a.must(cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	for !isReady(socket) {
		a.must(a.ctx.Err())
		time.Sleep(5 * time.Millisecond)
	}
	c, err := net.Dial("unix", socket)
	a.must(err)
	defer c.Close()
	a.must(c.SetDeadline(time.Now().Add(5 * time.Second)))
	if flag == "-D" { // SOCKS 5: no authentication, then CONNECT
		port := secret.Addr().(*net.TCPAddr).Port
		_, err := c.Write([]byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, byte(port >> 8), byte(port)})
		a.must(err)
	}
	_, _ = io.ReadAll(c) // until ssh has heard that it may not
	if reached.Load() {
		a.Errorf("ssh %s reached another server through ours", flag)
	}
}

// requestsRefused asks for channels and requests one by one.
func (a *abused) requestsRefused() {
	a.Helper()
	conn := a.dialSSH(a.good.client)
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "tun@openssh.com", "nonsense", ""} {
		if _, _, err := conn.OpenChannel(kind, make([]byte, 100)); err == nil {
			a.Errorf("a channel of type %q was opened", kind)
		}
	}
	for _, kind := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "nonsense"} {
		if ok, _, err := conn.SendRequest(kind, true, make([]byte, 100)); ok || err != nil {
			a.Errorf("global request %q: %v, %v", kind, ok, err)
		}
	}
	for _, kind := range []string{"exec", "shell", "pty-req", "env", "x11-req", "auth-agent-req@openssh.com", "window-change", "signal", "nonsense"} {
		ch, requests, err := conn.OpenChannel("session", nil)
		if err != nil {
			continue // a server may allow fewer sessions
		}
		go ssh.DiscardRequests(requests)
		if ok, err := ch.SendRequest(kind, true, ssh.Marshal(struct{ Value string }{"id"})); ok {
			a.Errorf("request %q was granted (%v)", kind, err)
		}
		ch.Close()
	}
}

// TestManyHandlesAndHugeReads asks for far more than a client may have.
func TestManyHandlesAndHugeReads(t *testing.T) {
	t.Parallel()
	a := newAbused(t)
	w := a.good.wire()
	handle, err := w.open("file", fxfRead|fxfWrite|fxfCreat)
	a.must(err)
	r, err := w.ask(fxpWrite, handle, uint64(0), noise(1, 200_000))
	a.must(err, expectOK(r))
	a.handlesAreBounded(w)
	for _, read := range []struct {
		off uint64
		n   uint32
	}{{0, 1<<32 - 1}, {0, 1 << 31}, {1 << 63, 1 << 31}, {1<<64 - 1, 1<<32 - 1}, {199_999, 1 << 30}} {
		r, err := w.ask(fxpRead, handle, read.off, read.n)
		a.must(err)
		if len(r.data()) > 1<<20 || r.kind == fxpData && len(r.data()) == 0 {
			a.Errorf("reading %d bytes at %d: %v", read.n, read.off, r)
		}
	}
	for _, off := range []uint64{1<<63 - 1, 1 << 63, 1<<64 - 10, 1 << 62} {
		r, err := w.ask(fxpWrite, handle, off, []byte("beyond"))
		a.must(err)
		if r.status() == fxOK {
			a.Errorf("a write at %d went through", off)
		}
		r, err = w.ask(fxpFsetstat, handle, uint32(1), off)
		a.must(err)
		if r.status() == fxOK {
			a.Errorf("a file was made %d bytes long", off)
		}
	}
	a.hugePackets()
	a.survived()
}

func (a *abused) handlesAreBounded(w *wire) {
	a.Helper()
	const tries = 10_000
	var g errgroup.Group
	g.Go(func() error {
		for range tries {
			if _, err := w.send(fxpOpen, "file", uint32(fxfRead), uint32(0)); err != nil {
				return err
			}
		}
		return w.in.Flush()
	})
	var handles []string
	refused := 0
	for range tries {
		r, err := w.receive()
		a.must(err)
		if r.kind == fxpHandle {
			handles = append(handles, string(r.data()))
		} else {
			refused++
		}
	}
	a.must(g.Wait())
	if len(handles) < 16 || refused == 0 {
		a.Errorf("%d of %d handles were given", len(handles), tries)
	}
	a.Logf("%d of %d handles were given", len(handles), tries)
	for _, h := range handles {
		r, err := w.ask(fxpClose, h)
		a.must(err, expectOK(r))
	}
	h, err := w.open("file", fxfRead)
	a.must(err)
	for _, bad := range []string{h + "x", "", strings.Repeat("h", 100_000), "\x00\x00\x00\x00"} {
		if r, err := w.ask(fxpRead, bad, uint64(0), uint32(10)); err != nil || r.kind == fxpData {
			a.Errorf("a handle nobody has: %v, %v", r, err)
		}
	}
}

// hugePackets sends lengths no packet has. The channel ends, or the packet is
// refused; nothing is allocated for it.
func (a *abused) hugePackets() {
	a.Helper()
	for _, head := range [][]byte{{0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff, fxpWrite}, {0, 0, 0, 0}, {0, 0, 0, 1, 99}, {0, 0x10, 0, 0, fxpOpen}} {
		w, err := newWire(a.dialSSH(a.good.client))
		a.must(err)
		_, err = w.in.Write(head)
		a.must(err, w.in.Flush())
		w.conn.Close()
	}
}

// TestNamesStayInside sends names that try to get out, over the wire and by the
// thousand. Whatever is answered, nothing is there afterwards but in the drop.
func TestNamesStayInside(t *testing.T) {
	t.Parallel()
	const names = 20_000
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	a := newAbused(t)
	other := a.drop("other")
	a.put(filepath.Join(other.mount(), "secret.txt"), []byte("of another VM"))
	w := a.good.wire()
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	var g errgroup.Group
	g.Go(func() error {
		for range names {
			kind, fields := hostileRequest(rng)
			if _, err := w.send(kind, fields...); err != nil {
				return err
			}
		}
		return w.in.Flush()
	})
	opened := 0
	for range names {
		r, err := w.receive()
		a.must(err)
		if r.kind == fxpHandle {
			opened++
		}
		// A refusal may repeat the name.
		if r.kind != fxpStatus && (bytes.Contains(r.body, []byte("root:")) || bytes.Contains(r.body, []byte("secret.txt"))) {
			t.Fatalf("something from outside: %q", r.body)
		}
	}
	a.must(g.Wait())
	t.Logf("%d names, %d opened", names, opened)
	w.conn.Close()
	for _, dir := range []string{a.dir, "/tmp/evil", "/evil", "/etc/evil"} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(path, a.path("mnt-")) {
				return fs.SkipDir // it may well be there
			}
			if err == nil && strings.Contains(e.Name(), "evil") {
				t.Errorf("%s was made on the server", path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if n := a.names(filepath.Join(other.mount())); strings.Contains(strings.Join(n, " "), "evil") {
		t.Errorf("the other VM's folder: %v", n)
	}
	a.survived()
}

// hostileRequest is a request with a name made of what names get out with.
func hostileRequest(rng *rand.Rand) (kind byte, fields []any) {
	parts := []string{"..", "..", "..", "/", "//", ".", "", "evil", "etc", "passwd", "tmp", "restore", "other", "good", "secret.txt",
		"\x00", "..\x00", "\\..\\", "%2e%2e", "\xff\xfe", "..;", "~", "-rf", "\u202e", strings.Repeat("a", 300), strings.Repeat("../", 50), "proc/self/root", "C:\\"}
	var name strings.Builder
	for range 1 + rng.IntN(12) {
		name.WriteString(parts[rng.IntN(len(parts))])
		if rng.IntN(4) > 0 {
			name.WriteByte('/')
		}
	}
	n := name.String()
	switch rng.IntN(9) {
	case 0:
		return fxpOpen, []any{n, uint32(fxfRead), uint32(0)}
	case 1:
		return fxpOpen, []any{n + "evil", uint32(fxfWrite | fxfCreat | fxfTrunc), uint32(0)}
	case 2:
		return fxpSymlink, []any{"/etc/passwd", n + "evil"}
	case 3:
		return fxpReadlink, []any{n}
	case 4:
		return fxpMkdir, []any{n + "evil", uint32(0)}
	case 5:
		return fxpRename, []any{n, n + "evil"}
	case 6:
		return fxpExtended, []any{"hardlink@openssh.com", n, n + "evil"}
	case 7:
		return fxpExtended, []any{"posix-rename@openssh.com", n, "../../evil"}
	default:
		return fxpLstat, []any{n}
	}
}

// halfOpen opens connections from addresses and never logs in on them; half of
// them say who they are, the others nothing.
func (a *abused) halfOpen(n int, addresses ...byte) (held []net.Conn) {
	a.Helper()
	for i := range n {
		d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, addresses[i%len(addresses)])}}
		c, err := d.Dial("tcp", a.good.client.Address)
		if err != nil {
			break // the server takes no more of them
		}
		a.Cleanup(func() { c.Close() })
		if i/len(addresses)%2 == 0 {
			fmt.Fprintf(c, "SSH-2.0-half_open_%d\r\n", i)
		}
		held = append(held, c)
	}
	return held
}

// TestHalfOpenLogins holds hundreds of connections open that never log in. From
// one address they are in nobody's way; from many a real user has to wait until
// their time is up, at most. Then all of them are closed.
func TestHalfOpenLogins(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	a := newAbused(t, "sftp.login-timeout="+timeout.String())
	held := a.halfOpen(300, 2)
	w, err := newWire(a.dialSSH(a.good.client))
	a.must(err)
	_, err = w.open("file", fxfRead|fxfWrite|fxfCreat)
	a.must(err)
	held = append(held, a.halfOpen(300, 2, 3, 4, 5, 6, 7, 8, 9)...)
	begun := time.Now()
	for {
		c, err := tryDialSSH(a.good.client)
		if err == nil {
			c.Close()
			break
		}
		if time.Since(begun) > 3*timeout {
			t.Fatalf("a real user did not get in: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%d half-open logins; a real user got in after %v", len(held), time.Since(begun).Round(time.Millisecond))
	for _, c := range held {
		a.must(c.SetReadDeadline(begun.Add(5 * timeout)))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a connection that never logged in is open after %v", time.Since(begun))
		}
	}
	a.survived("127.0.0.2:", "no login in the time allowed", "too many connections")
}

// TestPasswordGuessing guesses a login's password: it takes its time, is cut
// off, and the log has the address and the user.
func TestPasswordGuessing(t *testing.T) {
	t.Parallel()
	a := newAbused(t)
	var tried atomic.Int64
	guess := func(user, from string) error {
		config, err := sshConfig(a.good.client)
		a.must(err)
		config.User = user
		config.Auth = []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
			return fmt.Sprintf("guess%d", tried.Add(1)), nil
		}), 100)}
		d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", a.good.client.Address)
		if err != nil {
			return err
		}
		defer c.Close()
		a.must(c.SetDeadline(time.Now().Add(5 * time.Second)))
		conn, _, _, err := ssh.NewClientConn(c, a.good.client.Address, config)
		if err == nil {
			conn.Close()
			a.Error("a guess was right")
		}
		return err
	}
	var g errgroup.Group
	g.SetLimit(8)
	const rounds = 60
	for i := range rounds {
		g.Go(func() error {
			user := a.good.client.User
			if i%2 == 1 {
				user = "nobody-of-this-name"
			}
			_ = guess(user, "127.0.0.7")
			return nil
		})
	}
	a.must(g.Wait())
	t.Logf("%d connections could try %d passwords", rounds, tried.Load())
	if tried.Load() > 6*rounds {
		t.Errorf("%d passwords in %d connections", tried.Load(), rounds)
	}
	a.survived("127.0.0.7", a.good.client.User, "nobody-of-this-name")
}
