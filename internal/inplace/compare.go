package inplace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/internal/hashstream"
)

var buffers = sync.Pool{New: func() any { return new([partBytes]byte) }}

// compareAll finds the blocks of 64 KiB of the target that are not the chosen
// disk's, from the hashes that the server streams. Beyond the disk's end it looks
// at nothing. What both sides know to be zeros is not read.
func (x *run) compareAll(ctx context.Context) (*Ranges, error) {
	found := NewRanges(x.size)
	stream, err := x.Hashes(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	hashes, err := hashstream.NewReader(stream, x.size)
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	walk := x.walkHashes(ctx, g, hashes, found)
	// A failed part ends the walk too; its own error is the one that tells why.
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return found, walk
}

func (x *run) walkHashes(ctx context.Context, g *errgroup.Group, hashes *hashstream.Reader, found *Ranges) error {
	for {
		blocks, err := hashes.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		off := blocks.First * hashstream.BlockSize
		end := min(off+blocks.Count*hashstream.BlockSize, x.size)
		for off < end {
			n := min(end-off, windowBytes-off%windowBytes)
			if err := x.compareRun(ctx, g, blocks, off, n, found); err != nil {
				return err
			}
			off += n
		}
	}
}

// compareRun compares the part [off, off+n) of a run of blocks.
func (x *run) compareRun(ctx context.Context, g *errgroup.Group, blocks hashstream.Run, off, n int64, found *Ranges) error {
	if blocks.Hashes != nil {
		// What lies in a hole of the target is read as well: a run of hashes is short.
		return x.parts(ctx, off, n, func(off, n int64) error {
			first := off/hashstream.BlockSize - blocks.First
			list := slices.Clone(blocks.Hashes[first : first+hashstream.Blocks(n)])
			g.Go(func() error { return x.compareHashes(ctx, list, off, n, found) })
			return nil
		})
	}
	return x.targetExtents(off, n, func(off, n int64, zero bool) error {
		if zero {
			x.progress(n)
			return ctx.Err()
		}
		return x.parts(ctx, off, n, func(off, n int64) error {
			g.Go(func() error { return x.compareZeros(ctx, off, n, found) })
			return nil
		})
	})
}

// parts cuts a range at multiples of partBytes.
func (x *run) parts(ctx context.Context, off, n int64, yield func(off, n int64) error) error {
	for end := off + n; off < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		k := min(end-off, partBytes-off%partBytes)
		if err := yield(off, k); err != nil {
			return err
		}
		off += k
	}
	return nil
}

func (x *run) compareHashes(ctx context.Context, list []hashstream.Hash, off, n int64, found *Ranges) error {
	return x.read(ctx, off, n, func(b []byte) error {
		for i := range list {
			at := int64(i) * hashstream.BlockSize
			block := b[at:min(at+hashstream.BlockSize, n)]
			if hashstream.HashBlock(block) != list[i] {
				found.Add(off+at, int64(len(block)))
			}
		}
		return nil
	})
}

func (x *run) compareZeros(ctx context.Context, off, n int64, found *Ranges) error {
	return x.read(ctx, off, n, func(b []byte) error {
		for at := int64(0); at < n; {
			k := min(hashstream.BlockSize-(off+at)%hashstream.BlockSize, n-at)
			if !isZero(b[at : at+k]) {
				found.Add(off+at, k)
			}
			at += k
		}
		return nil
	})
}

// read reads a part of the target and hands it to look, which must not keep it.
func (x *run) read(ctx context.Context, off, n int64, look func([]byte) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	buffer := buffers.Get().(*[partBytes]byte)
	defer buffers.Put(buffer)
	if err := x.readTarget(buffer[:n], off); err != nil {
		return err
	}
	if err := look(buffer[:n]); err != nil {
		return err
	}
	x.progress(n)
	return nil
}

// readTarget reads what the target has, and will have when it has the disk's size.
func (x *run) readTarget(p []byte, off int64) error {
	have := p[:max(0, min(int64(len(p)), x.Target.Size()-off))]
	clear(p[len(have):])
	if len(have) == 0 {
		return nil
	}
	if _, err := x.Target.ReadAt(have, off); err != nil {
		return fmt.Errorf("read %s: %w", x.Target.Name(), err)
	}
	return nil
}

// targetExtents tells the target's zeros, and those behind its end.
func (x *run) targetExtents(off, n int64, yield func(off, n int64, zero bool) error) error {
	have := max(0, min(n, x.Target.Size()-off))
	if have > 0 {
		if err := x.Target.Extents(off, have, yield); err != nil {
			return err
		}
	}
	if have == n {
		return nil
	}
	return yield(off+have, n-have, true)
}

func isZero(b []byte) bool {
	for len(b) > 0 {
		k := min(len(b), len(zeros))
		if !bytes.Equal(b[:k], zeros[:k]) {
			return false
		}
		b = b[k:]
	}
	return true
}
