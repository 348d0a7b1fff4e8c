package catalog

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// chunkCache keeps recently used chunk records up to a number of bytes.
type chunkCache struct {
	limit        int64
	hits, misses atomic.Uint64

	mu      sync.Mutex
	entries map[ChunkNo]*list.Element
	order   list.List // of cached; most recently used first
	bytes   int64
}

type cached struct {
	no    ChunkNo
	chunk *Chunk
}

func newChunkCache(limit int64) *chunkCache {
	return &chunkCache{limit: limit, entries: map[ChunkNo]*list.Element{}}
}

// cost is about what an entry takes: the runs, and the record, list element
// and map entry around them.
func cost(c *Chunk) int64 { return int64(len(c.Runs))*16 + 256 }

func (c *chunkCache) get(n ChunkNo) *Chunk {
	c.mu.Lock()
	e := c.entries[n]
	if e == nil {
		c.mu.Unlock()
		c.misses.Add(1)
		return nil
	}
	c.order.MoveToFront(e)
	chunk := e.Value.(cached).chunk
	c.mu.Unlock()
	c.hits.Add(1)
	return chunk
}

func (c *chunkCache) put(n ChunkNo, chunk *Chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[n] != nil {
		return
	}
	c.entries[n] = c.order.PushFront(cached{n, chunk})
	c.bytes += cost(chunk)
	for c.bytes > c.limit {
		last := c.order.Back()
		old := c.order.Remove(last).(cached)
		delete(c.entries, old.no)
		c.bytes -= cost(old.chunk)
	}
}

// drop forgets chunks that died.
func (c *chunkCache) drop(run chunkRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for no := run.first; no < run.first+ChunkNo(run.count); no++ {
		if e := c.entries[no]; e != nil {
			c.bytes -= cost(c.order.Remove(e).(cached).chunk)
			delete(c.entries, no)
		}
	}
}

func (c *chunkCache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
