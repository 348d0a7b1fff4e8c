package sftp

import (
	"net"

	"golang.org/x/crypto/ssh"
)

// Conn says which connection wants to log in.
type Conn struct {
	// ID is the connection's own among all of this server process.
	ID     string
	Remote net.Addr
}

// Login is what an Authenticator grants.
type Login struct {
	// User is for logs, figures and the limit of connections per user; it may be
	// another name than the client gave. Empty means that one.
	User string
	// Open makes the tree of a session. It is called when the client starts the
	// sftp subsystem, with no connection to the client's later fate: the Tree's
	// Close is. An error's text goes to the client.
	Open func(Conn) (Tree, error)
	// Gone, when it is not nil, ends the connection by being closed.
	Gone <-chan struct{}
	// GoneReason is what the client is told then. Empty: "this login has ended".
	GoneReason string
}

// Authenticator decides who may log in. Its methods are called concurrently.
// Any error means no; its text goes to the events and never to the client.
//
// A client may ask about keys it cannot sign for. So Key and Certificate only
// look up and hand out a Login, which costs nothing; it is used when the client
// has proved that it has the key, and only the Login of the method that was
// accepted is.
type Authenticator interface {
	Key(user string, key ssh.PublicKey, c Conn) (*Login, error)
	// Certificate is called for a certificate of a trusted authority, valid now,
	// without critical options we do not know, that names at least one
	// principal and among them one of Options.Principals(user). A source-address
	// in it is enforced whatever Certificate returns.
	Certificate(user string, cert *ssh.Certificate, c Conn) (*Login, error)
	// Password must not keep password. How long a refusal takes is evened out
	// by the server.
	Password(user string, password []byte, c Conn) (*Login, error)
}
