package dedup

import (
	"container/list"
	"sync"
)

// cache is a least-recently-used cache with a budget. Values are loaded once
// however many ask at the same time, and dropped only when nobody uses them.
type cache[K comparable, V any] struct {
	budget int64
	drop   func(V) // called once for every loaded value that leaves

	mu    sync.Mutex
	used  int64
	items map[K]*cached[K, V]
	order *list.List // of *cached, most recent first
}

type cached[K comparable, V any] struct {
	cache *cache[K, V]
	key   K
	once  sync.Once
	value V
	err   error

	// guarded by cache.mu
	refs int
	cost int64
	elem *list.Element // nil when it has left the cache
	full bool          // value was loaded
}

func newCache[K comparable, V any](budget int64, drop func(V)) *cache[K, V] {
	return &cache[K, V]{budget: budget, drop: drop, items: make(map[K]*cached[K, V]), order: list.New()}
}

// get returns the entry of k, loading it if need be. load returns the value
// and its cost. The caller must release the entry unless there is an error.
func (c *cache[K, V]) get(k K, load func() (V, int64, error)) (*cached[K, V], error) {
	e := c.hold(k)
	e.once.Do(func() {
		v, cost, err := load()
		e.value, e.err = v, err
		c.loaded(e, cost, err)
	})
	if e.err != nil {
		e.release()
		return nil, e.err
	}
	return e, nil
}

// has reports whether k is loaded or being loaded.
func (c *cache[K, V]) has(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.items[k]
	return ok
}

func (c *cache[K, V]) hold(k K) *cached[K, V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[k]
	if e == nil {
		e = &cached[K, V]{cache: c, key: k}
		e.elem = c.order.PushFront(e)
		c.items[k] = e
	} else {
		c.order.MoveToFront(e.elem)
	}
	e.refs++
	return e
}

func (c *cache[K, V]) loaded(e *cached[K, V], cost int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.remove(e)
		return
	}
	e.full, e.cost = true, cost
	if e.elem == nil { // forgotten while it was loaded
		return
	}
	c.used += cost
	for back := c.order.Back(); c.used > c.budget && back != nil; back = c.order.Back() {
		c.remove(back.Value.(*cached[K, V]))
	}
}

// remove takes e out of the cache; c.mu is held.
func (c *cache[K, V]) remove(e *cached[K, V]) {
	if e.elem == nil {
		return
	}
	c.order.Remove(e.elem)
	e.elem = nil
	delete(c.items, e.key)
	c.used -= e.cost
	if e.refs == 0 && e.full {
		c.drop(e.value)
	}
}

// release ends the use of an entry.
func (e *cached[K, V]) release() {
	c := e.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.refs--; e.refs == 0 && e.elem == nil && e.full {
		c.drop(e.value)
	}
}

// forget takes an entry out that turned out to be of no use.
func (e *cached[K, V]) forget() {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	e.cache.remove(e)
}

// forgetIf takes out every entry whose key is picked; what is in use is dropped
// when its last user lets go.
func (c *cache[K, V]) forgetIf(pick func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.items {
		if pick(k) {
			c.remove(e)
		}
	}
}

// leave takes the entry of k out unless somebody uses it, and reports whether
// nobody does.
func (c *cache[K, V]) leave(k K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[k]
	if e == nil {
		return true
	}
	if e.refs > 0 {
		return false
	}
	c.remove(e)
	return true
}

// clear empties the cache.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for back := c.order.Back(); back != nil; back = c.order.Back() {
		c.remove(back.Value.(*cached[K, V]))
	}
}

// bytes is the cost of what is cached.
func (c *cache[K, V]) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// entries is the number of cached values.
func (c *cache[K, V]) entries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items)
}
