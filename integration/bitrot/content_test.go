package bitrot

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"

	"github.com/strongroom-backup/strongroom/dedup"
)

type block [dedup.BlockSize]byte

// content is what a disk should hold; never changed, but replaced.
type content struct {
	size   int64
	blocks map[int64]*block // those that are not zero
}

func (c content) resized(size int64) content { return content{size: size, blocks: c.blocks} }

// written is c with p at off; nil p stands for n zeros.
func (c content) written(p []byte, off, n int64) content {
	out := content{size: c.size, blocks: maps.Clone(c.blocks)}
	if out.blocks == nil {
		out.blocks = map[int64]*block{}
	}
	for end := off + n; off < end; {
		i, in := off/dedup.BlockSize, off%dedup.BlockSize
		m := min(dedup.BlockSize-in, end-off)
		if p != nil || out.blocks[i] != nil {
			b := new(block)
			if old := out.blocks[i]; old != nil {
				*b = *old
			}
			if p != nil {
				copy(b[in:], p[:m])
				p = p[m:]
			} else {
				clear(b[in : in+m])
			}
			if out.blocks[i] = b; *b == (block{}) {
				delete(out.blocks, i)
			}
		}
		off += m
	}
	return out
}

func (c content) count() int64 { return (c.size + dedup.BlockSize - 1) / dedup.BlockSize }

// reader is what disks and images share.
type reader interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(off, n int64, yield func(length int64, zero bool) bool) error
}

// wrongBytes is the one thing that must never be.
type wrongBytes struct{ what string }

func (e *wrongBytes) Error() string { return "WRONG BYTES SERVED: " + e.what }

// check reads every block that has data, or should have, each alone. Blocks
// that cannot be read are counted in failed by their numbers; err is a
// wrongBytes, or that nothing can be read at all.
func (c content) check(r reader) (failed map[int64]error, err error) {
	if r.Size() != c.size {
		return nil, &wrongBytes{fmt.Sprintf("size %d, not %d", r.Size(), c.size)}
	}
	failed = map[int64]error{}
	look := maps.Clone(c.blocks)
	if look == nil {
		look = map[int64]*block{}
	}
	off := int64(0)
	if err := r.Extents(0, c.size, func(n int64, zero bool) bool {
		for i := off / dedup.BlockSize; !zero && i*dedup.BlockSize < off+n; i++ {
			look[i] = c.blocks[i]
		}
		off += n
		return true
	}); err != nil {
		return nil, err
	}
	got := make([]byte, dedup.BlockSize)
	for i, want := range look {
		if want == nil {
			want = new(block)
		}
		b := got[:min(dedup.BlockSize, c.size-i*dedup.BlockSize)]
		if _, err := r.ReadAt(b, i*dedup.BlockSize); err != nil {
			failed[i] = err
		} else if !bytes.Equal(b, want[:len(b)]) {
			return failed, &wrongBytes{fmt.Sprintf("block %d", i)}
		}
	}
	return failed, nil
}

// newBlock is random data; of kind 1 half can be compressed, of kind 2 most.
func newBlock(rng *rand.Rand, kind int) []byte {
	b := make([]byte, dedup.BlockSize)
	for i := range b {
		if kind == 0 || kind == 1 && i < len(b)/2 || i < 8 {
			b[i] = byte(rng.Uint32())
		} else {
			b[i] = byte(kind)
		}
	}
	return b
}
