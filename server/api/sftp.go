package api

import (
	"net"
	"strings"
	"time"
)

// SFTPInfo says where the SFTP server is and how to know it.
type SFTPInfo struct {
	Address     string `json:"address"`     // host:port
	HostKey     string `json:"host_key"`    // as in an authorized_keys file
	Fingerprint string `json:"fingerprint"` // SHA256:…, as ssh shows it
	KnownHosts  string `json:"known_hosts"` // a line of a known_hosts file
}

// BackupLogin is how a job reaches its backup over SFTP while the backup is
// open. PrivateKey and Password, either of which lets in, are told once: in the
// answer to the start.
type BackupLogin struct {
	User       string `json:"user"`
	PrivateKey string `json:"private_key,omitempty"` // OpenSSH's format
	Password   string `json:"password,omitempty"`
	HostKey    string `json:"host_key"`    // as in an authorized_keys file
	KnownHosts string `json:"known_hosts"` // a line of a known_hosts file
	Address    string `json:"address"`     // host:port
	Path       string `json:"path"`        // what to mount
	// SSHFS is a shell's command that mounts Path on a new folder with the VM's
	// name, given the private key in the file USER.key and the host's line in
	// USER.key.known_hosts.
	SSHFS string `json:"sshfs"`
}

// mountOptions are what every mount should have: a cipher that the processor
// knows, packets twice as large as sshfs's own, no second cache, no compression
// of what is compressed on arrival, an end to the waiting for a server that is
// gone, and no server taken for another.
const mountOptions = "Ciphers=aes128-gcm@openssh.com,Compression=no,max_read=65536,max_write=65536,direct_io," +
	"ServerAliveInterval=15,ServerAliveCountMax=3,StrictHostKeyChecking=yes"

// MountCommand is a shell's command that mounts the login's path on dir, which
// is made. keyFile has the private key, empty: the password is asked for;
// hostsFile the line for known_hosts.
func (l *BackupLogin) MountCommand(keyFile, hostsFile, dir string) string {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		host, port = l.Address, "22"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	options := mountOptions + ",UserKnownHostsFile=" + optionValue(hostsFile)
	if keyFile == "" {
		options += ",PubkeyAuthentication=no"
	} else {
		options += ",IdentitiesOnly=yes,IdentityFile=" + optionValue(keyFile)
	}
	return "mkdir -p " + ShellWord(dir) + " && sshfs -p " + port + " -o " + ShellWord(options) + " " +
		ShellWord(l.User+"@"+host+":"+l.Path) + " " + ShellWord(dir)
}

// optionValue is a path within sshfs's options, which commas part; ssh then
// parts at spaces and replaces what follows a percent sign.
func optionValue(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t") {
		path = `"` + path + `"`
	}
	return strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(path)
}

// ShellWord quotes what a shell would not take as one word.
func ShellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.,:=@%+-_"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// BackupFile is a file of an open backup.
type BackupFile struct {
	Name         string    `json:"name"`
	Size         int64     `json:"size"`
	Modified     time.Time `json:"modified"`
	Unfinished   string    `json:"unfinished,omitempty"` // why it may lack what was written: a commit is refused
	Lost         string    `json:"lost,omitempty"`       // why it cannot be read any more
	WrittenBytes int64     `json:"written_bytes"`
	NewBytes     int64     `json:"new_bytes"`
	StoredBytes  int64     `json:"stored_bytes"`
}

// Progress is of work that takes a while, in bytes.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// File is a file of a point, kept as it came.
type File struct {
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Disk     string    `json:"disk,omitempty"` // the disk it was understood as an image of
	Root     string    `json:"root"`           // hex of the content's root hash
	// What the client sent, what of it nobody had, and what that took.
	WrittenBytes int64 `json:"written_bytes"`
	NewBytes     int64 `json:"new_bytes"`
	StoredBytes  int64 `json:"stored_bytes"`
}

// SFTPConnection is a client that is connected over SFTP.
type SFTPConnection struct {
	ID        string    `json:"id"`
	Remote    string    `json:"remote"` // host:port
	User      string    `json:"user"`
	Method    string    `json:"method"`             // key, certificate or password
	Identity  string    `json:"identity,omitempty"` // the key's fingerprint, and what a certificate calls itself
	Client    string    `json:"client,omitempty"`   // the program, as it calls itself
	Connected time.Time `json:"connected"`
	LastUsed  time.Time `json:"last_used,omitzero"`
	Handles   int       `json:"handles"`   // files and directories open
	BytesIn   int64     `json:"bytes_in"`  // of files, that it wrote
	BytesOut  int64     `json:"bytes_out"` // that it read
}
