package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

const (
	// requestBytes is four frames of the store; larger requests gain nothing.
	requestBytes = 1 << 20
	// inFlight keeps both sides' cores busy and 16 MiB of memory.
	inFlight = 16
)

// Disk is one restore.
type Disk struct {
	Target nbdclient.Target
	Size   int64 // what the export must have, bytes
	Output string
	Format Format
	Force  bool // replace a file that is not empty

	// Begin is told the bytes of data that will be read, Progress each part of
	// them that has been written. Progress is called concurrently. Both may be nil.
	Begin    func(data int64)
	Progress func(n int64)
}

// DamageError says that the server could not give data back: it is damaged or
// missing in the store.
type DamageError struct{ Err error }

func (e *DamageError) Error() string { return "the backup is damaged: " + e.Err.Error() }

func (e *DamageError) Unwrap() error { return e.Err }

// Run copies the disk. When it returns nil the output is whole and synced; when
// it returns an error the output is as it was before. It returns the bytes of
// data read.
func (d Disk) Run(ctx context.Context) (data int64, err error) {
	if err := CheckOutput(d.Output, d.Force); err != nil {
		return 0, err
	}
	conn, err := nbdclient.Dial(ctx, d.Target)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if conn.Size() != d.Size {
		return 0, fmt.Errorf("export %s has %d bytes, but the point says %d", d.Target.Export, conn.Size(), d.Size)
	}
	data, err = d.copy(ctx, conn)
	if ctx.Err() != nil {
		return data, context.Cause(ctx)
	}
	return data, classify(err)
}

// classify marks the server's refusals to hand out data.
func classify(err error) error {
	var s *nbdclient.ServerError
	if errors.As(err, &s) && s.Errno == syscall.EIO {
		return &DamageError{Err: err}
	}
	return err
}

func (d Disk) copy(ctx context.Context, conn *nbdclient.Conn) (data int64, err error) {
	w, err := d.Format.newWriter(d.Size, conn.Extents)
	if err != nil {
		return 0, err
	}
	err = conn.Extents(func(e nbdclient.Extent) error {
		if !e.Zero {
			data += e.Length
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if d.Begin != nil {
		d.Begin(data)
	}
	out, err := Create(d.Output, d.Force)
	if err != nil {
		return 0, err
	}
	defer out.Discard()
	if err := out.Truncate(w.fileSize); err != nil {
		return 0, fmt.Errorf("make %s %d bytes long: %w", d.Output, w.fileSize, err)
	}
	if err := d.copyData(ctx, conn, out, w); err != nil {
		return 0, err
	}
	if err := w.finish(out); err != nil {
		return 0, err
	}
	return data, out.Finish()
}

var buffers = sync.Pool{New: func() any { return new([requestBytes]byte) }}

func (d Disk) copyData(ctx context.Context, conn *nbdclient.Conn, out *Output, w *writer) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	walk := conn.Extents(func(e nbdclient.Extent) error {
		for end := e.Offset + e.Length; !e.Zero && e.Offset < end; {
			off := e.Offset
			n := min(end-off, requestBytes-off%requestBytes)
			g.Go(func() error { return d.copyPart(ctx, conn, out, w, off, n) })
			e.Offset += n
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
	// A failed part ends the walk too; its own error is the one that tells why.
	if err := g.Wait(); err != nil {
		return err
	}
	return walk
}

func (d Disk) copyPart(ctx context.Context, conn *nbdclient.Conn, out *Output, w *writer, off, n int64) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	buffer := buffers.Get().(*[requestBytes]byte)
	defer buffers.Put(buffer)
	if _, err := conn.ReadAt(buffer[:n], off); err != nil {
		return err
	}
	if err := w.writeAt(out, buffer[:n], off); err != nil {
		return fmt.Errorf("write %s: %w", d.Output, err)
	}
	if d.Progress != nil {
		d.Progress(n)
	}
	return nil
}
