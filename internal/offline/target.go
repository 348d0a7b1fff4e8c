package offline

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/strongroom-backup/strongroom/internal/qcow2"
	"github.com/strongroom-backup/strongroom/internal/restore"
)

// target is where a disk or file goes. write is called in order of offset.
type target interface {
	write(p []byte, off int64) error
	finish() error // everything was written
	close() error  // after finish or in place of it
}

func (x *export) newTarget(data []qcow2.Extent) (target, error) {
	if (x.o.Path == "") == (x.o.To == nil) {
		return nil, errors.New("an export goes to a file or to a stream")
	}
	switch {
	case x.o.Format == restore.QCOW2:
		return x.newQCOW2(data)
	case x.o.Format != restore.Raw && x.o.Format != "":
		return nil, fmt.Errorf("format %q: want raw or qcow2", x.o.Format)
	case x.o.To != nil:
		return &rawStream{stream{w: x.o.To}, x.image.Size}, nil
	}
	return newFile(x.o, x.image.Size, func(w io.WriterAt, p []byte, off int64) error {
		_, err := w.WriteAt(p, off)
		return err
	}, nil)
}

func (x *export) newQCOW2(data []qcow2.Extent) (target, error) {
	// The format counts in sectors; a disk that ends within one gets it whole.
	size := (x.image.Size + 511) / 512 * 512
	image, err := qcow2.Plan(size, data)
	if err != nil {
		return nil, err
	}
	if x.o.To != nil {
		return newQCOW2Stream(x.o.To, image)
	}
	return newFile(x.o, image.FileSize(), image.WriteAt, image.WriteMetadata)
}

// file is a target that takes bytes at any place.
type file struct {
	*restore.Output
	writeAt  func(w io.WriterAt, p []byte, off int64) error
	metadata func(w io.WriterAt) error // may be nil
}

func newFile(o ExportOptions, size int64, writeAt func(io.WriterAt, []byte, int64) error, metadata func(io.WriterAt) error) (target, error) {
	out, err := restore.Create(o.Path, o.Force)
	if err != nil {
		return nil, err
	}
	if err := out.Truncate(size); err != nil {
		out.Discard()
		return nil, fmt.Errorf("make %s %d bytes long: %w", o.Path, size, err)
	}
	return &file{out, writeAt, metadata}, nil
}

func (f *file) write(p []byte, off int64) error { return f.writeAt(f.Output, p, off) }

func (f *file) finish() error {
	if f.metadata != nil {
		if err := f.metadata(f.Output); err != nil {
			return err
		}
	}
	return f.Finish()
}

func (f *file) close() error {
	f.Discard()
	return nil
}

// stream writes to places in a pipe, ascending, with zeros between them.
type stream struct {
	w   io.Writer
	pos int64
}

var zeros [64 << 10]byte

// WriteAt implements io.WriterAt for off not before what was written.
func (s *stream) WriteAt(p []byte, off int64) (int, error) {
	if err := s.fill(off); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	s.pos += int64(n)
	return n, err
}

// fill writes zeros up to off.
func (s *stream) fill(off int64) error {
	for s.pos < off {
		n, err := s.w.Write(zeros[:min(int64(len(zeros)), off-s.pos)])
		s.pos += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

type rawStream struct {
	stream
	size int64
}

func (r *rawStream) write(p []byte, off int64) error {
	_, err := r.WriteAt(p, off)
	return err
}

func (r *rawStream) finish() error { return r.fill(r.size) }

func (r *rawStream) close() error { return nil }

// qcow2Stream is a qcow2 file in a pipe. What stands before the data is written
// first, by way of a temporary file.
type qcow2Stream struct {
	stream
	image *qcow2.Image
}

func newQCOW2Stream(w io.Writer, image *qcow2.Image) (target, error) {
	head, err := os.CreateTemp("", "strongroom-qcow2-")
	if err != nil {
		return nil, err
	}
	defer head.Close()
	if err := os.Remove(head.Name()); err != nil {
		return nil, err
	}
	s := &qcow2Stream{stream{w: w}, image}
	if err := errors.Join(head.Truncate(image.DataStart()), image.WriteMetadata(head)); err != nil {
		return nil, fmt.Errorf("lay out the qcow2 image: %w", err)
	}
	s.pos, err = io.Copy(w, io.NewSectionReader(head, 0, image.DataStart()))
	return s, err
}

func (s *qcow2Stream) write(p []byte, off int64) error { return s.image.WriteAt(&s.stream, p, off) }

func (s *qcow2Stream) finish() error { return s.fill(s.image.FileSize()) }

func (s *qcow2Stream) close() error { return nil }
