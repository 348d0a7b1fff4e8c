// Package sftp serves files over SSH's sftp subsystem.
package sftp
