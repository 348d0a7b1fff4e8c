package restore

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// sinceContext begins the name of the NBD context that tells what changed since a
// point.
const sinceContext = "qemu:dirty-bitmap:since-"

// Layer is one point of a chain.
type Layer struct {
	Point  string // id
	Target nbdclient.Target
	Size   int64 // of the disk at that point, bytes
}

// Chain is a restore of a disk as a chain of qcow2 files, one for each layer, of
// which each is the backing file of the next.
type Chain struct {
	Layers []Layer // the full one first; disks do not shrink
	Dir    string
	Force  bool // replace files
	Verify bool
	Events Events
}

// ChainResult is what was restored.
type ChainResult struct {
	Data   int64 // bytes read from the server
	Files  []string
	Layers []LayerHash
	Hash   DiskHash // of the last layer's disk
}

// LayerName is the name of a chain's file; the SFTP restore tree has the same.
func LayerName(number int, point string) string { return fmt.Sprintf("%02d-%s.qcow2", number, point) }

// Check finds what would fail late.
func (c Chain) Check() error {
	if st, err := os.Stat(c.Dir); err == nil && !st.IsDir() {
		return fmt.Errorf("%s is not a directory", c.Dir)
	}
	for k, l := range c.Layers {
		if k > 0 && l.Size < c.Layers[k-1].Size {
			return fmt.Errorf("the disk shrank from %d to %d bytes at point %s: that cannot be a chain", c.Layers[k-1].Size, l.Size, l.Point)
		}
		if err := CheckOutput(filepath.Join(c.Dir, LayerName(k, l.Point)), c.Force); err != nil {
			return err
		}
	}
	return nil
}

// Run writes the chain. When it returns nil all files are whole and synced, and
// open as the disk in QEMU; when it returns an error none has its name.
func (c Chain) Run(ctx context.Context) (ChainResult, error) {
	if err := c.Check(); err != nil {
		return ChainResult{}, err
	}
	r, err := c.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, classify(err)
}

func (c Chain) run(ctx context.Context) (r ChainResult, err error) {
	list, err := c.open(ctx)
	defer func() {
		for _, l := range list {
			l.conn.Close()
		}
	}()
	if err != nil {
		return r, err
	}
	layers := make([]chainLayer, len(list))
	for k, l := range list {
		layers[k] = l
	}
	if r.Data, err = chainData(layers); err != nil {
		return r, err
	}
	c.Events.begin(StepCopy, r.Data)
	s, err := newStage(c.Dir)
	if err != nil {
		return r, err
	}
	defer s.discard()
	if err := c.write(ctx, s, list, layers, &r); err != nil {
		return r, err
	}
	if c.Verify {
		if err := c.verify(ctx, s.tmp, r); err != nil {
			return r, err
		}
	}
	for k, l := range c.Layers {
		s.names = append(s.names, LayerName(k, l.Point))
		r.Files = append(r.Files, filepath.Join(c.Dir, LayerName(k, l.Point)))
	}
	return r, s.place(c.Force)
}

// write fills the files of the stage.
func (c Chain) write(ctx context.Context, s *stage, list []*remoteLayer, layers []chainLayer, r *ChainResult) error {
	outs := make([]*Output, len(list))
	defer func() {
		for _, o := range outs {
			if o != nil {
				o.Discard() // what is finished has another name
			}
		}
	}()
	for k, l := range list {
		var err error
		if outs[k], err = Create(filepath.Join(s.tmp, LayerName(k, c.Layers[k].Point)), false); err != nil {
			return err
		}
		if err := outs[k].Truncate(l.view.Size()); err != nil {
			return c.writing(k, err)
		}
	}
	h := newChainHasher(sizesOf(layers))
	err := scanChain(ctx, layers, h, c.Events.Progress, func(k int, p []byte, off int64) error {
		return c.writing(k, list[k].view.WriteAt(outs[k], p, off))
	})
	if err != nil {
		return err
	}
	for k, l := range list {
		if err := l.view.WriteMetadata(outs[k]); err != nil {
			return c.writing(k, err)
		}
		if err := outs[k].Finish(); err != nil {
			return c.writing(k, err)
		}
	}
	r.Layers, r.Hash = h.sums()
	return nil
}

func (c Chain) writing(k int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write %s: %w", filepath.Join(c.Dir, LayerName(k, c.Layers[k].Point)), err)
}

// open opens all exports and lays the files out.
func (c Chain) open(ctx context.Context) (list []*remoteLayer, err error) {
	backing, since := "", ""
	for k, l := range c.Layers {
		if k > 0 {
			since = sinceContext + c.Layers[k-1].Point
			l.Target.Contexts = []string{since}
		}
		conn, err := open(ctx, l.Target, l.Size)
		if err != nil {
			return list, err
		}
		x := &remoteLayer{conn: conn, since: since}
		list = append(list, x)
		x.view, err = qcow2.NewView(qcow2.ViewOptions{Size: l.Size, Backing: backing, Source: conn, Extents: x.extents})
		if err != nil {
			return list, fmt.Errorf("lay out the file of point %s: %w", l.Point, err)
		}
		backing = LayerName(k, l.Point)
	}
	return list, nil
}

