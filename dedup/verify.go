package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/tier"
)

// errMissing is under the errors about a pack that should be there and is not.
// It counts as damage: it heals when the file comes back.
var errMissing = fmt.Errorf("the pack's file is missing from the tier; bring it back: %w: %w", ErrUnknownAddr, ErrDamaged)

// VerifyResult is what a verification of a pack found.
type VerifyResult struct {
	Bytes      int64  // read
	Blocks     int    // that have their hash
	Damaged    []Addr // those that have not, in order
	Whole      bool   // nothing at all is wrong with the pack, its tables and headers included
	Unreadable error  // why nothing of the pack can be looked at, else nil
}

// VerifyPack reads a pack whole and checks everything in it: headers, both
// tables of contents, the footer, and every block against its hash. What it
// finds is reported by events, remembered (damaged blocks are no dedup hits any
// more) and kept in the block index; when nothing is wrong, everything noted
// about the pack is cleared and the time kept. Of a pack that is still open the
// frames written so far are checked, and no time is kept.
//
// The error is for a pack that the store does not have, a closed store and an
// ended context; then nothing is noted. l is the budget of bytes read, or nil.
func (s *Store) VerifyPack(ctx context.Context, pack uint64, l *rate.Limiter) (VerifyResult, error) {
	for {
		if s.closed.Load() {
			return VerifyResult{}, ErrClosed
		}
		if p := s.open.get(pack); p != nil {
			return s.verifyOpen(ctx, p, l)
		}
		gen, ok := s.packs.gen(pack)
		switch {
		case !ok && s.health.isMissing(pack):
			return VerifyResult{Unreadable: fmt.Errorf("pack %d: %w", pack, errMissing)}, nil
		case !ok:
			return VerifyResult{}, fmt.Errorf("pack %d: %w", pack, ErrUnknownAddr)
		}
		e, err := s.examine(ctx, tier.ID{Pack: pack, Gen: gen}, l)
		if err != nil {
			return VerifyResult{}, fmt.Errorf("verify %v: %w", e.id, err)
		}
		if now, ok := s.packs.gen(pack); ok && now == gen {
			return s.verified(&e), nil
		} // else it was written anew meanwhile
	}
}

// verifyOpen checks what an open pack holds by now.
func (s *Store) verifyOpen(ctx context.Context, p *openPack, l *rate.Limiter) (VerifyResult, error) {
	f, err := s.packFile(p.id)
	if err != nil {
		return VerifyResult{Unreadable: err}, nil
	}
	defer f.release()
	e := examined{id: p.id, toc: p.view.Load()}
	for slot := range p.syncedSlots() {
		if e.toc.lossy && e.toc.find(uint16(slot)) < 0 {
			e.damaged = append(e.damaged, lostSlot(p.id, uint16(slot)))
		}
	}
	if err := e.frames(ctx, s, f.value, l); err != nil {
		return VerifyResult{}, fmt.Errorf("verify %v: %w", p.id, err)
	}
	return s.report(&e), nil
}

// report tells of what was found and counts it.
func (s *Store) report(e *examined) VerifyResult {
	s.count.verified.Add(1)
	s.count.verifiedBytes.Add(uint64(e.bytes))
	res := VerifyResult{Bytes: e.bytes, Blocks: e.blocks, Whole: e.whole(), Unreadable: e.unreadable}
	for _, d := range e.structure {
		s.damage(d)
	}
	for _, d := range e.damaged {
		s.damage(d)
		res.Damaged = append(res.Damaged, MakeAddr(d.Pack, uint16(d.Slot)))
	}
	slices.Sort(res.Damaged)
	return res
}

// verified notes the outcome about a sealed pack.
func (s *Store) verified(e *examined) VerifyResult {
	before := s.health.record(e.id.Pack)
	e.damaged = append(e.damaged, s.unfound(e)...)
	res := s.report(e)
	known := damageRecord{unreadable: e.unreadable != nil, structure: len(e.structure) > 0, slots: e.damagedSlots()}
	pack := e.id.Pack
	if e.unreadable != nil {
		s.damage(damagedPack(pack, e.id.Gen, 0, "the pack cannot be looked at: %v", e.unreadable))
		known.slots = s.health.record(pack).slots // neither better nor worse than before
	}
	s.health.put(pack, known)
	s.saveHealth(pack)
	if res.Whole {
		s.saveVerified(pack)
	}
	if !before.empty() || !known.empty() {
		// What a crash makes forgotten would be dedup hits again.
		if err := s.index.flushed(); err != nil && !errors.Is(err, ErrClosed) {
			s.indexError(err)
		}
	}
	return res
}

func (s *Store) saveVerified(pack uint64) {
	if err := s.index.set(packKey('v', pack), appendVerified(nil, s.opts.Clock())); err != nil && !errors.Is(err, ErrClosed) {
		s.indexError(fmt.Errorf("note the verification of pack %d: %w", pack, err))
	}
}

// unfound lists the slots that the index knows and a pack without a table of
// contents does not show any more.
func (s *Store) unfound(e *examined) (lost []*DamageError) {
	if e.toc == nil || !e.toc.lossy {
		return nil
	}
	r, err := s.index.pack(e.id.Pack)
	if err != nil || r.gen != e.id.Gen {
		return nil
	}
	for slot := range uint16(r.next) {
		if r.has(slot) && e.toc.find(slot) < 0 {
			lost = append(lost, lostSlot(e.id, slot))
		}
	}
	return lost
}

func lostSlot(id tier.ID, slot uint16) *DamageError {
	d := damagedPack(id.Pack, id.Gen, 0, "the frame and every record of this slot are damaged")
	d.Slot = int(slot)
	return d
}
