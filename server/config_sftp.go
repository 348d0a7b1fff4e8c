package server

import (
	"path/filepath"
	"slices"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// SFTPConfig is the SFTP server's part.
type SFTPConfig struct {
	Listen        string         `key:"listen"`    // host:port, or none
	Advertise     string         `key:"advertise"` // host:port clients are told; empty: the address listened on
	HostKey       string         `key:"host-key"`  // path; empty: hostKeyName in the data directory, made when it is missing
	TrustedUserCA TextList       `key:"trusted-user-ca"`
	Users         SFTPUsers      `key:"users"`
	Limits        SFTPLimits     `key:"limits"`
	LoginTimeout  units.Duration `key:"login-timeout"`
	IdleTimeout   units.Duration `key:"idle-timeout"`
}

// SFTPLimits bound what clients can make the server hold.
type SFTPLimits struct {
	Connections           int `key:"connections"`
	ConnectionsPerAddress int `key:"connections-per-address"`
	ConnectionsPerUser    int `key:"connections-per-user"`
	Handles               int `key:"handles"` // of one connection
}

// SFTPUser is a login that lasts, in contrast to those of jobs.
type SFTPUser struct {
	Name           string     // not job-…
	Keys           []string   // lines of an authorized_keys file
	Principals     []string   // any of which a certificate must name
	PasswordHash   string     // bcrypt
	VM             string     // this VM's folder is the root; or
	VMs            []string   // names and patterns of VMs
	Restore        bool       // may read points
	ReadOnly       bool       // may not write
	CommitOnRename bool       // X.part renamed to X commits
	Quota          units.Size // of the open backups of this user; 0: none
}

// hostKeyName is the host key's file in the data directory, as sshd calls its own.
const hostKeyName = "ssh_host_ed25519_key"

// SFTPOn reports whether SFTP is served.
func (c *Config) SFTPOn() bool { return c.SFTP.Listen != None }

// hiddenHash stands for the hash of a password.
const hiddenHash = "(hidden)"

// WithoutHashes is the configuration to be shown: who reads a hash can guess at
// its password.
func (c Config) WithoutHashes() Config {
	c.SFTP.Users = slices.Clone(c.SFTP.Users)
	for i := range c.SFTP.Users {
		if u := &c.SFTP.Users[i]; u.PasswordHash != "" {
			u.PasswordHash = hiddenHash
		}
	}
	return c
}

// HostKeyPath is the file of the SSH host key.
func (c *Config) HostKeyPath() string {
	switch path := c.SFTP.HostKey; {
	case path == "":
		return filepath.Join(c.Data, hostKeyName)
	case filepath.IsAbs(path):
		return path
	default:
		return filepath.Join(c.Data, path)
	}
}
