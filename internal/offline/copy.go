package offline

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// chunkBytes is what of the disk or file chunk index covers.
func (x *export) chunkBytes(index int) int64 {
	return min(dedup.ChunkSize, x.image.Size-int64(index)*dedup.ChunkSize)
}

// chunk reads the record of a chunk that is not zeros.
func (x *export) chunk(index int) (*catalog.Chunk, error) {
	c, err := x.s.cat.Chunk(x.chunks[index])
	if err == nil && int64(c.Length) != x.chunkBytes(index) {
		err = fmt.Errorf("chunk %d of %s at point %s covers %d bytes, want %d: the metadata log does not fit together: %w",
			index, partName(x.image.Disk), x.point.ID, c.Length, x.chunkBytes(index), catalog.ErrCorrupt)
	}
	return c, err
}

// extents are the parts of the disk that have blocks.
func (x *export) extents() (list []qcow2.Extent, err error) {
	for i, no := range x.chunks {
		if no == 0 {
			continue
		}
		c, err := x.chunk(i)
		if err != nil {
			return nil, err
		}
		for _, r := range c.Runs {
			off := int64(i)*dedup.ChunkSize + int64(r.Start)*dedup.BlockSize
			n := min(int64(r.Count)*dedup.BlockSize, x.image.Size-off)
			if last := len(list) - 1; last >= 0 && list[last].Offset+list[last].Length == off {
				list[last].Length += n
				continue
			}
			list = append(list, qcow2.Extent{Offset: off, Length: n})
		}
	}
	return list, nil
}

// piece is a few blocks that follow each other on the disk.
type piece struct {
	off    int64
	bytes  int64 // of the disk; the last block of one may be short
	addrs  []dedup.Addr
	data   *[pieceBlocks * dedup.BlockSize]byte
	damage []Damage
	done   chan struct{}
}

var pieceBuffers = sync.Pool{New: func() any { return new([pieceBlocks * dedup.BlockSize]byte) }}

// copy reads the disk's blocks, several pieces at once, and writes them in
// order.
func (x *export) copy(ctx context.Context, t target) error {
	g, ctx := errgroup.WithContext(ctx)
	todo, order := make(chan *piece), make(chan *piece, piecesAhead)
	g.Go(func() error {
		defer close(todo)
		defer close(order)
		return x.eachPiece(func(p *piece) error {
			for _, c := range []chan *piece{order, todo} {
				select {
				case c <- p:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for p := range todo {
				x.read(p)
				close(p.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for p := range order {
			select {
			case <-p.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := x.write(t, p); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// eachPiece yields the whole disk, and checks the hashes on the way.
func (x *export) eachPiece(yield func(*piece) error) error {
	hashes := make([]dedup.Hash, len(x.chunks))
	for i, no := range x.chunks {
		if no == 0 {
			continue
		}
		c, err := x.chunk(i)
		if err != nil {
			return err
		}
		hashes[i] = c.Hash
		var addrs [dedup.ChunkBlocks]dedup.Addr
		for _, r := range c.Runs {
			for j := range r.Count {
				addrs[r.Start+j] = r.Addr + dedup.Addr(j)
			}
		}
		wrong := !x.o.NoVerify && !x.isWhole(c, addrs[:])
		if err := x.chunkPieces(i, c, &addrs, wrong, yield); err != nil {
			return err
		}
	}
	if x.o.NoVerify || x.s.blocks.RootHash(x.image.Size, hashes) == x.image.Root {
		return nil
	}
	return fmt.Errorf("%s of VM %s at point %s: its chunks do not have the image's root hash: the metadata log does not fit together: %w",
		partName(x.image.Disk), x.point.VM, x.point.ID, catalog.ErrCorrupt)
}

// isWhole reports whether the blocks at addrs make the chunk. Where their hashes
// cannot be had, reading them tells more.
func (x *export) isWhole(c *catalog.Chunk, addrs []dedup.Addr) bool {
	blocks := (int64(c.Length) + dedup.BlockSize - 1) / dedup.BlockSize
	hashes := make([]dedup.Hash, blocks)
	if err := x.s.blocks.Hashes(addrs[:blocks], hashes); err != nil {
		return true
	}
	return x.s.blocks.ChunkHash(int64(c.Length), hashes) == c.Hash
}

// chunkPieces yields a chunk's blocks; of a chunk that is wrong, damage.
func (x *export) chunkPieces(index int, c *catalog.Chunk, addrs *[dedup.ChunkBlocks]dedup.Addr, wrong bool, yield func(*piece) error) error {
	start := int64(index) * dedup.ChunkSize
	if wrong {
		p := &piece{off: start, done: make(chan struct{})}
		p.damage = []Damage{{Offset: start, Length: int64(c.Length), Reason: fmt.Sprintf("the blocks of chunk record %d do not make its hash", x.chunks[index])}}
		return yield(p)
	}
	for b := 0; b < len(addrs); {
		n := 0
		for n < pieceBlocks && b+n < len(addrs) && addrs[b+n] != 0 {
			n++
		}
		if n == 0 {
			b++
			continue
		}
		off := start + int64(b)*dedup.BlockSize
		p := &piece{off: off, bytes: min(int64(n)*dedup.BlockSize, x.image.Size-off), addrs: addrs[b : b+n], done: make(chan struct{})}
		if err := yield(p); err != nil {
			return err
		}
		b += n
	}
	return nil
}

// read fills a piece; what cannot be read becomes zeros and damage.
func (x *export) read(p *piece) {
	if len(p.addrs) == 0 {
		return
	}
	p.data = pieceBuffers.Get().(*[pieceBlocks * dedup.BlockSize]byte)
	if x.s.blocks.Read(p.addrs, p.data[:len(p.addrs)*dedup.BlockSize]) == nil {
		return
	}
	for i, a := range p.addrs {
		block := p.data[i*dedup.BlockSize:][:dedup.BlockSize]
		if err := x.s.blocks.Read([]dedup.Addr{a}, block); err != nil {
			clear(block)
			off := p.off + int64(i)*dedup.BlockSize
			p.damage = append(p.damage, Damage{Offset: off, Length: min(dedup.BlockSize, x.image.Size-off), Block: a,
				Reason: fmt.Sprintf("block %v: %v", a, err)})
		}
	}
}

func (x *export) write(t target, p *piece) error {
	if p.data != nil {
		defer pieceBuffers.Put(p.data)
	}
	if err := x.damaged(p.damage...); err != nil || p.bytes == 0 {
		return err
	}
	if err := t.write(p.data[:p.bytes], p.off); err != nil {
		return fmt.Errorf("write %s: %w", partName(x.image.Disk), err)
	}
	if x.o.Progress != nil {
		x.o.Progress(p.bytes)
	}
	return nil
}
