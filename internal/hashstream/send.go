package hashstream

import (
	"context"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// partBlocks is what is read and hashed at once: 1 MiB, four frames of the store.
	partBlocks = 16
	// ahead is how many parts are read at once, and wait for their turn: 8 MiB.
	ahead = 8
	// windowBytes is how much of the disk is asked for its zeros at once: a chunk
	// of the store, whose record is in memory then.
	windowBytes = 64 << 20
)

// Source is a disk. Both methods are called concurrently.
type Source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	// Extents tells which parts of a range are zeros.
	Extents(off, n int64, yield func(length int64, zero bool) bool) error
}

// part is neighbouring blocks whose hashes are being made.
type part struct {
	zeros int64 // blocks; else there are hashes
	list  [partBlocks]Hash
	n     int
	err   error
	done  chan struct{} // nil for zeros
}

// Send writes the stream of a disk. It reads parts of 1 MiB in parallel, at most
// 8 of them, and none that is zeros. An error of the source is told to the reader
// with what fail makes of it, and returned; so is one of w.
func Send(ctx context.Context, w io.Writer, src Source, fail func(error) FailureError) error {
	out, err := NewWriter(w, src.Size())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	parts := make(chan *part, ahead)
	g.Go(func() error {
		defer close(parts)
		return walk(ctx, src, parts)
	})
	g.Go(func() error {
		for p := range parts {
			if err := p.write(out); err != nil {
				return err
			}
		}
		return nil
	})
	err = g.Wait()
	switch {
	case out.err != nil:
		return out.err
	case err == nil:
		return out.End()
	}
	if untold := out.Fail(fail(err)); untold != nil {
		return fmt.Errorf("%w (and the reader was not told: %v)", err, untold)
	}
	return err
}

// write waits for a part's hashes and writes them.
func (p *part) write(out *Writer) error {
	if p.done == nil {
		return out.Zeros(p.zeros)
	}
	<-p.done
	if p.err != nil {
		return p.err
	}
	return out.Hashes(p.list[:p.n])
}

// walk sends the parts of the disk in order, each while its hashes are made.
func walk(ctx context.Context, src Source, parts chan<- *part) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	for off := int64(0); off < src.Size(); off += windowBytes {
		n := min(windowBytes, src.Size()-off)
		data, err := dataBlocks(src, off, n)
		if err != nil {
			return err
		}
		for i := 0; i < len(data); {
			end := i + 1
			for end < len(data) && data[end] == data[i] && (!data[i] || end-i < partBlocks) {
				end++
			}
			p := &part{zeros: int64(end - i)}
			if data[i] {
				p.done = make(chan struct{})
			}
			select {
			case parts <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
			if from, to := off+int64(i)*BlockSize, min(off+int64(end)*BlockSize, src.Size()); data[i] {
				workers.Go(func() { p.hash(src, from, to) })
			}
			i = end
		}
	}
	return nil
}

// dataBlocks tells of each block of a range whether it holds data.
func dataBlocks(src Source, off, n int64) ([]bool, error) {
	data := make([]bool, Blocks(n))
	at := int64(0)
	err := src.Extents(off, n, func(length int64, zero bool) bool {
		length = min(length, n-at)
		if length <= 0 {
			return false
		}
		for i := at / BlockSize; !zero && i*BlockSize < at+length; i++ {
			data[i] = true
		}
		at += length
		return true
	})
	if err == nil && at != n {
		err = fmt.Errorf("the zeros of %d bytes at %d were asked for, and %d told", n, off, at)
	}
	return data, err
}

var buffers = sync.Pool{New: func() any { return new([partBlocks * BlockSize]byte) }}

func (p *part) hash(src Source, from, to int64) {
	defer close(p.done)
	buffer := buffers.Get().(*[partBlocks * BlockSize]byte)
	defer buffers.Put(buffer)
	b := buffer[:to-from]
	if _, p.err = src.ReadAt(b, from); p.err != nil {
		return
	}
	for len(b) > 0 {
		n := min(len(b), BlockSize)
		p.list[p.n] = HashBlock(b[:n])
		p.n, b = p.n+1, b[n:]
	}
}
