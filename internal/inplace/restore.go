package inplace

import (
	"context"
	"errors"
	"io"
)

// Ref is the disk of a point that a target is to become.
type Ref struct {
	VM    string `json:"vm"`
	Disk  string `json:"disk"`
	Point string `json:"point"`
}

// Source is the chosen point's disk. *nbdclient.Conn is one.
type Source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
}

// Restore is one overwrite recovery.
type Restore struct {
	Ref     Ref
	Source  Source
	Target  Target
	Journal string // path
	Resize  bool   // give a file the disk's size
	// Hashes opens the stream (internal/hashstream) of the chosen disk.
	Hashes func(context.Context) (io.ReadCloser, error)
	// Dirty holds what may differ; nil: nothing is known, everything is compared.
	Dirty  *Ranges
	Verify bool
}

// Result is what a Restore did.
type Result struct {
	Ref
	Size int64 `json:"size"`
}

// Target is a disk that is overwritten.
type Target interface {
	Size() int64
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// Ranges is a set of byte ranges.
type Ranges struct{}

// Run does it.
func (r Restore) Run(context.Context) (Result, error) { return Result{}, errUnfinished }

var errUnfinished = errors.New("restoring in place is unfinished")
