package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
	"github.com/strongroom-backup/strongroom/volume"
)

// importer makes the images of one session.
type importer struct {
	s        *Service
	vm       string
	session  string
	defaults volume.ImportDefaults
	progress func(done, total int64)

	added []string // disks the volume was asked for
	done  atomic.Int64
	total int64
}

// plan is a source that was looked at and can be imported.
type plan struct {
	*source
	file   *volume.File
	length int64         // of the file
	size   int64         // of the disk
	q      *qcow2.Reader // nil for raw
	ask    volume.DiskImport
}

// run imports all sources. After an error the caller drops what was added.
func (im *importer) run(ctx context.Context, list []source) error {
	plans := make([]*plan, len(list))
	for i := range list {
		p, err := im.look(ctx, &list[i])
		if err != nil {
			return im.wrap(&list[i], err)
		}
		plans[i] = p
		im.total += p.size
	}
	for _, p := range plans {
		start := time.Now()
		if err := im.take(ctx, p); err != nil {
			return im.wrap(p.source, err)
		}
		im.s.stats.Imports.Add(1)
		im.s.stats.ImportedBytes.Add(uint64(p.size))
		if e := im.s.o.Events.Imported; e != nil {
			e(im.session, im.vm, p.disk, p.source.file, p.size, time.Since(start))
		}
	}
	return nil
}

// wrap says which file and disk an error is about.
func (im *importer) wrap(s *source, err error) error {
	var malformed *qcow2.FormatError
	if errors.As(err, &malformed) || errors.Is(err, qcow2.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", volume.ErrBadRequest, err)
	}
	return fmt.Errorf("file %s, to be disk %s: %w", s.file, s.disk, err)
}

// look reads what a file is before anything is changed.
func (im *importer) look(ctx context.Context, s *source) (*plan, error) {
	x, ok := s.node.f.(*volume.File)
	if !ok {
		return nil, s.node.failure()
	}
	p := &plan{source: s, file: x, length: s.node.glance().Size}
	p.size = p.length
	if err := p.recognise(ctx); err != nil {
		return nil, err
	}
	l, err := im.s.lineage(im.vm, s.disk, im.defaults.Parent)
	if err != nil {
		return nil, err
	}
	mode := modeFull
	switch {
	case p.q != nil:
		p.size = p.q.Size()
		backing, _ := p.q.Backing()
		if mode, err = l.decide(s.mode, backing); err != nil {
			return nil, refuse("%w", err)
		}
		if mode == modeIncremental && l.parent == "" {
			return nil, refuse("there is no point of disk %s that an incremental image could inherit from; send a full one", s.disk)
		}
		if err := p.q.Check(); err != nil {
			return nil, err
		}
	case s.mode == modeIncremental:
		return nil, refuse("a raw image is always a full one; use mode full or auto, or send a qcow2 of the changes")
	}
	if p.size == 0 || p.size%512 != 0 {
		return nil, refuse("the disk has %d bytes; a disk has sectors of 512 bytes, one at least", p.size)
	}
	p.ask = l.diskImport(s, p.size, mode, &im.defaults)
	return p, nil
}

var qcow2Magic = [4]byte{'Q', 'F', 'I', 0xfb}

// recognise opens the file as what it is.
func (p *plan) recognise(ctx context.Context) error {
	if p.format == "" {
		var head [4]byte
		if _, err := p.file.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if head == qcow2Magic {
			return refuse("its name says raw, its first bytes say qcow2; name it %s.qcow2, or say its format in %s", p.disk, manifestName)
		}
		p.format = formatRaw
	}
	if p.format == formatRaw {
		return nil
	}
	q, err := qcow2.Open(whileWanted{ctx, p.file}, p.length)
	p.q = q
	return err
}

// whileWanted reads until somebody has cancelled: the tables of a large image
// take minutes.
type whileWanted struct {
	ctx context.Context
	io.ReaderAt
}

func (r whileWanted) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.ReaderAt.ReadAt(p, off)
}

