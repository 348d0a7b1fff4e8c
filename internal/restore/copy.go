package restore

import (
	"context"
	"sync"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// part is a read, of at most requestBytes.
type part struct {
	from interface {
		ReadAt(p []byte, off int64) (int, error)
	}
	off, n int64
	// done is given what was read. It does not keep p.
	done func(p []byte, off int64) error
}

// buffers are where parts are read to, aligned for direct I/O.
var buffers = sync.Pool{New: func() any {
	p := make([]byte, requestBytes+directAlign)
	skip := -uintptr(unsafe.Pointer(&p[0])) % directAlign
	return (*[requestBytes]byte)(p[skip:][:requestBytes])
}}

// readParts reads what walk yields, many parts at once, and gives each to its
// done. The first error ends it.
func readParts(ctx context.Context, progress func(int64), walk func(yield func(part) error) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	walked := walk(func(p part) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.Go(func() error { return p.read(ctx, progress) })
		return nil
	})
	// A failed part ends the walk too; its own error is the one that tells why.
	if err := g.Wait(); err != nil {
		return err
	}
	return walked
}

func (p part) read(ctx context.Context, progress func(int64)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	buffer := buffers.Get().(*[requestBytes]byte)
	defer buffers.Put(buffer)
	if n, err := p.from.ReadAt(buffer[:p.n], p.off); int64(n) < p.n {
		return err
	}
	if err := p.done(buffer[:p.n], p.off); err != nil {
		return err
	}
	if progress != nil {
		progress(p.n)
	}
	return nil
}

// split calls yield for a range in pieces that end at multiples of requestBytes.
func split(off, n int64, yield func(off, n int64) error) error {
	for end := off + n; off < end; {
		step := min(end-off, requestBytes-off%requestBytes)
		if err := yield(off, step); err != nil {
			return err
		}
		off += step
	}
	return nil
}

// dataOf sums up the data of a source, in whole blocks.
func dataOf(src Source) (n int64, err error) {
	err = blockExtents(src, 0, func(e nbdclient.Extent) error {
		if !e.Zero {
			n += e.Length
		}
		return nil
	})
	return n, err
}

// scan reads a source and hashes it. data and zero, which may be nil, are given
// what is in it, in whole blocks: data by many at once, zero one after the other.
func scan(ctx context.Context, src Source, h *ContentHasher, progress func(int64), data func(p []byte, off int64) error, zero func(off, n int64) error) error {
	return readParts(ctx, progress, func(yield func(part) error) error {
		return blockExtents(src, 0, func(e nbdclient.Extent) error {
			if e.Zero {
				h.Zero(e.Offset, e.Length)
				if zero == nil {
					return ctx.Err()
				}
				return zero(e.Offset, e.Length)
			}
			return split(e.Offset, e.Length, func(off, n int64) error {
				return yield(part{from: src, off: off, n: n, done: func(p []byte, off int64) error {
					h.Write(p, off)
					if data == nil {
						return nil
					}
					return data(p, off)
				}})
			})
		})
	})
}
