package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// openFiles makes what serves files: the trees, the logins of jobs and, when it
// is on, the SFTP server.
func (s *Server) openFiles(vfsys vfs.FS) (err error) {
	s.files = files.New(files.Options{
		Volumes: s.engines.vols, Catalog: s.engines.cat, Blocks: s.engines.blocks,
		Usage: s.engines.tier.Usage, Reserve: uint64(s.config.Store.Reserve), Clock: s.clock, Events: s.filesEvents(),
	})
	open := func(session string) bool {
		st, err := s.engines.vols.Status(session)
		return err == nil && st.State == volume.Open
	}
	s.logins, err = openJobLogins(vfsys, s.engines.dir.join("sftp", "jobs"), open, func(path string, err error) {
		s.log.Error("the login of a backup job is of no use: abort its backup and start it again", keyPath, path, keyError, err)
	})
	if err != nil || !s.config.SFTPOn() {
		return err
	}
	return s.openSFTP(vfsys)
}

func (s *Server) openSFTP(vfsys vfs.FS) error {
	key, err := s.config.loadHostKey(vfsys)
	if err != nil {
		return err
	}
	users, err := newSFTPUsers(s, s.config.SFTP.Users)
	if err != nil {
		return err
	}
	authorities, err := parseKeyLines(s.config.SFTP.TrustedUserCA)
	if err != nil {
		return err
	}
	c := s.config.SFTP
	s.sftp, err = sftp.New(sftp.Options{
		HostKey: key, Auth: users, TrustedCAs: authorities, Principals: users.principals, Passwords: true, Now: s.clock, Events: s.sftpEvents(),
		Limits: sftp.Limits{
			Connections: c.Limits.Connections, ConnectionsPerAddress: c.Limits.ConnectionsPerAddress, ConnectionsPerUser: c.Limits.ConnectionsPerUser,
			Handles: c.Limits.Handles, LoginTimeout: time.Duration(c.LoginTimeout), IdleTimeout: time.Duration(c.IdleTimeout),
		},
	})
	if err != nil {
		return err
	}
	if s.listeners.sftp, err = listenTCP("sftp.listen", c.Listen); err != nil {
		return err
	}
	for _, name := range s.config.passwordsAbroad() {
		s.log.Warn("a user may log in with a password at an address that other hosts reach; a key is better", "user", name, keyAddress, c.Listen)
	}
	s.sftpInfo = sftpInfo(key.PublicKey(), c.Advertise, s.listeners.sftp.Addr().String())
	s.log.Info("SFTP host key", "fingerprint", s.sftpInfo.Fingerprint, keyPath, s.config.HostKeyPath())
	return nil
}

// loadHostKey reads the host key. The one in the data directory is made when it
// is not there; one that the configuration names must exist, because clients
// know it.
func (c *Config) loadHostKey(vfsys vfs.FS) (ssh.Signer, error) {
	if c.SFTP.HostKey != "" {
		if _, err := vfsys.Stat(c.HostKeyPath()); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("sftp.host-key: %w; make one with: ssh-keygen -t ed25519 -N '' -f %s", err, c.HostKeyPath())
		}
	}
	key, err := sftp.LoadOrCreateHostKey(vfsys, c.HostKeyPath())
	if err != nil && c.SFTP.HostKey != "" {
		return nil, fmt.Errorf("sftp.host-key: %w", err)
	}
	return key, err
}

// sftpInfo is what clients must know. An address that stands for all of the
// host's is told with the host's name.
func sftpInfo(key ssh.PublicKey, advertise, listening string) *api.SFTPInfo {
	address := advertise
	if address == "" {
		address = listening
		host, port, err := net.SplitHostPort(listening)
		if ip, ipErr := netip.ParseAddr(host); err == nil && ipErr == nil && ip.IsUnspecified() {
			if name, err := os.Hostname(); err == nil {
				address = net.JoinHostPort(name, port)
			}
		}
	}
	return &api.SFTPInfo{
		Address: address, HostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))),
		Fingerprint: ssh.FingerprintSHA256(key), KnownHosts: knownhosts.Line([]string{knownhosts.Normalize(address)}, key),
	}
}

// SFTPAddress is where SFTP clients are told to connect; empty: nowhere.
func (s *Server) SFTPAddress() string {
	if s.sftpInfo == nil {
		return ""
	}
	return s.sftpInfo.Address
}

// jobLoginOf describes the login of a session, nil when it has none.
func (s *Server) jobLoginOf(session, vm string) *api.BackupLogin {
	l, ok := s.logins.ofSession(session)
	if !ok || s.sftpInfo == nil {
		return nil
	}
	out := &api.BackupLogin{
		User: l.user(), HostKey: s.sftpInfo.HostKey, KnownHosts: s.sftpInfo.KnownHosts, Address: s.sftpInfo.Address, Path: "/",
	}
	out.SSHFS = out.MountCommand(l.user()+".key", l.user()+".key.known_hosts", vm)
	return out
}

// addLogin makes the login of a session that was started for files. When it
// cannot be kept, the session is of no use and ends.
func (s *Server) addLogin(b *api.Backup) error {
	secrets, err := s.logins.make(jobLogin{Session: b.Session, VM: b.VM, Made: s.clock().UTC()})
	if err != nil {
		return errors.Join(err, s.engines.vols.Abort(b.Session))
	}
	b.SFTP = s.jobLoginOf(b.Session, b.VM)
	b.SFTP.PrivateKey, b.SFTP.Password = secrets.privateKey, secrets.password
	return nil
}

// sessionEnded is called when a session has been committed, aborted, has expired
// or died: nobody can reach its files by it any more.
func (s *Server) sessionEnded(session string) {
	if s.logins == nil {
		return // being opened
	}
	s.files.Release(session)
	if err := s.logins.end(session); err != nil {
		s.log.Warn("the login of a backup that has ended could not be removed; the next start does it", keySession, session, keyError, err)
	}
}
