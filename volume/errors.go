package volume

import "errors"

// What callers can tell apart with errors.Is; the message around it says more.
var (
	// ErrBadRequest is a request that could never be served.
	ErrBadRequest = errors.New("bad request")
	// ErrMismatch is a parent, checkpoint or size that is not what the server has.
	ErrMismatch = errors.New("does not match what the server has")
	// ErrNoSession is an unknown session or export token.
	ErrNoSession = errors.New("no such backup session")
	// ErrClosed is a session that was committed, aborted or has expired.
	ErrClosed = errors.New("backup session is closed")
	// ErrDead is a session that may have lost acknowledged writes; it can only be aborted.
	ErrDead = errors.New("backup session is dead")
	// ErrStale is a clone that lost writes which were acknowledged and not flushed;
	// it is to be resumed, under new tokens.
	ErrStale = errors.New("clone is stale")
	// ErrUnfinished is a file that may lack what was written to it.
	ErrUnfinished = errors.New("not finished")
	// ErrInUse is a point that open sessions or readers need.
	ErrInUse = errors.New("in use")
	// ErrLimit is a limit of this server that is reached for now.
	ErrLimit = errors.New("limit reached")
)
