package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// listenUnix listens on a socket whose mode is right from the moment it has its
// name. A socket that a killed server left behind is replaced; the lock on the
// data directory says that nobody uses it. Sockets elsewhere are asked first.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := clearSocket(path); err != nil {
		return nil, err
	}
	tmp := path[:len(path)-1] + "~" // as long as path, which may be as long as a socket's path may be
	if err := clearSocket(tmp); err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, mode), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(err, ln.Close(), os.Remove(tmp))
	}
	return &unixListener{Listener: ln, path: path}, nil
}

// clearSocket removes a socket nobody listens on.
func clearSocket(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("%s is the socket of a server that is running", path)
	}
	return os.Remove(path)
}

// unixListener knows the name it has, and takes it away when it is closed.
type unixListener struct {
	net.Listener
	path string
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	os.Remove(l.path)
	return l.Listener.Close()
}

// listen opens every listener that is configured.
func (s *Server) listen(secrets secrets) (err error) {
	l := &s.listeners
	if l.nbdTCP, err = listenTCP("nbd.listen", s.config.NBD.Listen); err != nil {
		return err
	}
	if l.httpTCP, err = listenTCP("http.listen", s.config.HTTP.Listen); err != nil {
		return err
	}
	if l.httpTCP != nil {
		l.httpTCP = newLimitListener(l.httpTCP, httpConnectionsMax)
		if secrets.httpTLS != nil {
			l.httpTCP = tls.NewListener(l.httpTCP, secrets.httpTLS)
		}
	}
	if l.nbdUnix, err = listenSocket("nbd.socket", s.config.NBDSocket(), s.config.NBD.SocketMode); err != nil {
		return err
	}
	if l.apiUnix, err = listenSocket("api.socket", s.config.APISocket(), 0o600); err != nil {
		return err
	}
	return nil
}

func listenTCP(setting, address string) (net.Listener, error) {
	if address == None {
		return nil, nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another address, or none", setting, err)
	}
	return ln, nil
}

func listenSocket(setting, path string, mode fs.FileMode) (net.Listener, error) {
	if path == "" {
		return nil, nil
	}
	ln, err := listenUnix(path, mode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return ln, nil
}

func (l *listeners) close() {
	for _, ln := range []net.Listener{l.nbdTCP, l.nbdUnix, l.sftp, l.httpTCP, l.apiUnix} {
		if ln != nil {
			ln.Close()
		}
	}
}

// limitListener closes connections above a limit at once, so that a stranger
// cannot make the server hold goroutines and memory without end.
type limitListener struct {
	net.Listener
	open *atomic.Int64
	most int64
}

func newLimitListener(ln net.Listener, most int64) net.Listener {
	return &limitListener{Listener: ln, open: new(atomic.Int64), most: most}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &countedConn{Conn: c, open: l.open}, nil
		}
		l.open.Add(-1)
		c.Close()
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
