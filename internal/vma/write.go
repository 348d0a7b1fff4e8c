package vma

import (
	"context"
	"errors"
	"io"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Source is a disk to be archived, read by many at once.
type Source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(yield func(nbdclient.Extent) error) error
}

var errUnfinished = errors.New("vma: unfinished")

// Write writes an archive of the sources, by device id.
func Write(ctx context.Context, w io.Writer, h Header, sources map[uint8]Source, progress func(n int64)) error {
	return errUnfinished
}
