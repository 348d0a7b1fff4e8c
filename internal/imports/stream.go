package imports

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// interruptible passes on what comes from in, until ctx ends: a read of a pipe
// that nobody writes to cannot be ended, only left behind.
func interruptible(ctx context.Context, in io.Reader) *io.PipeReader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	go func() {
		// The struct hides methods that would not use the buffer.
		_, err := io.CopyBuffer(w, struct{ io.Reader }{in}, make([]byte, unitSize))
		w.CloseWithError(err) // nil: io.EOF
	}()
	return r
}

// copyStream copies a raw disk of size bytes that comes from in, as disk 0.
func copyStream(out *output, in io.Reader, size int64) error {
	for off := int64(0); off < size; {
		b, err := out.buffer()
		if err != nil {
			return err
		}
		part := b[:min(unitSize, size-off)]
		if n, err := io.ReadFull(in, part); err != nil {
			out.put(b)
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("standard input ended after %d bytes; --size says %d", off+int64(n), size)
			}
			return fmt.Errorf("read standard input: %w", err)
		}
		begin := off
		out.start(b, 0, int64(len(part)), func() error { return out.store(0, begin, part) })
		off += int64(len(part))
	}
	var more [1]byte
	switch n, err := io.ReadFull(in, more[:]); {
	case n > 0:
		return fmt.Errorf("more comes from standard input than the %d bytes that --size says", size)
	case err != io.EOF:
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}