// take makes the image of one disk.
func (im *importer) take(ctx context.Context, p *plan) error {
	d, err := im.s.o.Volumes.AddDisk(im.session, p.ask)
	if err != nil {
		return err
	}
	im.added = append(im.added, p.disk)
	defer d.Close()
	if p.q == nil {
		if err := d.CopyBlocks(p.file, 0, 0, p.size); err != nil {
			return err
		}
		im.report(p.size)
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	c := &copier{ctx: ctx, im: im, p: p, d: d, g: g, whole: p.ask.Mode == modeFull}
	err = p.q.Map(c.add)
	if err == nil {
		err = c.flush()
	}
	if e := g.Wait(); e != nil {
		return e // what stopped the rest
	}
	return err
}

func (im *importer) report(n int64) {
	done := im.done.Add(n)
	if im.progress != nil {
		im.progress(done, im.total)
	}
}

// copier turns a qcow2's map into a disk's content: whole blocks of data are
// taken over where they are, the rest is read and written.
type copier struct {
	ctx   context.Context
	im    *importer
	p     *plan
	d     *volume.Disk
	g     *errgroup.Group
	whole bool // what the file does not say is zero, so blocks may be written whole

	runs []run // to be read and written, within one importPiece window
}

type run struct{ off, n int64 }

// add takes the next mapping.
func (c *copier) add(m qcow2.Mapping) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	for m.Length > 0 {
		part := m
		part.Length = min(m.Length, piecesOf(m))
		if err := c.part(part); err != nil {
			return err
		}
		c.im.report(part.Length)
		m.Offset, m.Host, m.Length = m.Offset+part.Length, m.Host+part.Length, m.Length-part.Length
	}
	return nil
}

// piecesOf cuts a mapping where its treatment changes: whole blocks from a
// block's beginning, or the rest of a block.
func piecesOf(m qcow2.Mapping) int64 {
	if in := m.Offset % dedup.BlockSize; in != 0 {
		return dedup.BlockSize - in
	}
	if m.Kind == qcow2.Compressed {
		return m.Length
	}
	if n := m.Length &^ (dedup.BlockSize - 1); n > 0 {
		return n
	}
	return m.Length
}

func (c *copier) part(m qcow2.Mapping) error {
	blocks := m.Offset%dedup.BlockSize == 0 && m.Length%dedup.BlockSize == 0
	switch {
	case m.Kind == qcow2.Unallocated:
		return nil
	case m.Kind == qcow2.Zero:
		return c.d.Zero(m.Offset, m.Length)
	case m.Kind == qcow2.Data && blocks && m.Host%dedup.BlockSize == 0:
		n := min(m.Length, (c.p.length-m.Host)&^(dedup.BlockSize-1)) // the file's last cluster may be short
		if n > 0 {
			if err := c.d.CopyBlocks(c.p.file, m.Host, m.Offset, n); err != nil {
				return err
			}
		}
		if n = max(n, 0); n == m.Length {
			return nil
		}
		return c.write(m.Offset+n, m.Length-n)
	}
	return c.write(m.Offset, m.Length)
}

// write notes bytes to be read and written.
func (c *copier) write(off, n int64) error {
	if c.whole { // the rest of the blocks reads as zeros, which is what it is
		end := min(roundUp(off+n), c.p.size)
		off = off &^ (dedup.BlockSize - 1)
		n = end - off
	}
	for n > 0 {
		m := min(n, importPiece-off%importPiece)
		if len(c.runs) > 0 && (c.runs[0].off/importPiece != off/importPiece || len(c.runs) >= importPiece/512) {
			if err := c.flush(); err != nil {
				return err
			}
		}
		if last := len(c.runs) - 1; last >= 0 && off <= c.runs[last].off+c.runs[last].n {
			c.runs[last].n = max(c.runs[last].n, off+m-c.runs[last].off)
		} else {
			c.runs = append(c.runs, run{off, m})
		}
		off, n = off+m, n-m
	}
	return nil
}

func roundUp(n int64) int64 { return (n + dedup.BlockSize - 1) &^ (dedup.BlockSize - 1) }

var importBuffers = sync.Pool{New: func() any { return new([importPiece]byte) }}

// flush sends the noted runs on their way.
func (c *copier) flush() error {
	runs := c.runs
	c.runs = nil
	if len(runs) == 0 {
		return nil
	}
	c.g.Go(func() error {
		buf := importBuffers.Get().(*[importPiece]byte)
		defer importBuffers.Put(buf)
		for _, r := range runs {
			if err := c.ctx.Err(); err != nil {
				return context.Cause(c.ctx)
			}
			p := buf[:r.n]
			if _, err := c.p.q.ReadAt(p, r.off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if _, err := c.d.WriteAt(p, r.off); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}
