package integration

import (
	"bufio"
	enc "encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/strongroom-backup/strongroom/internal/sshfs"
)

// SFTP v3 packet types and status codes (draft-ietf-secsh-filexfer-02).
const (
	fxpInit     = 1
	fxpOpen     = 3
	fxpClose    = 4
	fxpRead     = 5
	fxpWrite    = 6
	fxpLstat    = 7
	fxpFstat    = 8
	fxpFsetstat = 10
	fxpMkdir    = 14
	fxpRename   = 18
	fxpReadlink = 19
	fxpSymlink  = 20
	fxpExtended = 200
	fxpStatus   = 101
	fxpHandle   = 102
	fxpData     = 103
	fxpAttrs    = 105

	fxOK  = 0
	fxEOF = 1
)

// Open flags.
const (
	fxfRead  = 1
	fxfWrite = 2
	fxfCreat = 8
	fxfTrunc = 16
)

// sshConfig is x/crypto's view of a login.
func sshConfig(c *sshfs.Client) (*ssh.ClientConfig, error) {
	known, err := knownhosts.New(c.Hosts)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{User: c.User, HostKeyCallback: known, Timeout: 20 * time.Second}
	if c.Password != "" {
		config.Auth = append(config.Auth, ssh.Password(c.Password))
	}
	if c.PrivateKey != "" {
		key, err := ssh.ParsePrivateKey([]byte(c.PrivateKey))
		if err != nil {
			return nil, err
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(key))
	}
	return config, nil
}

// dialSSH logs in; the connection is closed with the test.
func (s *scene) dialSSH(c *sshfs.Client) *ssh.Client {
	s.Helper()
	conn, err := tryDialSSH(c)
	s.must(err)
	s.Cleanup(func() { conn.Close() })
	return conn
}

func tryDialSSH(c *sshfs.Client) (*ssh.Client, error) {
	config, err := sshConfig(c)
	if err != nil {
		return nil, err
	}
	return ssh.Dial("tcp", c.Address, config)
}

// sftpClient is pkg/sftp's client on a connection of its own.
func (d *drop) sftpClient(options ...sftp.ClientOption) *sftp.Client {
	d.s.Helper()
	c, err := sftp.NewClient(d.s.dialSSH(d.client), options...)
	d.s.must(err)
	return c
}

// wire is an SFTP channel whose packets the test makes itself. Sending and
// receiving may go on at the same time; flush before waiting for a reply.
type wire struct {
	conn *ssh.Client
	in   *bufio.Writer
	out  *bufio.Reader
	id   uint32
}

func (d *drop) wire() *wire {
	d.s.Helper()
	w, err := newWire(d.s.dialSSH(d.client))
	d.s.must(err)
	return w
}

func newWire(conn *ssh.Client) (*wire, error) {
	session, err := conn.NewSession()
	if err != nil {
		return nil, err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := session.RequestSubsystem("sftp"); err != nil {
		return nil, err
	}
	w := &wire{conn: conn, in: bufio.NewWriterSize(in, 256<<10), out: bufio.NewReaderSize(out, 256<<10)}
	if err := w.raw(fxpInit, uint32(3)); err != nil {
		return nil, err
	}
	if _, err := w.receive(); err != nil {
		return nil, fmt.Errorf("no VERSION: %w", err)
	}
	return w, nil
}

// raw sends a packet without an id of its own and flushes.
func (w *wire) raw(kind byte, fields ...any) error {
	if _, err := w.in.Write(packet(kind, fields...)); err != nil {
		return err
	}
	return w.in.Flush()
}

// send queues a request and returns its id.
func (w *wire) send(kind byte, fields ...any) (uint32, error) {
	w.id++
	_, err := w.in.Write(packet(kind, append([]any{w.id}, fields...)...))
	return w.id, err
}

func packet(kind byte, fields ...any) []byte {
	p := append(make([]byte, 4), kind)
	for _, f := range fields {
		switch v := f.(type) {
		case uint32:
			p = enc.BigEndian.AppendUint32(p, v)
		case uint64:
			p = enc.BigEndian.AppendUint64(p, v)
		case string:
			p = append(enc.BigEndian.AppendUint32(p, uint32(len(v))), v...)
		case []byte:
			p = append(enc.BigEndian.AppendUint32(p, uint32(len(v))), v...)
		default:
			panic(fmt.Sprintf("a field of type %T", f))
		}
	}
	enc.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// reply is a packet from the server, behind its id.
type reply struct {
	kind byte
	id   uint32
	body []byte
}

func (w *wire) receive() (r reply, err error) {
	var head [9]byte
	if _, err := io.ReadFull(w.out, head[:]); err != nil {
		return r, err
	}
	n := enc.BigEndian.Uint32(head[:])
	if n < 5 || n > 1<<20 {
		return r, fmt.Errorf("a reply of %d bytes", n)
	}
	r = reply{head[4], enc.BigEndian.Uint32(head[5:]), make([]byte, n-5)}
	_, err = io.ReadFull(w.out, r.body)
	return r, err
}

// ask sends one request and waits for its reply.
func (w *wire) ask(kind byte, fields ...any) (reply, error) {
	id, err := w.send(kind, fields...)
	if err != nil {
		return reply{}, err
	}
	if err := w.in.Flush(); err != nil {
		return reply{}, err
	}
	r, err := w.receive()
	if err == nil && r.id != id {
		err = fmt.Errorf("reply to request %d, want %d", r.id, id)
	}
	return r, err
}

// status is the code of a STATUS reply; -1 when it is another.
func (r reply) status() int {
	if r.kind != fxpStatus || len(r.body) < 4 {
		return -1
	}
	return int(enc.BigEndian.Uint32(r.body))
}

// data is the string a HANDLE or DATA reply carries.
func (r reply) data() []byte {
	if len(r.body) < 4 || int(enc.BigEndian.Uint32(r.body)) > len(r.body)-4 {
		return nil
	}
	return r.body[4 : 4+enc.BigEndian.Uint32(r.body)]
}

// size is what an ATTRS reply says; -1 when it says none.
func (r reply) size() int64 {
	const hasSize = 1
	if r.kind != fxpAttrs || len(r.body) < 12 || enc.BigEndian.Uint32(r.body)&hasSize == 0 {
		return -1
	}
	return int64(enc.BigEndian.Uint64(r.body[4:]))
}

func (r reply) String() string {
	if r.kind == fxpStatus && len(r.body) >= 8 {
		text := reply{body: r.body[4:]}
		return fmt.Sprintf("status %d: %s", r.status(), text.data())
	}
	return fmt.Sprintf("packet %d of %d bytes", r.kind, len(r.body))
}

// open opens a file and returns its handle.
func (w *wire) open(name string, flags uint32) (string, error) {
	r, err := w.ask(fxpOpen, name, flags, uint32(0))
	if err != nil {
		return "", err
	}
	if r.kind != fxpHandle {
		return "", fmt.Errorf("open %s: %v", name, r)
	}
	return string(r.data()), nil
}
