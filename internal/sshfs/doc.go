// Package sshfs mounts an SFTP server with the sshfs program, as a hypervisor
// does, and keeps the files that OpenSSH's own programs want of a login.
//
// A Mount is one sshfs process in the foreground, so that its end is seen. It
// has no lock: whoever mounts also unmounts. When the context a mount was made
// with ends, sshfs is killed, and whoever waits for its files gets an error
// instead of hanging.
package sshfs
