package vma

import (
	"context"
	"fmt"
	"io"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// Source is a disk to be archived. ReadAt is called by many at once, for at most
// 1 MiB, and fills p or fails; Extents says what of the disk is zeros, in order
// and without gaps. *nbdclient.Conn is one.
type Source interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(yield func(nbdclient.Extent) error) error
}

// Write writes an archive of the sources, one for each device of the header by
// its ID, one device after the other and each in the order of the disk. Zeros
// that a source knows of are not read. Up to 32 MiB are read ahead. progress, if
// any, is told of bytes of the disks that are done, zeros included; they add up
// to the sizes of all. When Write fails, what was written is no archive.
func Write(ctx context.Context, w io.Writer, h Header, sources map[uint8]Source, progress func(n int64)) error {
	for _, d := range h.Devices {
		s := sources[d.ID]
		if s == nil {
			return fmt.Errorf("disk %s: nothing to read it from", d.Name)
		}
		if s.Size() != d.Size {
			return fmt.Errorf("disk %s has %d bytes, not %d", d.Name, s.Size(), d.Size)
		}
	}
	a, err := NewWriter(w, h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	p := &planner{ctx: ctx, pieces: make(chan *piece, readsBytes/readSize), buffers: make(chan []byte, readsBytes/readSize)}
	for range cap(p.buffers) {
		p.buffers <- nil
	}
	planned := make(chan struct{})
	go func() {
		defer close(planned)
		defer close(p.pieces)
		for _, d := range h.Devices {
			if err := p.plan(d, sources[d.ID]); err != nil {
				cancel(fmt.Errorf("disk %s: %w", d.Name, err))
				return
			}
		}
	}()
	err = p.write(a, progress)
	cancel(err)
	<-planned
	p.drain()
	if err == nil {
		err = a.Close()
	}
	return err
}

// piece is a part of a device, of whole clusters: zeros, or being read.
type piece struct {
	device Device
	first  uint32 // cluster
	count  int64
	data   []byte // nil: zeros
	read   chan error
}

// planner divides the sources into pieces, in order, and has them read.
type planner struct {
	ctx     context.Context
	pieces  chan *piece
	buffers chan []byte // of readSize, once they were used
}

// plan turns what the source tells into pieces. Holes of less than a read are
// read with what surrounds them: many small reads would cost more.
func (p *planner) plan(d Device, s Source) error {
	begin, next := int64(0), int64(0) // clusters: of data to be read, of what is not decided
	data := func(end int64, all bool) error {
		next = max(next, end)
		stop := next
		if !all {
			stop -= (next - begin) % (readSize / ClusterSize)
		}
		first := begin
		begin = stop
		return p.reads(d, s, first, stop)
	}
	err := s.Extents(func(e nbdclient.Extent) error {
		end := e.Offset + e.Length
		if !e.Zero {
			return data((end+ClusterSize-1)/ClusterSize, false)
		}
		// A cluster is zeros when all of it is: not those at the edges.
		first, stop := (e.Offset+ClusterSize-1)/ClusterSize, end/ClusterSize
		if end == d.Size {
			stop = d.clusters()
		}
		if stop-first < readSize/ClusterSize && end < d.Size {
			return data(stop, false)
		}
		if err := data(first, true); err != nil {
			return err
		}
		first, begin, next = next, max(next, stop), max(next, stop)
		return p.zeros(d, first, next)
	})
	if err == nil {
		err = data(next, true)
	}
	if err == nil && next != d.clusters() {
		err = fmt.Errorf("the source told of %d of %d clusters", next, d.clusters())
	}
	return err
}

func (p *planner) zeros(d Device, first, end int64) error {
	if first >= end {
		return nil
	}
	return p.put(&piece{device: d, first: uint32(first), count: end - first})
}

// reads begins to read the clusters from first to end.
func (p *planner) reads(d Device, s Source, first, end int64) error {
	for ; first < end; first += readSize / ClusterSize {
		var b []byte
		select {
		case b = <-p.buffers:
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
		if b == nil {
			b = make([]byte, readSize)
		}
		off := first * ClusterSize
		n := min(readSize, end*ClusterSize-off, d.Size-off)
		x := &piece{device: d, first: uint32(first), count: (n + ClusterSize - 1) / ClusterSize, data: b[:n], read: make(chan error, 1)}
		go func() {
			got, err := s.ReadAt(x.data, off)
			if got == len(x.data) {
				err = nil // an io.EOF that comes with the last byte
			} else if err == nil {
				err = io.ErrUnexpectedEOF
			}
			x.read <- err
		}()
		if err := p.put(x); err != nil {
			<-x.read
			return err
		}
	}
	return nil
}

func (p *planner) put(x *piece) error {
	select {
	case p.pieces <- x:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// write writes the pieces as they come.
func (p *planner) write(a *Writer, progress func(n int64)) error {
	for x := range p.pieces {
		if err := p.writePiece(a, x); err != nil {
			return fmt.Errorf("disk %s: %w", x.device.Name, err)
		}
		if progress != nil {
			off := int64(x.first) * ClusterSize
			progress(min(x.count*ClusterSize, x.device.Size-off))
		}
	}
	return context.Cause(p.ctx)
}

func (p *planner) writePiece(a *Writer, x *piece) error {
	if x.read != nil {
		if err := <-x.read; err != nil {
			return err
		}
	}
	rest := x.data
	for i := range x.count {
		if i%pageBits == 0 && p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		part := rest[:min(ClusterSize, len(rest))]
		if err := a.Cluster(x.device.ID, x.first+uint32(i), part); err != nil {
			return err
		}
		rest = rest[len(part):]
	}
	if x.data != nil {
		p.buffers <- x.data[:readSize]
	}
	return nil
}

// drain waits for reads that nobody wants any more: their buffers and sources are
// the caller's again.
func (p *planner) drain() {
	for x := range p.pieces {
		if x.read != nil {
			<-x.read
		}
	}
}
