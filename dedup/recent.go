package dedup

import "sync"

// recent knows every block of the open packs and every block somebody is about
// to store. A sealed pack's blocks leave it once the index has them.
type recent struct {
	shards [recentShards]recentShard
}

const recentShards = 64

type recentShard struct {
	mu sync.Mutex
	m  map[Hash]recentEntry
}

// recentEntry is an address, or the claim of whoever is storing the block.
type recentEntry struct {
	addr  Addr
	claim *claim
}

// claim is one batch's right to store some blocks. done is closed when the
// batch has published or given up every one of them.
type claim struct{ done chan struct{} }

func newRecent() *recent {
	r := new(recent)
	for i := range r.shards {
		r.shards[i].m = make(map[Hash]recentEntry)
	}
	return r
}

func (r *recent) shard(h Hash) *recentShard { return &r.shards[h[31]%recentShards] }

// lookup returns the entry of h; when there is none, mine becomes it and fresh
// is true.
func (r *recent) lookup(h Hash, mine *claim) (e recentEntry, fresh bool) {
	s := r.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.m[h]; ok {
		return e, false
	}
	e = recentEntry{claim: mine}
	s.m[h] = e
	return e, true
}

// address returns where a block of an open pack is, 0 when nobody has stored it.
func (r *recent) address(h Hash) Addr {
	s := r.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[h].addr
}

// publish sets the address of a block.
func (r *recent) publish(h Hash, addr Addr) {
	s := r.shard(h)
	s.mu.Lock()
	s.m[h] = recentEntry{addr: addr}
	s.mu.Unlock()
}

// remove deletes an entry if it is still the given one.
func (r *recent) remove(h Hash, e recentEntry) {
	s := r.shard(h)
	s.mu.Lock()
	if s.m[h] == e {
		delete(s.m, h)
	}
	s.mu.Unlock()
}

// removePack deletes the entries of a pack's slots from slot first on.
func (r *recent) removePack(pack uint64, t *toc, first int) {
	for i, s := range t.slots {
		if int(s.slot) >= first {
			r.remove(t.hashes[i], recentEntry{addr: MakeAddr(pack, s.slot)})
		}
	}
}

// len is the number of entries.
func (r *recent) len() (n int) {
	for i := range r.shards {
		r.shards[i].mu.Lock()
		n += len(r.shards[i].m)
		r.shards[i].mu.Unlock()
	}
	return n
}
