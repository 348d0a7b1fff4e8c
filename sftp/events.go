package sftp

import (
	"fmt"
	"time"
)

// Peer says who is at the other end of a connection.
type Peer struct {
	// ID is Conn.ID.
	ID     string
	Remote string
	// User is Login.User, or before the login the name that was tried last.
	User string
	// Method is "key", "certificate" or "password", "" before the login.
	Method string
	// Identity is the key's fingerprint, and what a certificate calls itself.
	Identity string
	// Client is the version that the client's program tells.
	Client string
}

// String is for logs.
func (p Peer) String() string {
	if p.User == "" {
		return fmt.Sprintf("%s#%s", p.Remote, p.ID)
	}
	return fmt.Sprintf("%s@%s#%s", p.User, p.Remote, p.ID)
}

// EndEvent tells of the end of a connection that had logged in.
type EndEvent struct {
	Peer Peer
	// Reason is nil when the client ended it.
	Reason   error
	Duration time.Duration
	// Read and Written are the bytes of files.
	Read, Written uint64
}

// Kinds of RefusedEvent.What.
const (
	RefusedConnection = "connection" // over a limit; Name says which
	RefusedLogin      = "login"      // a key, certificate or password that does not let in; Name is the method
	RefusedChannel    = "channel"    // Name is its type
	RefusedRequest    = "request"    // on a channel; Name is its type: exec, shell, pty-req, env, …
	RefusedGlobal     = "global"     // Name is the request's type: tcpip-forward, …
	RefusedSession    = "session"    // the tree could not be opened, or there is one session already
)

// RefusedEvent tells of something a client must not have.
type RefusedEvent struct {
	Peer   Peer
	What   string
	Name   string
	Reason error
}

// RequestEvent tells of a request that a Tree or File answered with an error
// that is not about what the client asked for, such as a full or failing disk.
type RequestEvent struct {
	Peer    Peer
	Request string
	Name    string
	Err     error
}

// Events are optional hooks, called on the goroutines of the connection they are
// about: they must be quick and must not call the server.
type Events struct {
	Login func(Peer)
	// LoginFailed tells of a connection that ended before it had logged in. It is
	// not called for one that comes and goes without a word.
	LoginFailed  func(Peer, error)
	End          func(EndEvent)
	Refused      func(RefusedEvent)
	RequestError func(RequestEvent)
	// AcceptError tells of a failed accept that is tried again.
	AcceptError func(error)
}

func (e Events) login(p Peer) {
	if e.Login != nil {
		e.Login(p)
	}
}

func (e Events) loginFailed(p Peer, err error) {
	if e.LoginFailed != nil {
		e.LoginFailed(p, err)
	}
}

func (e Events) end(ev EndEvent) {
	if e.End != nil {
		e.End(ev)
	}
}

func (e Events) refused(ev RefusedEvent) {
	if e.Refused != nil {
		e.Refused(ev)
	}
}

func (e Events) requestError(ev RequestEvent) {
	if e.RequestError != nil {
		e.RequestError(ev)
	}
}

func (e Events) acceptError(err error) {
	if e.AcceptError != nil {
		e.AcceptError(err)
	}
}
