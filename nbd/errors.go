package nbd

import (
	"errors"
	"syscall"
	"unicode/utf8"
)

var (
	// ErrUnknownExport is wrapped by Exports when no export has the name.
	ErrUnknownExport = errors.New("nbd: no such export")
	// ErrRefused is wrapped by Exports when the name is known and must never
	// be served again, for example a session that may have lost acknowledged
	// writes. The client is told the text.
	ErrRefused = errors.New("nbd: export refused")
	// ErrServerClosed is returned by Serve after Shutdown has begun.
	ErrServerClosed = errors.New("nbd: server closed")
)

// Reasons why a connection ended that the server itself gives.
var (
	errDraining    = errors.New("server drained the connection")
	errBadMagic    = errors.New("client broke the framing: bad request magic")
	errStalled     = errors.New("client stopped in the middle of a request")
	errFenced      = errors.New("connection stopped in the middle of a request while a newer one waited")
	errReplaced    = errors.New("connection replaced by a newer one to the same export")
	errHoarding    = errors.New("client stopped reading replies while others waited for memory")
	errTooLong     = errors.New("client sent a write longer than the maximum payload")
	errFenceBusy   = errors.New("writes of an older connection are still being carried out, try again")
	errInjection   = errors.New("client sent bytes between STARTTLS and the TLS handshake")
	errNeedsTLS    = errors.New("client tried to use an export without the TLS that this listener demands")
	errTooMany     = errors.New("client sent too many options")
	errOptionSize  = errors.New("client sent an option longer than the limit")
	errOptionMagic = errors.New("client broke the framing: bad option magic")
	errClientFlags = errors.New("client set unknown handshake flags")
	errBadName     = errors.New("client sent an export name that is too long or not plain UTF-8")
	errUnavailable = errors.New("server is not taking connections")
)

// errno is an error value of the wire.
type errno uint32

// errnoOf maps what a Device returned. ENOTSUP and EOVERFLOW mean something
// particular to clients, so a Device's own are only passed on where the
// protocol allows them (see command.errno).
func errnoOf(err error) errno {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return eio
	}
	switch e {
	case syscall.EPERM, syscall.EROFS, syscall.EACCES:
		return eperm
	case syscall.EINVAL:
		return einval
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return enospc
	case syscall.ENOTSUP:
		return enotsup
	case syscall.ESHUTDOWN:
		return eshutdown
	}
	return eio
}

// clip cuts a text for the wire at a rune boundary.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
