package server

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/sftp"
)

// Why a login is refused. The log tells, the client does not.
var (
	errNoUser    = errors.New("there is no such user")
	errWrongKey  = errors.New("the key is not one of the user's")
	errWrongPass = errors.New("the password is wrong")
	errNoPass    = errors.New("the user has no password")
	errNotForJob = errors.New("jobs have no certificates")
)

// sftpUsers decides who may log in over SFTP: the users of the configuration,
// and the jobs of open sessions.
type sftpUsers struct {
	s      *Server
	byName map[string]*sftpUser
	// hashing lets few passwords be hashed at a time: each takes a processor for
	// a good part of a second.
	hashing chan struct{}
}

// sftpUser is a user with his keys as they are on the wire.
type sftpUser struct {
	SFTPUser
	keys [][]byte
}

func newSFTPUsers(s *Server, list []SFTPUser) (*sftpUsers, error) {
	a := &sftpUsers{s: s, byName: map[string]*sftpUser{}, hashing: make(chan struct{}, passwordsAtOnce)}
	for _, u := range list {
		keys, err := parseKeyLines(u.Keys)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", u.Name, err)
		}
		user := &sftpUser{SFTPUser: u}
		for _, key := range keys {
			user.keys = append(user.keys, key.Marshal())
		}
		a.byName[u.Name] = user
	}
	return a, nil
}

func parseKeyLines(lines []string) (keys []ssh.PublicKey, err error) {
	for _, line := range lines {
		key, err := parseKeyLine(line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// principals are those of which a certificate must name one.
func (a *sftpUsers) principals(user string) []string {
	if u := a.byName[user]; u != nil {
		return u.Principals
	}
	return nil
}

// Key implements sftp.Authenticator.
func (a *sftpUsers) Key(user string, key ssh.PublicKey, _ sftp.Conn) (*sftp.Login, error) {
	if job, ok := a.s.logins.find(user); ok {
		if !job.hasKey(key) {
			return nil, errWrongKey
		}
		return a.jobLogin(job), nil
	}
	u := a.byName[user]
	if u == nil {
		return nil, errNoUser
	}
	wire := key.Marshal()
	if !slices.ContainsFunc(u.keys, func(k []byte) bool { return bytes.Equal(k, wire) }) {
		return nil, errWrongKey
	}
	return a.login(u), nil
}

// Certificate implements sftp.Authenticator.
func (a *sftpUsers) Certificate(user string, _ *ssh.Certificate, _ sftp.Conn) (*sftp.Login, error) {
	u := a.byName[user]
	switch {
	case u == nil:
		return nil, errNoUser
	case len(u.Principals) == 0: // the server has looked for one of them
		return nil, errNotForJob
	}
	return a.login(u), nil
}

// Password implements sftp.Authenticator.
func (a *sftpUsers) Password(user string, password []byte, _ sftp.Conn) (*sftp.Login, error) {
	if job, ok := a.s.logins.find(user); ok {
		if !job.hasPassword(password) {
			return nil, errWrongPass
		}
		return a.jobLogin(job), nil
	}
	u := a.byName[user]
	switch {
	case u == nil:
		return nil, errNoUser
	case u.PasswordHash == "":
		return nil, errNoPass
	}
	a.hashing <- struct{}{}
	defer func() { <-a.hashing }()
	if bcrypt.CompareHashAndPassword([]byte(u.PasswordHash), password) != nil {
		return nil, errWrongPass
	}
	return a.login(u), nil
}

func (a *sftpUsers) jobLogin(job *jobLogin) *sftp.Login {
	return &sftp.Login{
		User: job.user(), Gone: job.gone, GoneReason: "the backup has ended",
		Open: func(c sftp.Conn) (sftp.Tree, error) { return a.s.files.JobTree(job.Session, c.ID) },
	}
}

func (a *sftpUsers) login(u *sftpUser) *sftp.Login {
	return &sftp.Login{User: u.Name, Open: func(c sftp.Conn) (sftp.Tree, error) {
		return a.s.files.UserTree(files.User{
			Name: u.Name, VM: u.VM, VMs: u.VMs, ReadOnly: u.ReadOnly, Restore: u.Restore,
			CommitOnRename: u.CommitOnRename, Quota: int64(u.Quota),
		}, c.ID)
	}}
}
