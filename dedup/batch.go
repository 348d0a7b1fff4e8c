package dedup

// batch is the work on up to batchBlocks blocks of one Put, with every buffer
// that takes.
type batch struct {
	s     *Store
	w     *Writer
	data  []byte
	hints []Addr
	out   []Addr
	res   PutResult

	hash  [batchBlocks]Hash
	claim *claim // of this round, nil until something is claimed
	last  Addr   // where the block before was found
	view  view   // of the pack looked at last
	swaps uint64 // Store.swaps before view was fetched

	todo  []int             // blocks still without an address
	fresh []int             // claimed and in no index: to be stored
	twins []twin            // equal to a fresh block of the same batch
	waits []wait            // claimed by somebody else
	later bool              // frames are not compressed in this round
	buf   []byte            // frames, assembled
	raw   []byte            // blocks of a frame that are not neighbours in data
	parts []frame           // what is in buf
	seen  map[*openPack]int // open packs this batch depends on, by slots needed
}

type twin struct{ block, of int }

type wait struct {
	block int
	claim *claim
}

func newBatch(s *Store) *batch {
	return &batch{
		s: s, buf: make([]byte, 0, batchBlocks*(BlockSize+maxFrameHeader)), raw: make([]byte, 0, frameRaw),
		seen: make(map[*openPack]int),
	}
}

func (b *batch) begin(w *Writer, data []byte, out []Addr) {
	b.w, b.data, b.out, b.hints = w, data, out, nil
	b.res = PutResult{}
	b.last, b.view = 0, view{}
	b.todo, b.waits = b.todo[:0], b.waits[:0]
	clear(b.seen)
}

func (b *batch) block(i int) []byte { return b.data[i*BlockSize : (i+1)*BlockSize] }

// run gives every block an address.
//
// A block that somebody else is storing right now is waited for only after
// this batch has published its own, so that two batches that wait for each
// other's blocks both go on.
func (b *batch) run() error {
	for i := range b.out {
		if isZero(b.block(i)) {
			b.out[i] = 0
			b.res.Zero++
			continue
		}
		b.hash[i] = b.s.hash.blockHash(b.block(i))
		b.todo = append(b.todo, i)
	}
	for len(b.todo) > 0 {
		if err := b.round(); err != nil {
			return err
		}
		b.todo = b.todo[:0]
		for _, w := range b.waits {
			<-w.claim.done
			b.todo = append(b.todo, w.block)
		}
	}
	return b.depend()
}

// round tries to give each block of todo an address; those another batch has
// claimed are left in waits.
func (b *batch) round() error {
	b.fresh, b.twins, b.waits, b.claim = b.fresh[:0], b.twins[:0], b.waits[:0], nil
	defer b.endClaim()
	for _, i := range b.todo {
		b.find(i)
	}
	if len(b.fresh) == 0 {
		return nil
	}
	if err := b.store(); err != nil {
		return err
	}
	for _, t := range b.twins {
		b.out[t.block] = b.out[t.of]
		b.res.Recent++
	}
	return nil
}

// endClaim lets those go on that wait for this batch's blocks. Blocks that
// were not stored are free for others to claim.
func (b *batch) endClaim() {
	if b.claim == nil {
		return
	}
	for _, i := range b.fresh {
		b.s.recent.remove(b.hash[i], recentEntry{claim: b.claim})
	}
	close(b.claim.done)
}

// find looks for block i where it is cheapest to find first.
func (b *batch) find(i int) {
	if b.hints != nil && b.hints[i] != 0 && b.matches(i, b.hints[i]) {
		b.found(i, b.hints[i], &b.res.Hint)
		return
	}
	// What was stored together comes again together: the slot behind the block
	// before spares most look-ups in the index.
	if b.last != 0 && b.last.Slot() < MaxPackSlots && b.matches(i, b.last+1) {
		b.found(i, b.last+1, &b.res.Recent)
		return
	}
	if b.claim == nil {
		b.claim = &claim{done: make(chan struct{})}
	}
	b.findClaimed(i)
}

// findClaimed looks for block i in the table of recent blocks, and claims it
// there when nobody has it.
func (b *batch) findClaimed(i int) {
	for {
		e, fresh := b.s.recent.lookup(b.hash[i], b.claim)
		switch {
		case fresh:
			b.findIndexed(i)
			return
		case e.claim == b.claim:
			b.twins = append(b.twins, twin{block: i, of: b.firstWith(i)})
			return
		case e.claim != nil:
			b.waits = append(b.waits, wait{block: i, claim: e.claim})
			return
		case b.matches(i, e.addr):
			b.found(i, e.addr, &b.res.Recent)
			return
		}
		b.s.recent.remove(b.hash[i], e) // its pack was given up
	}
}

// firstWith returns the fresh block with the hash of block i.
func (b *batch) firstWith(i int) int {
	for _, j := range b.fresh {
		if b.hash[j] == b.hash[i] {
			return j
		}
	}
	panic("dedup: a claimed block is not among the fresh ones")
}

// findIndexed asks the index for block i, which this batch has claimed.
func (b *batch) findIndexed(i int) {
	addr, err := b.s.index.lookup(&b.hash[i])
	if err != nil {
		b.s.indexError(err)
	}
	if err != nil || addr == 0 || !b.matches(i, addr) {
		b.fresh = append(b.fresh, i)
		b.last = 0
		return
	}
	b.s.recent.remove(b.hash[i], recentEntry{claim: b.claim})
	b.found(i, addr, &b.res.Index)
}

func (b *batch) found(i int, addr Addr, source *int64) {
	b.out[i], b.last = addr, addr
	*source++
}

// matches reports whether the block at an address is there, may be relied on
// and is equal to block i by its full hash. It notes the dependency.
func (b *batch) matches(i int, addr Addr) bool {
	for {
		if !b.look(addr.Pack()) {
			return false
		}
		entry := b.view.find(addr.Slot())
		if entry < 0 || b.view.hashes[entry] != b.hash[i] || !b.view.trusts(entry) || b.s.health.has(addr) || b.s.frozen.has(addr.Pack()) {
			return false
		}
		if !b.s.hit(addr) {
			return false
		}
		if b.current() {
			break
		}
		b.view = view{}
	}
	if p := b.view.open; p != nil {
		b.seen[p] = max(b.seen[p], int(addr.Slot())+1)
	}
	return true
}

// look makes a pack's view the batch's.
func (b *batch) look(pack uint64) bool {
	if b.view.toc != nil && b.view.id.Pack == pack && b.view.open == nil {
		return true
	}
	b.swaps = b.s.swaps.Load() // before the view: a swap that comes between is noticed
	v, err := b.s.view(pack)
	if err != nil {
		b.view = view{}
		return false
	}
	b.view = v
	return true
}

// current reports whether no pack was swapped since the view was fetched.
func (b *batch) current() bool { return b.s.swaps.Load() == b.swaps }

// depend makes the writer depend on the open packs that hold this batch's
// blocks.
func (b *batch) depend() error {
	for p, n := range b.seen {
		b.w.need(p, uint16(n-1))
		if err := p.err(n); err != nil {
			b.w.mu.Lock()
			b.w.fail(err)
			b.w.mu.Unlock()
		}
	}
	return b.w.check()
}
