package dedup

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// rewritePlan says how a pack is written anew.
type rewritePlan struct {
	wanted   func(slot uint16) bool      // which slots stay
	verbatim func(live, blocks int) bool // whether a frame is copied as it is
	lost     []uint16                    // slots nothing is known of but that they were there, ascending
	salvage  bool                        // keep the places of blocks no good copy of which is left
	limit    *rate.Limiter
	grace    time.Duration
	width    func() int // how many frames are compressed at a time, nil: one
}

// rewritten is what came of it.
type rewritten struct {
	moved    int64 // bytes written, also when it failed
	freed    int64 // bytes the old file has more than the new one
	repaired int   // blocks taken from another copy
	left     int   // blocks lost
	tried    int   // frames of before whose compression was tried now
}

// liveDamage is a live block without a good copy: its pack is left as it is, for
// the damaged file may be worth more than nothing.
type liveDamage struct{ err error }

func (e *liveDamage) Error() string { return e.err.Error() }
func (e *liveDamage) Unwrap() error { return e.err }

// worthCopying: a frame with at least three quarters of its blocks alive is
// copied, which costs a quarter of the space and saves compressing it.
func worthCopying(live, blocks int) bool { return 4*live >= 3*blocks }

// rewritePack writes the next generation of a pack and puts it in the place of
// the old one. The caller holds rewriting. After an error everything is as it
// was.
func (s *Store) rewritePack(ctx context.Context, pack uint64, p rewritePlan) (res rewritten, err error) {
	old, err := s.view(pack)
	if err != nil {
		return res, err
	}
	if old.open != nil || s.frozen.has(pack) {
		return res, fmt.Errorf("%v is in use", old.id)
	}
	if old.lossy && !p.salvage {
		return res, &liveDamage{err: damagedPack(pack, old.id.Gen, 0, "both tables of contents are damaged; repair the pack first")}
	}
	f, err := s.packFile(old.id)
	if err != nil {
		return res, err
	}
	defer f.release()
	size, err := f.value.Size()
	if err != nil {
		return res, err
	}
	w, err := s.newRewrite(ctx, old.id, p)
	if err != nil {
		return res, err
	}
	c := copier{s: s, w: w, p: p, old: old, r: newFrameReader(s, ctx, old.id, f.value, old.toc, nil)}
	if err = c.run(); err == nil {
		err = w.finish()
	}
	res = rewritten{moved: w.moved, freed: size - w.size, repaired: c.repaired, left: c.left, tried: c.tried}
	if err != nil {
		return res, withDiscard(err, w.discard())
	}
	s.swap(old, size, w, p)
	return res, nil
}

// withDiscard adds what went wrong while a file was taken back.
func withDiscard(err, discard error) error {
	if discard == nil {
		return err
	}
	return fmt.Errorf("%w (and its unfinished file cannot be removed: %w)", err, discard)
}

// swap makes a finished generation the pack's. From here on nobody is led to
// the old one; what was led there finds its file until the grace has passed.
func (s *Store) swap(old view, oldSize int64, w *rewrite, p rewritePlan) {
	pack := w.id.Pack
	gone := old.blocks(pack, func(slot uint16) bool { return !p.wanted(slot) })
	if err := s.index.replacePack(pack, w.id.Gen, &w.toc, w.size, gone); err != nil {
		s.indexError(err) // the next start sees the new generation and indexes it
	}
	s.later.set(pack, w.toc.laterBytes())
	s.sealedBytes.Add(w.size)
	s.packs.replace(w.id)
	s.swapped()
	s.forgetCached(old.id)
	s.settleHealth(w)
	s.graves.bury(old.id, oldSize, oldSize-w.size, p.grace)
}

// settleHealth notes what the read back of a new generation has shown.
func (s *Store) settleHealth(w *rewrite) {
	known := damageRecord{}
	for _, i := range w.toc.lost() {
		known.slots = append(known.slots, w.toc.slots[i].slot)
	}
	s.health.put(w.id.Pack, known)
	s.saveHealth(w.id.Pack)
	if known.empty() {
		s.saveVerified(w.id.Pack)
	}
}

// copier copies what stays of a pack.
type copier struct {
	s   *Store
	w   *rewrite
	p   rewritePlan
	old view
	r   *frameReader

	repaired, left, tried int
}

// run goes through the pack in order of slot, which is that of its frames.
func (c *copier) run() error {
	lost := c.p.lost
	t := c.old.toc
	for i := 0; i < len(t.slots); {
		n := 1
		for i+n < len(t.slots) && t.slots[i+n].frame == t.slots[i].frame && (t.slots[i].flags|t.slots[i+n].flags)&slotLost == 0 {
			n++
		}
		for len(lost) > 0 && lost[0] < t.slots[i].slot {
			if err := c.lose(lost[0], Hash{}); err != nil {
				return err
			}
			lost = lost[1:]
		}
		if err := c.frame(i, i+n); err != nil {
			return err
		}
		i += n
	}
	for _, slot := range lost {
		if err := c.lose(slot, Hash{}); err != nil {
			return err
		}
	}
	return nil
}

// frame copies the entries from ≤ i < to, which share a frame.
func (c *copier) frame(from, to int) error {
	var stay []int
	for i := from; i < to; i++ {
		if c.p.wanted(c.old.slots[i].slot) {
			stay = append(stay, i)
		}
	}
	if len(stay) == 0 {
		return nil
	}
	first := c.old.slots[from]
	if first.flags&slotLost == 0 && c.old.frames[first.frame].codec == codecLater {
		c.tried++ // whatever writes a pack anew makes good for what was not compressed
	} else if whole, err := c.sound(stay); err != nil {
		return err
	} else if frame := int(first.frame); whole && c.p.verbatim(len(stay), int(c.old.frames[frame].count)) {
		return c.w.copyFrame(c.old.toc, frame, c.r.head, c.r.payload, stay)
	}
	for _, i := range stay {
		if err := c.block(i); err != nil {
			return err
		}
	}
	return nil
}

// sound reports whether a frame is as it should be and the given blocks of it
// have their hashes.
func (c *copier) sound(entries []int) (bool, error) {
	for _, i := range entries {
		_, wrong, err := c.r.block(i)
		if err != nil || wrong != nil {
			return false, err
		}
		slot := c.old.slots[i]
		if c.r.headErr != nil || c.r.crcBad || c.r.head.slots[slot.pos] != slot.slot || c.r.head.hashes[slot.pos] != c.old.hashes[i] {
			return false, nil
		}
	}
	return true, nil
}

// block copies one block, from elsewhere if it is damaged here.
func (c *copier) block(i int) error {
	slot, hash := c.old.slots[i].slot, c.old.hashes[i]
	data, wrong, err := c.r.block(i)
	if err != nil {
		return err
	}
	if wrong == nil {
		return c.w.addBlock(slot, hash, data)
	}
	addr := MakeAddr(c.old.id.Pack, slot)
	other := make([]byte, BlockSize)
	if c.s.otherCopy(hash, addr, other) {
		c.repaired++
		return c.w.addBlock(slot, hash, other)
	}
	d := damagedPack(addr.Pack(), c.old.id.Gen, 0, "%v", wrong)
	d.Slot = int(slot)
	if !c.p.salvage {
		return &liveDamage{err: c.s.damage(d)}
	}
	return c.lose(slot, hash)
}

func (c *copier) lose(slot uint16, hash Hash) error {
	if !c.p.salvage {
		panic("dedup: a block is given up that must be kept")
	}
	c.left++
	return c.w.addLost(slot, hash)
}
