package restore

import (
	"errors"
	"fmt"
	"io"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// Format is how a disk is written.
type Format string

const (
	Raw   Format = "raw" // sparse
	QCOW2 Format = "qcow2"
	VMA   Format = "vma" // an archive of all disks
)

// ParseFormat reads the name of a format in which a disk is a file of its own.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Raw, QCOW2:
		return f, nil
	}
	return "", fmt.Errorf("format %.40q: want raw or qcow2", s)
}

// writer puts disk content to its place in a file.
type writer struct {
	fileSize int64
	writeAt  func(w io.WriterAt, p []byte, off int64) error
	finish   func(w io.WriterAt) error
}

// newWriter plans the file for a disk.
func (f Format) newWriter(src Source) (*writer, error) {
	if f == Raw {
		return &writer{
			fileSize: src.Size(),
			writeAt: func(w io.WriterAt, p []byte, off int64) error {
				_, err := w.WriteAt(p, off)
				return err
			},
			finish: func(io.WriterAt) error { return nil },
		}, nil
	}
	view, err := flatView(src)
	if err != nil {
		return nil, err
	}
	return &writer{fileSize: view.Size(), writeAt: view.WriteAt, finish: view.WriteMetadata}, nil
}

// flatView is a disk as one qcow2 file.
func flatView(src Source) (*qcow2.View, error) {
	return qcow2.NewView(qcow2.ViewOptions{Size: src.Size(), Source: src, Extents: func(yield func(off, n int64, kind qcow2.Kind) bool) error {
		return flatExtents(src, yield)
	}})
}

// flatExtents yields the data of a disk.
func flatExtents(src Source, yield func(off, n int64, kind qcow2.Kind) bool) error {
	return ignoreStop(blockExtents(src, 0, func(e nbdclient.Extent) error {
		if !e.Zero && !yield(e.Offset, e.Length, qcow2.Data) {
			return errStop
		}
		return nil
	}))
}

// errStop ends a walk whose yield wants no more, and knows why.
var errStop = errors.New("stopped")

func ignoreStop(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}
