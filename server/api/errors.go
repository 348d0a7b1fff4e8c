package api

import (
	"fmt"
	"net/http"
)

// Error is a refusal of the server. Its JSON is the body of every answer that
// is not a success.
type Error struct {
	Status  int    `json:"-"` // the HTTP status
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// Error is the message; the hint is for whoever prints it.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}

// UnreachableError says that no server answered.
type UnreachableError struct {
	Target string
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no server answers at %s: %v", e.Target, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }
