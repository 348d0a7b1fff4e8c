package volume

import (
	"sync"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// base is a committed image as something to read through or to compare with.
// The zero base is an empty disk.
type base struct {
	size   int64
	chunks []catalog.ChunkNo
}

// number is the chunk record behind chunk index; 0 past the end.
func (b *base) number(index int64) catalog.ChunkNo {
	if index >= int64(len(b.chunks)) {
		return 0
	}
	return b.chunks[index]
}

var zeroAddrs addrs

// addrCache keeps chunk records expanded to one address per block, shared by
// every reader. Entries are read only.
type addrCache struct {
	load func(catalog.ChunkNo) (*catalog.Chunk, error)

	mu      sync.Mutex
	entries map[catalog.ChunkNo]*cacheEntry
	ring    []catalog.ChunkNo // clock order
	hand    int
}

type cacheEntry struct {
	addrs *addrs
	used  bool
}

func newAddrCache(load func(catalog.ChunkNo) (*catalog.Chunk, error)) *addrCache {
	return &addrCache{load: load, entries: map[catalog.ChunkNo]*cacheEntry{}}
}

// get returns the addresses of a chunk's blocks; the caller must not change them.
func (c *addrCache) get(no catalog.ChunkNo) (*addrs, error) {
	if no == 0 {
		return &zeroAddrs, nil
	}
	c.mu.Lock()
	e := c.entries[no]
	if e != nil {
		e.used = true
	}
	c.mu.Unlock()
	if e != nil {
		return e.addrs, nil
	}
	rec, err := c.load(no)
	if err != nil {
		return nil, err
	}
	a := new(addrs)
	for _, r := range rec.Runs {
		setRun(a[r.Start:int(r.Start)+int(r.Count)], r.Addr)
	}
	c.put(no, a)
	return a, nil
}

func (c *addrCache) put(no catalog.ChunkNo, a *addrs) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[no] != nil {
		return
	}
	c.entries[no] = &cacheEntry{addrs: a}
	if len(c.ring) < addrCacheChunks {
		c.ring = append(c.ring, no)
		return
	}
	for {
		old := c.ring[c.hand]
		if e := c.entries[old]; e.used {
			e.used = false
			c.hand = (c.hand + 1) % len(c.ring)
			continue
		}
		delete(c.entries, old)
		c.ring[c.hand] = no
		c.hand = (c.hand + 1) % len(c.ring)
		return
	}
}

// fill writes the base's addresses of blocks [block, block+len(dst)) into dst.
func (c *addrCache) fill(b *base, block int64, dst []dedup.Addr) error {
	for len(dst) > 0 {
		index, in := block/dedup.ChunkBlocks, block%dedup.ChunkBlocks
		n := min(int64(len(dst)), dedup.ChunkBlocks-in)
		a, err := c.get(b.number(index))
		if err != nil {
			return err
		}
		copy(dst[:n], a[in:])
		dst, block = dst[n:], block+n
	}
	return nil
}
