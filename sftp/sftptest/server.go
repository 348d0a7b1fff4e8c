package sftptest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp"
)

// User and Password let in to a server that Start made, as does its Key.
const (
	User     = "backup"
	Password = "correct horse"
)

// Server is a server on loopback that lets User in with Key or Password.
type Server struct {
	*sftp.Server
	Addr    string
	HostKey ssh.PublicKey
	Key     ssh.Signer
	// Private is Key's, as an OpenSSH client reads it.
	Private ed25519.PrivateKey
}

// NewKey makes an ed25519 key.
func NewKey(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private
}

// Start serves what open gives until the test ends. change, which may be nil,
// has the last word on the options.
func Start(t testing.TB, open func(sftp.Conn) (sftp.Tree, error), change func(*sftp.Options)) *Server {
	t.Helper()
	hostKey, _ := NewKey(t)
	s := &Server{HostKey: hostKey.PublicKey()}
	s.Key, s.Private = NewKey(t)
	o := sftp.Options{HostKey: hostKey, Passwords: true, Auth: OneUser{Public: s.Key.PublicKey(), Login: sftp.Login{Open: open}}}
	if change != nil {
		change(&o)
	}
	var err error
	if s.Server, err = sftp.New(o); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, sftp.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s
}

// ClientConfig logs in with Key.
func (s *Server) ClientConfig() *ssh.ClientConfig {
	return &ssh.ClientConfig{
		Config: ssh.Config{Ciphers: []string{ssh.CipherAES128GCM}},
		User:   User, Auth: []ssh.AuthMethod{ssh.PublicKeys(s.Key)},
		HostKeyCallback: ssh.FixedHostKey(s.HostKey), Timeout: 10 * time.Second,
	}
}

// DialSSH logs in; the connection is closed when the test ends.
func (s *Server) DialSSH(t testing.TB) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", s.Addr, s.ClientConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Dial starts a session of the independent client.
func (s *Server) Dial(t testing.TB, o ...pkgsftp.ClientOption) *pkgsftp.Client {
	t.Helper()
	c, err := pkgsftp.NewClient(s.DialSSH(t), o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// OneUser is an Authenticator that knows User.
type OneUser struct {
	Public ssh.PublicKey
	Login  sftp.Login
}

var errStranger = errors.New("nobody I know")

// Key lets User in with the key.
func (a OneUser) Key(user string, key ssh.PublicKey, _ sftp.Conn) (*sftp.Login, error) {
	if user != User || string(key.Marshal()) != string(a.Public.Marshal()) {
		return nil, errStranger
	}
	return &a.Login, nil
}

// Certificate lets User in with any that was good.
func (a OneUser) Certificate(user string, _ *ssh.Certificate, _ sftp.Conn) (*sftp.Login, error) {
	if user != User {
		return nil, errStranger
	}
	return &a.Login, nil
}

// Password lets User in with Password.
func (a OneUser) Password(user string, password []byte, _ sftp.Conn) (*sftp.Login, error) {
	if user != User || string(password) != Password {
		return nil, errStranger
	}
	return &a.Login, nil
}
