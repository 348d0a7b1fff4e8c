package inplace

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// overwrite makes the candidates what the chosen disk has there.
func (x *run) overwrite(ctx context.Context, candidates *Ranges) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	walk := candidates.Each(func(off, n int64) error {
		return x.parts(ctx, off, min(n, x.size-off), func(off, n int64) error {
			g.Go(func() error { return x.overwritePart(ctx, off, n) })
			return nil
		})
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return walk
}

// overwritePart reads a part of both sides and writes the pieces that differ.
func (x *run) overwritePart(ctx context.Context, off, n int64) error {
	return x.read(ctx, off, n, func(have []byte) error {
		buffer := buffers.Get().(*[partBytes]byte)
		defer buffers.Put(buffer)
		want := buffer[:n]
		if err := x.fetch(want, off); err != nil {
			return err
		}
		x.fetched.Add(n)
		for _, p := range differences(have, want) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := x.write(want[p.off:p.end], off+p.off, p.zero); err != nil {
				return err
			}
		}
		return nil
	})
}

func (x *run) write(p []byte, off int64, zero bool) error {
	if err := x.started(); err != nil {
		return err
	}
	count, err := &x.written, error(nil)
	if zero {
		count, err = &x.zeroed, x.Target.Zero(off, int64(len(p)))
	} else {
		_, err = x.Target.WriteAt(p, off)
	}
	if err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(p), off, x.Target.Name(), err)
	}
	count.Add(int64(len(p)))
	return nil
}

// piece is neighbouring bytes that differ.
type piece struct {
	off, end int64 // within the part
	zero     bool  // what they should be
}

// differences lists the pieces of 4 KiB in which a part differs, neighbours of
// one kind joined. The part begins at a multiple of 4 KiB of the disk.
func differences(have, want []byte) (list []piece) {
	for off := 0; off < len(want); off += pieceBytes {
		end := min(off+pieceBytes, len(want))
		if bytes.Equal(have[off:end], want[off:end]) {
			continue
		}
		zero := isZero(want[off:end])
		if n := len(list); n > 0 && list[n-1].end == int64(off) && list[n-1].zero == zero {
			list[n-1].end = int64(end)
			continue
		}
		list = append(list, piece{int64(off), int64(end), zero})
	}
	return list
}
