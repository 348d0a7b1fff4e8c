package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/server/api"
)

// Exit codes. They are part of the contract with scripts.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnreachable = 5
	exitDamaged     = 6
	exitInterrupted = 130
)

// exitHelp is in the help of every command.
const exitHelp = `Exit codes:
  0    done
  1    failed: the message says why
  2    wrong usage or configuration
  3    no such session, clone, VM, point, disk, file, blob or job
  4    refused: the server's state or rights do not allow it (mismatching parent,
       session closed or dead, clone stale or in use, point held, locked or in use,
       job running, missing token, a file that cannot become an image, SFTP off,
       file exists, target in use or of another size, data directory in use)
  5    no server answers
  6    stored data is damaged; a restore has written nothing, one in place says
       what it has
  130  interrupted`

// usageError is a mistake on the command line or in the configuration.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// refusedError is a refusal that does not come from a running server.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// damagedError is damage that was looked for and found.
type damagedError struct{ text string }

func (e *damagedError) Error() string { return e.text }

func (e *damagedError) Unwrap() error { return dedup.ErrDamaged }

// exitCode sorts errors into the exit codes.
func exitCode(err error) int {
	var usage *usageError
	var refusal *api.Error
	var gone *api.UnreachableError
	var damage *restore.DamageError
	var refused *refusedError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), errors.Is(err, catalog.ErrInvalid):
		return exitUsage
	case errors.As(err, &damage), errors.Is(err, dedup.ErrDamaged):
		return exitDamaged
	case errors.As(err, &gone):
		return exitUnreachable
	case errors.As(err, &refusal):
		return refusalCode(refusal.Status)
	case errors.Is(err, catalog.ErrNotFound):
		return exitNotFound
	case errors.As(err, &refused), errors.Is(err, fs.ErrExist):
		return exitRefused
	}
	return exitFailed
}

func refusalCode(status int) int {
	switch status {
	case http.StatusBadRequest:
		return exitUsage
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusGone, http.StatusForbidden, http.StatusUnauthorized:
		return exitRefused
	}
	return exitFailed
}

// report prints an error and what to do about it.
func report(w io.Writer, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	text := strings.ReplaceAll(err.Error(), "\n", "\n  ")
	fmt.Fprintf(w, "strongroom: %s\n", text)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

func hintOf(err error) string {
	var usage *usageError
	var refusal *api.Error
	var gone *api.UnreachableError
	switch {
	case errors.As(err, &usage):
		return usage.hint
	case errors.As(err, &refusal):
		return refusal.Hint
	case errors.As(err, &gone):
		return "start it with: strongroom serve; or name its socket or URL with --api"
	case errors.Is(err, fs.ErrExist):
		return "choose another --output, or replace it with --force"
	}
	return ""
}
