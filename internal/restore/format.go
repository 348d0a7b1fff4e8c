package restore

import (
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
)

// ParseFormat reads a format's name.
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

// newWriter plans the file for a disk of size bytes; extents walks its content.
func (f Format) newWriter(size int64, extents func(func(nbdclient.Extent) error) error) (*writer, error) {
	if f == Raw {
		return &writer{
			fileSize: size,
			writeAt: func(w io.WriterAt, p []byte, off int64) error {
				_, err := w.WriteAt(p, off)
				return err
			},
			finish: func(io.WriterAt) error { return nil },
		}, nil
	}
	var data []qcow2.Extent
	err := extents(func(e nbdclient.Extent) error {
		if !e.Zero {
			data = append(data, qcow2.Extent{Offset: e.Offset, Length: e.Length})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	image, err := qcow2.Plan(size, data)
	if err != nil {
		return nil, err
	}
	return &writer{fileSize: image.FileSize(), writeAt: image.WriteAt, finish: image.WriteMetadata}, nil
}
