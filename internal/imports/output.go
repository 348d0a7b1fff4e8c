package imports

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// output writes to the disks of a backup, much at once, and in no order: every
// byte is written once.
type output struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	pool     *pool
	disks    []Disk
	left     []atomic.Int64 // bytes of each disk
	progress func(n int64)
	buffers  chan []byte // writesMax of unitSize; each is leave to do one thing
	done     sync.WaitGroup
}

// Copy writes all disks, which dial opens by their number when they are needed,
// several times perhaps, one connection for a disk at a time. When it returns,
// nothing is under way any more and all connections are closed; what was written
// is answered, but perhaps not durable. After an error the disks hold anything.
// progress, if any, is told by many at once of bytes of the disks that are done.
func (s *Source) Copy(ctx context.Context, dial Dial, progress func(n int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	o := &output{pool: newPool(dial), disks: s.Disks, progress: progress, buffers: make(chan []byte, writesMax)}
	o.left = make([]atomic.Int64, len(s.Disks))
	for i, d := range s.Disks {
		o.left[i].Store(d.Size)
	}
	o.ctx, o.cancel = context.WithCancelCause(ctx)
	defer o.cancel(nil)
	if s.stream != nil {
		defer context.AfterFunc(o.ctx, func() { s.stream.CloseWithError(context.Cause(o.ctx)) })()
	}
	for range writesMax {
		o.buffers <- nil
	}
	err := s.copy(o)
	if err != nil {
		o.cancel(err)
	}
	o.done.Wait()
	if err := s.unchanged(); err != nil {
		o.cancel(err)
	}
	o.pool.close()
	return context.Cause(o.ctx) // the first error
}

// buffer waits for a buffer of unitSize bytes, which start or put gives back.
func (o *output) buffer() ([]byte, error) {
	b, err := o.slot()
	if err == nil && b == nil {
		b = make([]byte, unitSize)
	}
	return b, err
}

func (o *output) slot() ([]byte, error) {
	if o.ctx.Err() != nil {
		return nil, context.Cause(o.ctx)
	}
	select {
	case b := <-o.buffers:
		return b, nil
	case <-o.ctx.Done():
		return nil, context.Cause(o.ctx)
	}
}

func (o *output) put(b []byte) { o.buffers <- b }

// start does something with n bytes of a disk on a goroutine of its own, and
// takes the buffer back afterwards.
func (o *output) start(b []byte, disk int, n int64, do func() error) {
	o.done.Go(func() {
		defer o.put(b)
		if err := do(); err != nil {
			o.cancel(fmt.Errorf("disk %s: %w", o.disks[disk].Name, err))
			return
		}
		if o.left[disk].Add(-n) == 0 {
			o.pool.finish(disk)
		}
		o.progress(n)
	})
}

// zero makes a range zeros.
func (o *output) zero(disk int, off, n int64) error {
	b, err := o.slot()
	if err != nil {
		return err
	}
	o.start(b, disk, n, func() error {
		return o.pool.with(o.ctx, disk, func(d Device) error { return d.Zero(off, n) })
	})
	return nil
}

// write writes p, and waits for it.
func (o *output) write(disk int, off int64, p []byte) error {
	return o.pool.with(o.ctx, disk, func(d Device) error {
		_, err := d.WriteAt(p, off)
		return err
	})
}

var zeros [blockSize]byte

// store writes p, its blocks of zeros as zeros, and waits for it.
func (o *output) store(disk int, off int64, p []byte) error {
	return o.pool.with(o.ctx, disk, func(d Device) error {
		for len(p) > 0 {
			n, zero := run(p)
			var err error
			if zero {
				err = d.Zero(off, int64(n))
			} else {
				_, err = d.WriteAt(p[:n], off)
			}
			if err != nil {
				return err
			}
			p, off = p[n:], off+int64(n)
		}
		return nil
	})
}

// run is how many bytes of p are blocks of zeros, or are not.
func run(p []byte) (n int, zero bool) {
	for n < len(p) {
		block := p[n:min(n+blockSize, len(p))]
		z := bytes.Equal(block, zeros[:len(block)])
		if n > 0 && z != zero {
			break
		}
		zero = z
		n += len(block)
	}
	return n, zero
}
