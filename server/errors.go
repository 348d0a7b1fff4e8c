package server

import (
	"context"
	"errors"
	"net/http"
	"syscall"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
	"github.com/strongroom-backup/strongroom/volume"
)

// refusals says how the engines' errors are told over HTTP. The first that
// matches counts.
var refusals = []struct {
	err    error
	status int
	hint   string
}{
	{volume.ErrBadRequest, http.StatusBadRequest, ""},
	{catalog.ErrInvalid, http.StatusBadRequest, ""},
	{volume.ErrNoSession, http.StatusNotFound, "see: strongroom backup status"},
	{maintenance.ErrBadRequest, http.StatusBadRequest, ""},
	{maintenance.ErrBusy, http.StatusConflict, "wait for it or cancel it; see: strongroom job ls"},
	{maintenance.ErrDamaged, http.StatusConflict, "see: strongroom damage"},
	{maintenance.ErrChainLimit, http.StatusConflict, "see: strongroom chain show VM/DISK; strongroom policy set VM --chain-limit N"},
	{maintenance.ErrStrictChains, http.StatusConflict, "strongroom policy set VM --strict-chains=false"},
	{catalog.ErrHeld, http.StatusConflict, "release it first: strongroom point release REF"},
	{catalog.ErrLocked, http.StatusConflict, ""},
	{volume.ErrInUse, http.StatusConflict, "see: strongroom backup status; strongroom clone list"},
	{volume.ErrMismatch, http.StatusConflict, "start with mode full, or with the parent the server has"},
	{volume.ErrUnfinished, http.StatusConflict, "the backup is still open: put its files right, and commit again"},
	{volume.ErrDead, http.StatusGone, "abort it, and back up again"},
	{volume.ErrClosed, http.StatusGone, "see: strongroom backup status SESSION"},
	{volume.ErrLimit, http.StatusTooManyRequests, "commit or abort open backups first"},
	{catalog.ErrReadOnly, http.StatusServiceUnavailable, "look at the disk of the data directory, then restart the server"},
	{syscall.ENOSPC, http.StatusInsufficientStorage, "remove points (strongroom point rm --now) and collect (strongroom gc), or give the data directory more space"},
	{syscall.EDQUOT, http.StatusInsufficientStorage, "raise the quota of the data directory"},
	{dedup.ErrDamaged, http.StatusInternalServerError, "the log names the damaged pack"},
	{catalog.ErrCorrupt, http.StatusInternalServerError, "the log names what is damaged"},
	{catalog.ErrNotFound, http.StatusNotFound, "see: strongroom point ls; deleted points: strongroom trash ls"},
	{context.Canceled, statusClientGone, ""},
}

// statusClientGone is nginx's code for a client that went away; only the log
// sees it.
const statusClientGone = 499

// refusal turns an error into the answer a client gets.
func refusal(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return &api.Error{Status: r.status, Message: err.Error(), Hint: r.hint}
		}
	}
	return &api.Error{Status: http.StatusInternalServerError, Message: err.Error(), Hint: "the server's log may say more"}
}

// deviceError is what NBD clients and the log get to see of an engine's error:
// its text with the VM and disk before it, and one errno. Other errnos within
// are about our files, and would tell the client something wrong about its
// request.
type deviceError struct {
	vm, disk string
	err      error
	errno    syscall.Errno
}

func (e *deviceError) Error() string {
	return "disk " + e.disk + " of VM " + e.vm + ": " + e.err.Error()
}

func (e *deviceError) Unwrap() error { return e.errno }

// noSpace reports whether an error means that the store is full.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
