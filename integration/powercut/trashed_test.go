package powercut

import (
	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// trashed reads an image that nobody gets to open: of a point in the trash,
// which must be whole so that it can be brought back.
type trashed struct {
	e     *engine
	size  int64
	addrs []dedup.Addr
}

func openTrashed(e *engine, p *catalog.Point, disk string) (*trashed, error) {
	x := &trashed{e: e}
	for _, im := range p.Images {
		if im.Disk == disk {
			x.size = im.Size
		}
	}
	if name, ok := catalog.IsFileKey(disk); ok {
		f, _ := p.File(name)
		x.size = f.Size
	}
	list, err := e.cat.ChunkList(p.ID, disk)
	if err != nil {
		return nil, err
	}
	x.addrs = make([]dedup.Addr, len(list)*dedup.ChunkBlocks)
	for i, no := range list {
		if no == 0 {
			continue
		}
		c, err := e.cat.Chunk(no)
		if err != nil {
			return nil, err
		}
		for _, r := range c.Runs {
			for j := range int(r.Count) {
				x.addrs[i*dedup.ChunkBlocks+int(r.Start)+j] = r.Addr + dedup.Addr(j)
			}
		}
	}
	return x, nil
}

func (x *trashed) Size() int64 { return x.size }

// ReadAt reads within one block, which is how the model reads.
func (x *trashed) ReadAt(p []byte, off int64) (int, error) {
	var b [dedup.BlockSize]byte
	if err := x.e.store.Read(x.addrs[off/dedup.BlockSize:][:1], b[:]); err != nil {
		return 0, err
	}
	return copy(p, b[off%dedup.BlockSize:]), nil
}

func (x *trashed) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	for end := off + n; off < end; {
		step := min(dedup.BlockSize, end-off)
		if !yield(step, x.addrs[off/dedup.BlockSize] == 0) {
			break
		}
		off += step
	}
	return nil
}
