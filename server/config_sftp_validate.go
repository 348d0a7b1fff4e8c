package server

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/internal/ids"
)

func (c *Config) validateSFTP(p *problems) {
	f := c.SFTP
	p.listen("sftp.listen", f.Listen)
	if f.Advertise != "" {
		p.address("sftp.advertise", f.Advertise)
	}
	for i, line := range f.TrustedUserCA {
		if _, err := parseKeyLine(line); err != nil {
			p.add("sftp.trusted-user-ca", "key %d: %v", i+1, err)
		}
	}
	l := f.Limits
	p.integer("sftp.limits.connections", l.Connections, 1, sftpConnectionsMax)
	p.integer("sftp.limits.connections-per-address", l.ConnectionsPerAddress, 1, sftpConnectionsMax)
	p.integer("sftp.limits.connections-per-user", l.ConnectionsPerUser, 1, sftpConnectionsMax)
	p.integer("sftp.limits.handles", l.Handles, 16, sftpHandlesMax)
	p.duration("sftp.login-timeout", f.LoginTimeout, time.Second, 10*time.Minute)
	p.duration("sftp.idle-timeout", f.IdleTimeout, time.Minute, 7*24*time.Hour)
	c.validateSFTPUsers(p)
}

func (c *Config) validateSFTPUsers(p *problems) {
	const key = "sftp.users"
	if len(c.SFTP.Users) > sftpUsersMax {
		p.add(key, "there are %d; want at most %d", len(c.SFTP.Users), sftpUsersMax)
	}
	names := map[string]bool{}
	for i, u := range c.SFTP.Users {
		if err := u.check(len(c.SFTP.TrustedUserCA) > 0); err != nil {
			p.add(key, "user %s: %v", u.orNumber(i), err)
		}
		if names[u.Name] {
			p.add(key, "user %s: there is another of this name", u.orNumber(i))
		}
		names[u.Name] = true
	}
}

// check returns the first problem of each part of a user.
func (u *SFTPUser) check(hasCA bool) error {
	return errors.Join(u.checkName(), u.checkVMs(), u.checkLogins(hasCA), u.checkRights())
}

func (u *SFTPUser) checkName() error {
	switch {
	case !ids.IsName(u.Name):
		return errors.New("name: want a letter or digit and then letters, digits, dots, - and _, at most 128")
	case strings.HasPrefix(u.Name, jobUserPrefix):
		return fmt.Errorf("name: %s… are the logins of backup jobs", jobUserPrefix)
	}
	return nil
}

func (u *SFTPUser) checkVMs() error {
	if (u.VM == "") == (len(u.VMs) == 0) {
		return errors.New(`vm, vms: want one of them: vm for one VM, whose folder is the root; vms for several, by names and patterns ("web-*")`)
	}
	if u.VM != "" && !ids.IsName(u.VM) {
		return fmt.Errorf("vm: %.80q is no name of a VM", u.VM)
	}
	if len(u.VMs) > sftpPatternsMax {
		return fmt.Errorf("vms: there are %d; want at most %d", len(u.VMs), sftpPatternsMax)
	}
	for _, pattern := range u.VMs {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || strings.ContainsAny(pattern, "/") {
			return fmt.Errorf(`vms: %.80q: want the name of a VM or a pattern with *, ? and [a-z], such as "web-*"`, pattern)
		}
	}
	return nil
}

func (u *SFTPUser) checkLogins(hasCA bool) error {
	if len(u.Keys) == 0 && len(u.Principals) == 0 && u.PasswordHash == "" {
		return errors.New("keys, principals, password-hash: want at least one, or nobody can log in")
	}
	if len(u.Keys) > sftpKeysMax || len(u.Principals) > sftpKeysMax {
		return fmt.Errorf("keys, principals: want at most %d of each", sftpKeysMax)
	}
	for i, line := range u.Keys {
		if _, err := parseKeyLine(line); err != nil {
			return fmt.Errorf("keys: key %d: %w", i+1, err)
		}
	}
	if len(u.Principals) > 0 && !hasCA {
		return errors.New("principals: these are for certificates, and sftp.trusted-user-ca names nobody who may sign them")
	}
	if slices.Contains(u.Principals, "") {
		return errors.New("principals: one is empty")
	}
	return checkPasswordHash(u.PasswordHash)
}

func checkPasswordHash(hash string) error {
	if hash == "" {
		return nil
	}
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil:
		return errors.New("password-hash: want a bcrypt hash; make one with: strongroom sftp hash-password")
	case cost < bcryptCostMin || cost > bcryptCostMax:
		return fmt.Errorf("password-hash: its cost is %d; want %d to %d", cost, bcryptCostMin, bcryptCostMax)
	}
	return nil
}

func (u *SFTPUser) checkRights() error {
	switch {
	case u.ReadOnly && !u.Restore:
		return errors.New("read-only: without restore: true there is nothing to read")
	case u.ReadOnly && u.CommitOnRename:
		return errors.New("commit-on-rename: a read-only user writes nothing")
	case u.Quota < 0:
		return fmt.Errorf("quota: is %d; want a size, or 0 for none", u.Quota)
	}
	return nil
}

// parseKeyLine reads a public key as authorized_keys has it. Options are refused:
// whoever writes one relies on it, and none is obeyed here.
func parseKeyLine(line string) (ssh.PublicKey, error) {
	if len(line) > keyLineMax {
		return nil, fmt.Errorf("is longer than %d bytes", keyLineMax)
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%.40q: want a public key as in an authorized_keys file, such as ssh-ed25519 AAAA… root@hv1", line)
	case len(options) > 0:
		return nil, fmt.Errorf("options (%.40q) are not for here; what a user may do is said by vms, restore and read-only", strings.Join(options, ","))
	case len(strings.TrimSpace(string(rest))) > 0:
		return nil, errors.New("want one key in a line")
	}
	return key, checkKeyKind(key)
}

func checkKeyKind(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return errors.New("is a certificate; put the key of who signs them into sftp.trusted-user-ca, and its principals here")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		crypto, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			return errors.New("the RSA key cannot be read")
		}
		if rsaKey, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); !ok || rsaKey.N.BitLen() < rsaBitsMin {
			return fmt.Errorf("the RSA key is shorter than %d bits; use ed25519", rsaBitsMin)
		}
		return nil
	}
	return fmt.Errorf("keys of type %s are too weak; use ed25519", key.Type())
}

// passwordsAbroad names the users with a password on an address that other hosts
// can reach.
func (c *Config) passwordsAbroad() (names []string) {
	if !c.SFTPOn() || !isPublic(c.SFTP.Listen) {
		return nil
	}
	for _, u := range c.SFTP.Users {
		if u.PasswordHash != "" {
			names = append(names, u.Name)
		}
	}
	return names
}
