package sshfs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Login is what a client needs to reach a server. PrivateKey or Password.
type Login struct {
	User       string `json:"user"`
	PrivateKey string `json:"private_key"` // PEM
	Password   string `json:"password"`
	KnownHosts string `json:"known_hosts"` // the host key as a line of that file
	Address    string `json:"address"`     // host:port
	Path       string `json:"path"`        // the folder to mount
}

// Client is a login whose key and host key lie in files.
type Client struct {
	Login
	Host, Port string
	Key, Hosts string // paths; Key is "" for a login with a password
}

// NewClient writes a login's files into dir, which it makes.
func NewClient(dir string, l Login) (*Client, error) {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return nil, fmt.Errorf("address of the SFTP server: %w", err)
	}
	c := &Client{Login: l, Host: host, Port: port, Hosts: filepath.Join(dir, "known_hosts")}
	err = errors.Join(os.MkdirAll(dir, 0o700),
		os.WriteFile(c.Hosts, []byte(strings.TrimSpace(l.KnownHosts)+"\n"), 0o600))
	if l.PrivateKey != "" {
		c.Key = filepath.Join(dir, "key")
		err = errors.Join(err, os.WriteFile(c.Key, []byte(strings.TrimSpace(l.PrivateKey)+"\n"), 0o600))
	}
	return c, err
}

// Options are ssh's options ("Name=value") for this login and no other: nothing
// of the user's own configuration, keys or agent is used.
func (c *Client) Options() []string {
	o := []string{"StrictHostKeyChecking=yes", "UserKnownHostsFile=" + c.Hosts, "GlobalKnownHostsFile=/dev/null",
		"IdentityAgent=none", "IdentitiesOnly=yes", "Compression=no"}
	if c.Key == "" {
		return append(o, "PubkeyAuthentication=no")
	}
	return append(o, "IdentityFile="+c.Key, "BatchMode=yes")
}

// Args are the arguments with which ssh, sftp and scp reach the server, but its
// name; port is how the program spells the port's flag: -p or -P.
func (c *Client) Args(port string) []string {
	args := []string{"-F", "/dev/null", port, c.Port}
	for _, o := range c.Options() {
		args = append(args, "-o", o)
	}
	return args
}

// Target is user@host.
func (c *Client) Target() string { return c.User + "@" + c.Host }
