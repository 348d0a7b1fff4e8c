package sftp

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrServerClosed is returned by Serve after Shutdown has begun, and is the
// reason of connections that it ended.
var ErrServerClosed = errors.New("sftp: the server is shutting down")

// Reasons why a connection ended that the server itself gives.
var (
	errProtocol     = errors.New("client broke the SFTP protocol")
	errCutOff       = fmt.Errorf("%w: the stream ends inside a packet", errProtocol)
	errLost         = errors.New("the connection was lost")
	errGone         = errors.New("this login has ended")
	errDead         = errors.New("client gave no sign of life")
	errIdle         = errors.New("no request for longer than the idle limit")
	errNoSession    = errors.New("client started no sftp session")
	errRefusals     = errors.New("client kept asking for what it must not have")
	errUnread       = errors.New("client did not take the last replies")
	errUserFull     = errors.New("too many connections of this login")
	errLoginTimeout = errors.New("no login in the time allowed")
)

// Reasons why a connection is not taken, and the names events give them.
var (
	errFull        = refusal{"connections", "too many connections"}
	errLoginsFull  = refusal{"logins", "too many connections that have not logged in"}
	errAddressFull = refusal{"address", "too many connections of this address"}
	errAddressRate = refusal{"rate", "too many new connections or failed logins of this address"}
)

type refusal struct{ name, text string }

func (r refusal) Error() string { return r.text }

// Reasons why a request fails that are not the Tree's.
var (
	errMalformed   = errors.New("malformed request")
	errHandle      = errors.New("no such handle")
	errManyHandles = errors.New("too many open files")
	errUnsupported = fmt.Errorf("%w here", errors.ErrUnsupported)
	errRoot        = fmt.Errorf("%w: the root itself cannot be changed", fs.ErrPermission)
	errNoSymlinks  = fmt.Errorf("%w: there are no symbolic links here", errors.ErrUnsupported)
)
