package restore

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// localLayer is a file of a chain.
type localLayer struct {
	file *localFile
	q    *qcow2.Reader
	disk int64
}

// openLayer opens a file of a chain; backing is the name its backing file must
// have, none for the first.
func openLayer(path string, size int64, backing string) (*localLayer, error) {
	f, err := openLocal(path)
	if err != nil {
		return nil, err
	}
	q, err := openQCOW2(f, size)
	if err == nil {
		err = checkLayer(q, backing)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &localLayer{file: f, q: q, disk: size}, nil
}

// checkLayer refuses what a restore does not write. Above all, no backing file is
// looked for but the layer below.
func checkLayer(q *qcow2.Reader, backing string) error {
	name, format := q.Backing()
	switch {
	case name != backing && backing == "":
		return fmt.Errorf("it has the backing file %q, but is the first of the chain", name)
	case name != backing:
		return fmt.Errorf("its backing file is %q, not %q", name, backing)
	case backing != "" && format != "qcow2":
		return fmt.Errorf("its backing file's format is %q, not qcow2", format)
	case q.ClusterSize() != BlockSize || q.Info().ExtendedL2:
		return fmt.Errorf("it was written anew: its clusters have %d bytes", q.ClusterSize())
	}
	return nil
}

func (l *localLayer) Size() int64 { return l.disk }

func (l *localLayer) ReadAt(p []byte, off int64) (int, error) { return l.q.ReadAt(p, off) }

// Map implements chainLayer. In a file that is cut off the last cluster may be
// there in part; it counts as data.
func (l *localLayer) Map(off, end int64, yield func(qcow2.Mapping) error) error {
	return l.q.MapRange(off, min(end, l.q.Size()), func(m qcow2.Mapping) error {
		stop := (m.Offset + m.Length + BlockSize - 1) / BlockSize * BlockSize
		m.Offset = (m.Offset + BlockSize - 1) / BlockSize * BlockSize
		if m.Length = stop - m.Offset; m.Length <= 0 {
			return nil
		}
		return yield(m)
	})
}

// hashChain reads a chain of ours.
func hashChain(ctx context.Context, layers []chainLayer, progress func(int64)) ([]LayerHash, DiskHash, error) {
	h := newChainHasher(sizesOf(layers))
	if err := scanChain(ctx, layers, h, progress, nil); err != nil {
		return nil, DiskHash{}, err
	}
	list, top := h.sums()
	return list, top, nil
}

// verify reads what was written to dir.
func (c Chain) verify(ctx context.Context, dir string, want ChainResult) error {
	var layers []chainLayer
	defer func() {
		for _, l := range layers {
			l.(*localLayer).file.Close()
		}
	}()
	backing := ""
	for k, x := range c.Layers {
		name := LayerName(k, x.Point)
		l, err := openLayer(filepath.Join(dir, name), x.Size, backing)
		if err != nil {
			return fmt.Errorf("read %s back: %w", filepath.Join(c.Dir, name), err)
		}
		layers = append(layers, l)
		backing = name
	}
	n, err := chainData(layers)
	if err != nil {
		return fmt.Errorf("read %s back: %w", c.Dir, err)
	}
	c.Events.begin(StepVerify, n)
	got, _, err := hashChain(ctx, layers, c.Events.Progress)
	if err != nil {
		return fmt.Errorf("read %s back: %w", c.Dir, err)
	}
	for k, x := range c.Layers {
		if ranges := compareLayers(got[k], want.Layers[k], x.Size, map[int64]bool{}); len(ranges) > 0 {
			return &MismatchError{Path: filepath.Join(c.Dir, LayerName(k, x.Point)), Ranges: ranges}
		}
	}
	return nil
}

// compareLayers tells where two layers differ: where what has changed is not the
// same. Chunks that are in told are left out, the others noted there.
func compareLayers(got, want LayerHash, size int64, told map[int64]bool) (list []Range) {
	add := func(chunk int64) {
		if told[chunk] {
			return
		}
		told[chunk] = true
		r := Range{chunk * ChunkSize, min(ChunkSize, size-chunk*ChunkSize)}
		if n := len(list); n > 0 && list[n-1].Offset+list[n-1].Length == r.Offset {
			list[n-1].Length += r.Length
			return
		}
		list = append(list, r)
	}
	a, b := got.Changed, want.Changed
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Chunk < b[0].Chunk:
			add(a[0].Chunk)
			a = a[1:]
		case len(a) == 0 || b[0].Chunk < a[0].Chunk:
			add(b[0].Chunk)
			b = b[1:]
		default:
			if a[0].Hash != b[0].Hash {
				add(a[0].Chunk)
			}
			a, b = a[1:], b[1:]
		}
	}
	return list
}
