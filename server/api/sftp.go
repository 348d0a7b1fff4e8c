package api

import "time"

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
	// SSHFS is a command that mounts Path on ./NAME of the VM, with the private
	// key in the file USER.key and the line in USER.known_hosts.
	SSHFS string `json:"sshfs"`
}

// BackupFile is a file of an open backup.
type BackupFile struct {
	Name         string    `json:"name"`
	Size         int64     `json:"size"`
	Modified     time.Time `json:"modified"`
	WrittenBytes int64     `json:"written_bytes"`
	NewBytes     int64     `json:"new_bytes"`
	StoredBytes  int64     `json:"stored_bytes"`
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
	User      string    `json:"user,omitempty"`
	Method    string    `json:"method,omitempty"` // publickey, certificate or password; empty: not logged in
	Client    string    `json:"client,omitempty"` // what it calls itself
	Connected time.Time `json:"connected"`
	LastUsed  time.Time `json:"last_used,omitzero"`
	Handles   int       `json:"handles"` // files and directories open
	// What was read from it and written to it by requests.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}
