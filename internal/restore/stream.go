package restore

import (
	"context"
	"io"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// ordered is a piece of a stream: zeros, or being read.
type ordered struct {
	zeros  int64
	data   []byte
	buffer *[requestBytes]byte
	read   chan error
}

// stream writes what walk yields to w, in its order; pieces are read by many at
// once, and at most inFlight wait to be written. progress is told of data that
// was written.
func stream(ctx context.Context, w io.Writer, progress func(int64), walk func(zeros func(n int64) error, data func(from io.ReaderAt, off, n int64) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *ordered, inFlight)
	put := func(o *ordered) error {
		select {
		case queue <- o:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	walked := make(chan error, 1)
	go func() {
		defer close(queue)
		walked <- walk(
			func(n int64) error { return put(&ordered{zeros: n}) },
			func(from io.ReaderAt, off, n int64) error {
				return split(off, n, func(off, n int64) error {
					o := &ordered{buffer: buffers.Get().(*[requestBytes]byte), read: make(chan error, 1)}
					o.data = o.buffer[:n]
					go func() { o.read <- readFull(from, o.data, off) }()
					if err := put(o); err != nil {
						<-o.read
						return err
					}
					return nil
				})
			})
	}()
	var failed error
	for o := range queue { // to its end, so that no read is left behind
		err := o.finish(w, failed == nil, progress)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && failed == nil {
			failed = err
			cancel(err)
		}
	}
	if err := <-walked; failed == nil {
		failed = err
	}
	return failed
}

// finish waits for a piece, and writes it if that still makes sense.
func (o *ordered) finish(w io.Writer, write bool, progress func(int64)) error {
	if o.read == nil {
		if !write {
			return nil
		}
		return writeZeros(w, o.zeros)
	}
	defer buffers.Put(o.buffer)
	if err := <-o.read; err != nil || !write {
		return err
	}
	if _, err := w.Write(o.data); err != nil {
		return err
	}
	if progress != nil {
		progress(int64(len(o.data)))
	}
	return nil
}

var zeros [requestBytes]byte

func writeZeros(w io.Writer, n int64) error {
	for n > 0 {
		step := min(n, int64(len(zeros)))
		if _, err := w.Write(zeros[:step]); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// readFull fills p.
func readFull(from io.ReaderAt, p []byte, off int64) error {
	n, err := from.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// streamRaw writes a disk as it is.
func streamRaw(ctx context.Context, w io.Writer, src *hashedSource, progress func(int64)) error {
	return stream(ctx, w, progress, func(zeros func(int64) error, data func(io.ReaderAt, int64, int64) error) error {
		return src.Extents(func(e nbdclient.Extent) error {
			if e.Zero {
				return zeros(e.Length)
			}
			return data(src, e.Offset, e.Length)
		})
	})
}

// streamFile writes a file that is made as it is read.
func streamFile(ctx context.Context, w io.Writer, file io.ReaderAt, size int64, progress func(int64)) error {
	return stream(ctx, w, progress, func(_ func(int64) error, data func(io.ReaderAt, int64, int64) error) error {
		return data(file, 0, size)
	})
}