// remoteLayer is a layer on the server, and its file as it will be.
type remoteLayer struct {
	conn  *nbdclient.Conn
	since string // context; of the first layer none
	view  *qcow2.View
}

func (l *remoteLayer) Size() int64 { return l.conn.Size() }

func (l *remoteLayer) ReadAt(p []byte, off int64) (int, error) { return l.conn.ReadAt(p, off) }

func (l *remoteLayer) Map(off, end int64, yield func(qcow2.Mapping) error) error {
	return l.view.Map(off, end, yield)
}

// extents tells what is in the layer's file.
func (l *remoteLayer) extents(yield func(off, n int64, kind qcow2.Kind) bool) error {
	if l.since == "" {
		return flatExtents(l.conn, yield)
	}
	for off := int64(0); off < l.Size(); off += contextWindow {
		err := l.window(off, min(contextWindow, l.Size()-off), yield)
		if err != nil {
			return ignoreStop(err)
		}
	}
	return nil
}

// window joins two contexts for a part of the disk.
func (l *remoteLayer) window(off, n int64, yield func(off, n int64, kind qcow2.Kind) bool) error {
	var changed []Range
	err := l.conn.Status(l.since, off, n, func(off, n int64, flags uint32) error {
		if flags&stateDirty != 0 {
			changed = append(changed, Range{off, n})
		}
		return nil
	})
	if err != nil || len(changed) == 0 {
		return err
	}
	return l.conn.Status(nbdclient.Allocation, off, n, func(off, n int64, flags uint32) error {
		kind := qcow2.Data
		if flags&stateZero != 0 {
			kind = qcow2.Zero
		}
		for end := off + n; len(changed) > 0 && changed[0].Offset < end; changed = changed[1:] {
			c := changed[0]
			from, to := max(c.Offset, off), min(c.Offset+c.Length, end)
			if from < to && !yield(from, to-from, kind) {
				return errStop
			}
			if c.Offset+c.Length > end {
				break
			}
		}
		return nil
	})
}

// Flags of the contexts.
const (
	stateDirty = 1 << 0 // of qemu:dirty-bitmap:…
	stateZero  = 1 << 1 // of base:allocation
)

// chainLayer is a layer of a chain: what its file has for itself, and the bytes
// of that. Map is called with multiples of a block; mappings are whole blocks.
type chainLayer interface {
	io.ReaderAt
	Size() int64 // of the disk
	Map(off, end int64, yield func(qcow2.Mapping) error) error
}

func sizesOf(layers []chainLayer) (list []int64) {
	for _, l := range layers {
		list = append(list, l.Size())
	}
	return list
}

// chainData sums up what scanChain reads.
func chainData(layers []chainLayer) (n int64, err error) {
	for _, l := range layers {
		size := l.Size()
		err := l.Map(0, (size+BlockSize-1)/BlockSize*BlockSize, func(m qcow2.Mapping) error {
			if m.Kind == qcow2.Data || m.Kind == qcow2.Compressed {
				n += min(m.Length, size-m.Offset)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// scanChain reads what each layer has for itself, chunk by chunk, and hashes it.
// data, which may be nil, is given it, by many at once.
func scanChain(ctx context.Context, layers []chainLayer, h *chainHasher, progress func(int64), data func(layer int, p []byte, off int64) error) error {
	end := layers[len(layers)-1].Size()
	return readParts(ctx, progress, func(yield func(part) error) error {
		for chunk := int64(0); chunk*ChunkSize < end; chunk++ {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			parts, zeros, err := chunkParts(layers, chunk, h, data)
			if err != nil {
				return err
			}
			h.begin(chunk, len(parts)+len(zeros))
			for _, z := range zeros {
				h.zero(z.layer, z.Offset, z.Length)
			}
			for _, p := range parts {
				if err := yield(p); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// layerRange is a part of a layer's disk.
type layerRange struct {
	layer int
	Range
}

// chunkParts says what is to be read of a chunk, and what is zeros.
func chunkParts(layers []chainLayer, chunk int64, h *chainHasher, data func(layer int, p []byte, off int64) error) (parts []part, zeros []layerRange, err error) {
	for k, l := range layers {
		done := func(p []byte, off int64) error {
			h.data(k, p, off)
			if data == nil {
				return nil
			}
			return data(k, p, off)
		}
		size := l.Size()
		from := chunk * ChunkSize
		to := min(from+ChunkSize, (size+BlockSize-1)/BlockSize*BlockSize)
		if from >= to {
			continue
		}
		err := l.Map(from, to, func(m qcow2.Mapping) error {
			n := min(m.Length, size-m.Offset)
			switch m.Kind {
			case qcow2.Data, qcow2.Compressed:
				return split(m.Offset, n, func(off, n int64) error {
					parts = append(parts, part{from: l, off: off, n: n, done: done})
					return nil
				})
			case qcow2.Zero:
				zeros = append(zeros, layerRange{k, Range{m.Offset, n}})
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return parts, zeros, nil
}
