package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sftpLogin is what a client needs to mount a server.
type sftpLogin struct {
	User       string `json:"user"`
	PrivateKey string `json:"private_key"`
	KnownHosts string `json:"known_hosts"`
	Address    string `json:"address"`
	Path       string `json:"path"`
}

// sftpSession is an open backup that takes files.
type sftpSession struct {
	session
	SFTP sftpLogin `json:"sftp"`
}

func (s *server) beginSFTP(ctx context.Context, vm string) (sftpSession, error) {
	var open sftpSession
	err := s.cli(ctx, &open, "backup", "start", vm, "--sftp", "--json")
	return open, err
}

// mount is a file system that sshfs serves.
type mount struct {
	dir    string
	own    string // of the key and the known hosts
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// mountOptions are those docs/OPERATIONS.md recommends.
const mountOptions = "Ciphers=aes128-gcm@openssh.com,Compression=no,max_read=65536,max_write=65536,direct_io,BatchMode=yes"

// mountSSHFS mounts a login's root. sshfs stays in the foreground, so that its
// CPU time is known when it has ended.
func mountSSHFS(ctx context.Context, work string, l sftpLogin) (*mount, error) {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return nil, err
	}
	own, err := os.MkdirTemp(work, "sshfs-")
	if err != nil {
		return nil, err
	}
	m := &mount{dir: filepath.Join(own, "mnt"), own: own, exited: make(chan struct{})}
	key, hosts := filepath.Join(own, "key"), filepath.Join(own, "known_hosts")
	if err := errors.Join(os.Mkdir(m.dir, 0o700), os.WriteFile(key, []byte(l.PrivateKey), 0o600),
		os.WriteFile(hosts, []byte(strings.TrimSpace(l.KnownHosts)+"\n"), 0o600)); err != nil {
		return nil, err
	}
	m.cmd = exec.Command("sshfs", "-f", "-p", port,
		"-o", mountOptions+",IdentityFile="+key+",IdentitiesOnly=yes,StrictHostKeyChecking=yes,UserKnownHostsFile="+hosts,
		l.User+"@"+host+":"+l.Path, m.dir)
	m.cmd.Stdout, m.cmd.Stderr = &m.output, &m.output
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = m.cmd.Wait(); close(m.exited) }()
	return m, m.ready(ctx)
}

// sshfsGrace is how long sshfs may take to notice that its server has gone.
const sshfsGrace = 2 * time.Second

// fuseMagic is what statfs says of a FUSE file system.
const fuseMagic = 0x65735546

func (m *mount) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		var s unix.Statfs_t
		if unix.Statfs(m.dir, &s) == nil && s.Type == fuseMagic {
			return nil
		}
		select {
		case <-m.exited:
			return fmt.Errorf("sshfs ended at once:\n%s", m.output.Bytes())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("sshfs did not mount %s: %w", m.dir, ctx.Err()), m.unmount())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// unmount ends sshfs, unless its server has, and waits for it.
func (m *mount) unmount() error {
	_, err := command(context.Background(), nil, "fusermount3", "-u", m.dir)
	select {
	case <-m.exited:
		err = nil
	case <-time.After(sshfsGrace):
	}
	select {
	case <-m.exited:
	case <-time.After(stopTimeout):
		_ = m.cmd.Process.Kill()
		<-m.exited
		err = errors.Join(err, fmt.Errorf("sshfs did not end within %v after the unmount", stopTimeout))
	}
	return errors.Join(err, os.RemoveAll(m.own))
}

// sshd is OpenSSH's server with internal-sftp over a directory.
type sshd struct {
	*child
	root  string
	login sftpLogin
}

func startSSHD(ctx context.Context, work string) (*sshd, error) {
	dir := filepath.Join(work, "sshd")
	s := &sshd{root: filepath.Join(dir, "root")}
	// Where sshd locks its unprivileged part up; Debian's unit makes it.
	if err := errors.Join(os.MkdirAll(s.root, 0o755), os.MkdirAll("/run/sshd", 0o755)); err != nil {
		return nil, err
	}
	host, user := filepath.Join(dir, "host"), filepath.Join(dir, "user")
	for _, key := range []string{host, user} {
		if _, err := command(ctx, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key); err != nil {
			return nil, err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if s.login, err = sshdLogin(address, host, user, s.root); err != nil {
		return nil, err
	}
	ip, port, _ := net.SplitHostPort(address)
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, fmt.Appendf(nil, `ListenAddress %s
Port %s
HostKey %s
AuthorizedKeysFile %s.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PidFile none
Subsystem sftp internal-sftp
`, ip, port, host, user), 0o600); err != nil {
		return nil, err
	}
	path, err := exec.LookPath("sshd") // it wants its absolute path
	if err != nil {
		return nil, err
	}
	if s.child, err = startChild(ctx, nil, nil, path, "-D", "-e", "-f", config); err != nil {
		return nil, err
	}
	return s, s.listeningTCP(ctx, address)
}

func sshdLogin(address, host, user, root string) (l sftpLogin, err error) {
	hostKey, err := os.ReadFile(host + ".pub")
	if err != nil {
		return l, err
	}
	userKey, err := os.ReadFile(user)
	if err != nil {
		return l, err
	}
	ip, port, err := net.SplitHostPort(address)
	name := strings.TrimSpace(os.Getenv("USER"))
	if name == "" {
		name = "root"
	}
	return sftpLogin{User: name, PrivateKey: string(userKey), Address: address, Path: root,
		KnownHosts: "[" + ip + "]:" + port + " " + string(hostKey)}, err
}

func (c *child) listeningTCP(ctx context.Context, address string) error {
	for end := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.exited:
			return fmt.Errorf("%s ended at once:\n%s", filepath.Base(c.cmd.Path), c.output.Bytes())
		default:
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("%s does not listen: %w", filepath.Base(c.cmd.Path), err), c.stop())
		}
	}
}

// freeAddress is a loopback address nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return "127.0.0.1:" + strconv.Itoa(port), l.Close()
}
