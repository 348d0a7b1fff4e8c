package imports

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// layer is an image, or one of those it stands on.
type layer interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	// spans goes over all of it, in order and without gaps.
	spans() iter.Seq2[span, error]
}

// span is a part of a layer of one kind.
type span struct {
	off, n int64
	kind   kind
}

type kind uint8

const (
	nothing kind = iota // the layer below counts
	zero
	data
)

// rawLayer is a file whose holes the file system knows.
type rawLayer struct {
	*os.File
	size int64
}

func (r rawLayer) Size() int64 { return r.size }

func (r rawLayer) spans() iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		for off := int64(0); off < r.size; {
			begin, err := unix.Seek(int(r.Fd()), off, unix.SEEK_DATA)
			switch {
			case errors.Is(err, unix.ENXIO):
				begin = r.size
			case err != nil: // a device, or a file system that does not tell
				begin = off
			}
			if begin = min(begin, r.size); begin > off {
				if !yield(span{off, begin - off, zero}, nil) {
					return
				}
				off = begin
				continue
			}
			end, err := unix.Seek(int(r.Fd()), off, unix.SEEK_HOLE)
			if err != nil {
				end = r.size
			}
			if end = min(end, r.size); !yield(span{off, end - off, data}, nil) {
				return
			}
			off = end
		}
	}
}

// qcow2Layer is a qcow2 file.
type qcow2Layer struct {
	*qcow2.Reader
	path string
}

var errEnough = errors.New("enough")

func (q qcow2Layer) spans() iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		err := q.Map(func(m qcow2.Mapping) error {
			k := data
			switch m.Kind {
			case qcow2.Unallocated:
				k = nothing
			case qcow2.Zero:
				k = zero
			}
			if !yield(span{m.Offset, m.Length, k}, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && err != errEnough {
			yield(span{}, fmt.Errorf("%s: %w", q.path, err))
		}
	}
}

// follow opens the files below an image.
func (s *Source) follow(f *os.File, top qcow2Layer) (layers []layer, err error) {
	layers = []layer{top}
	files := []*os.File{f}
	for q, path := top.Reader, top.path; ; {
		name, format := q.Backing()
		if name == "" {
			return layers, nil
		}
		if len(layers) == layersMax {
			return nil, fmt.Errorf("%s stands on more than %d files", top.path, layersMax)
		}
		below, err := backingPath(path, name)
		if err != nil {
			return nil, err
		}
		b, size, err := s.openFile(below, false)
		if err != nil {
			return nil, fmt.Errorf("backing file of %s: %w", path, err)
		}
		if err := checkCycle(files, b); err != nil {
			return nil, err
		}
		files = append(files, b)
		switch format {
		case "raw":
			return append(layers, rawLayer{b, size}), nil
		case "qcow2":
		default:
			return nil, fmt.Errorf("%s does not tell that its backing file %q is qcow2 or raw, but %q; "+
				"look at that file, then tell it: qemu-img rebase -u -b FILE -F FORMAT %s", path, name, format, path)
		}
		if q, err = qcow2.Open(b, size); err != nil {
			return nil, fmt.Errorf("%s: %w", below, err)
		}
		path = below
		layers = append(layers, qcow2Layer{q, path})
	}
}

// backingPath is where the backing file of that name is, of an image at path.
func backingPath(path, name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "file:"); ok {
		name = rest
	}
	if head, _, ok := strings.Cut(name, ":"); ok && !strings.Contains(head, "/") {
		return "", fmt.Errorf("%s stands on %q, which is no file; only files are followed", path, name)
	}
	if filepath.IsAbs(name) {
		return name, nil
	}
	return filepath.Join(filepath.Dir(path), name), nil
}

// checkCycle refuses a file that is one of those above it.
func checkCycle(above []*os.File, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for _, a := range above {
		other, err := a.Stat()
		if err != nil {
			return err
		}
		if os.SameFile(st, other) {
			return fmt.Errorf("%s is its own backing file, by way of %s", a.Name(), f.Name())
		}
	}
	return nil
}

// piece is a part of a disk and where it is.
type piece struct {
	layer  layer // nil: zeros
	off, n int64
}

// pieces goes over the disk that layers make, the uppermost first.
func pieces(layers []layer) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		walks := make([]*walk, len(layers))
		for i, l := range layers {
			next, stop := iter.Pull2(l.spans())
			defer stop()
			walks[i] = &walk{next: next, size: l.Size()}
		}
		for off, size := int64(0), layers[0].Size(); off < size; {
			p := piece{off: off, n: size - off}
			for i, w := range walks {
				if off >= w.size {
					break // zeros
				}
				if err := w.seek(off); err != nil {
					yield(piece{}, err)
					return
				}
				p.n = min(p.n, w.at.off+w.at.n-off)
				if w.at.kind == data {
					p.layer = layers[i]
				}
				if w.at.kind != nothing {
					break
				}
			}
			if !yield(p, nil) {
				return
			}
			off += p.n
		}
	}
}

// walk is how far a layer has been gone over.
type walk struct {
	next func() (span, error, bool)
	size int64
	at   span
}

// seek goes on to the span that holds off.
func (w *walk) seek(off int64) error {
	for w.at.off+w.at.n <= off {
		s, err, ok := w.next()
		if err != nil {
			return err
		}
		if !ok {
			return io.ErrUnexpectedEOF
		}
		w.at = s
	}
	return nil
}
