// Package sftp serves files over SSH: an SSH server that knows nothing but the
// subsystem sftp, and version 3 of the SFTP protocol. It knows nothing of
// backups; what it serves comes from a Tree, and who may have one is said by an
// Authenticator.
//
// # A connection's life
//
//	accept → limits → login ──→ channels, one session at a time ──→ end
//	           │        └── refused, deadline ──→ closed
//	           └── closed without a word
//
// Limits (addresses.go, server.go): connections in all, of an address and of a
// login, those that have not logged in, and a credit of each address that new
// connections use up, and failed logins eight times as fast.
//
// Login (auth.go): public keys, certificates of trusted authorities, passwords;
// all of it before a deadline. A client may ask about keys it does not have, so
// nothing is decided before one method was accepted, and then only by what that
// method left behind.
//
// Channels (channels.go): a session channel with the subsystem sftp. Commands,
// shells, terminals, environment, forwarding and agents are refused, told to
// the events and, when a client keeps asking, the end of the connection.
//
// End (watch.go): the client hangs up; or its login ends, the server shuts down,
// it is idle, or gives no sign of life for three keepalives. Any bytes are a
// sign of life. Files are closed, then the tree, before the connection counts
// as ended.
//
// # A session
//
// One loop (session.go) takes one request after the other, in the order in
// which they came, and has answered it before it takes the next:
//
//	socket → SSH → input (input.go) → dispatch → Tree, File → output (output.go) → SSH → socket
//
// Clients count on the order. sshfs sends an LSTAT behind the OPEN that makes a
// file and writes whose answers it does not wait for; a server that hands
// requests to several workers applies overlapping writes in the wrong order.
//
// WRITE hands the bytes to the file where they lie in the input's buffer, READ
// reads into the output's. Neither allocates. Replies gather while a goroutine
// encrypts and sends the ones before; they leave when no whole request is
// waiting, or enough are there. When the client does not take them the session
// stops, and with it, 2 MiB later, the client's sending.
//
// Packets (both directions; integers are big-endian, strings length (4) and
// bytes):
//
//	length (4) | type (1) | id (4) | body         length counts what follows it
//
//	  1  INIT      version                       → VERSION 3 and extensions; no id
//	  3  OPEN      path, pflags, ATTRS           → HANDLE
//	  4  CLOSE     handle
//	  5  READ      handle, offset (8), length    → DATA, at most 255 KiB
//	  6  WRITE     handle, offset (8), bytes
//	  7  LSTAT     path                          → ATTRS
//	  8  FSTAT     handle                        → ATTRS
//	  9  SETSTAT   path, ATTRS                   size, mode, mtime
//	 10  FSETSTAT  handle, ATTRS
//	 11  OPENDIR   path                          → HANDLE
//	 12  READDIR   handle                        → NAME, pages of 128; then EOF
//	 13  REMOVE    path
//	 14  MKDIR     path, ATTRS
//	 15  RMDIR     path
//	 16  REALPATH  path                          → NAME; looks at nothing
//	 17  STAT      path                          → ATTRS, like LSTAT
//	 18  RENAME    old, new                      fails when new is there
//	 19  READLINK, 20 SYMLINK                    → operation unsupported
//	200  EXTENDED  name, …
//	       posix-rename@openssh.com  old, new    replaces new
//	       hardlink@openssh.com      old, new
//	       statvfs@openssh.com       path        → space
//	       fstatvfs@openssh.com      handle      → space
//	       fsync@openssh.com         handle      survives a power cut
//	       limits@openssh.com                    → the limits
//	       lsetstat@openssh.com      path, ATTRS like SETSTAT
//
// Everything else is answered with STATUS; its text is the Tree's error. A path
// goes through resolve (name.go) and nowhere else: ".." is taken out by the text
// and stops at the root. There are no symbolic links, which a client might
// follow on its own machine. ATTRS that make a file count for their mode, unless
// it is 0; owners and access times are ignored. A handle is a slot and its
// generation (handles.go).
//
// Encoding is that of github.com/pkg/sftp/v2, but for READ, WRITE, DATA and
// STATUS, which are hot, and for reading ATTRS, where that codec allocates what
// the client says it will send.
//
// # Goroutines
//
// A connection has one for its login and channels, and once it has logged in:
// one that watches it, one for global requests, one for the channel's requests,
// the session, its replies, three of the SSH library, and now and then one that
// waits for a keepalive's answer. The connection's own ends last.
//
// # Memory
//
// A new session has 160 KiB of input and 128 KiB of socket buffer. Two reply
// buffers of up to 320 KiB, an input of 512 KiB once packets are longer or the
// client is ahead, and the SSH window of 2 MiB are the most a client can fill.
//
// # Locks
//
//	Server.mu                          connections, users, addresses
//	conn.mu, counters.mu, output.mu    leaves: nothing is taken under them
//
// None of them is held while a Tree, File, Authenticator or event is called.
package sftp
