package dedup

import (
	"context"
	"fmt"
)

// RepairResult counts blocks.
type RepairResult struct {
	Repaired int // replaced by another copy of the same content
	Left     int // without a good copy, so still damaged
}

// RepairPack writes a pack anew with every slot it has: damaged blocks are
// replaced by other copies of the same content, which later backups have
// stored; those without one keep their places and stay damaged. Damaged headers
// and tables are made good too. When there is nothing to gain the pack is left
// alone. It runs beside everything else; the old file goes when nobody reads it.
//
// A pack that is open, missing or cannot be read at all is an error.
func (s *Store) RepairPack(ctx context.Context, pack uint64) (RepairResult, error) {
	if s.closed.Load() {
		return RepairResult{}, ErrClosed
	}
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	v, err := s.view(pack)
	if err != nil {
		return RepairResult{}, fmt.Errorf("repair pack %d: %w", pack, err)
	}
	if v.open != nil {
		return RepairResult{}, fmt.Errorf("repair %v: it is open; it can be repaired once it is full, or after a restart", v.id)
	}
	e, err := s.examine(ctx, v.id, nil)
	if err == nil {
		err = e.unreadable
	}
	if err != nil {
		return RepairResult{}, fmt.Errorf("repair %v: %w", v.id, err)
	}
	s.verified(&e)
	plan := rewritePlan{
		wanted: func(uint16) bool { return true }, verbatim: func(int, int) bool { return true }, salvage: true,
	}
	for _, d := range s.unfound(&e) {
		plan.lost = append(plan.lost, uint16(d.Slot))
	}
	if !s.repairable(&e) {
		return RepairResult{Left: len(e.damaged)}, nil
	}
	res, err := s.rewritePack(ctx, pack, plan)
	if err != nil {
		return RepairResult{}, fmt.Errorf("repair %v: %w", v.id, err)
	}
	s.count.repairedPacks.Add(1)
	s.count.repairedBlocks.Add(uint64(res.repaired))
	if _, err := s.reap(false); err != nil {
		return RepairResult{Repaired: res.repaired, Left: res.left}, err
	}
	return RepairResult{Repaired: res.repaired, Left: res.left}, nil
}

// repairable reports whether writing the pack anew makes anything better.
func (s *Store) repairable(e *examined) bool {
	if len(e.structure) > 0 {
		return true
	}
	b := make([]byte, BlockSize)
	for _, d := range e.damaged {
		i := e.toc.find(uint16(d.Slot))
		if i >= 0 && s.otherCopy(e.toc.hashes[i], MakeAddr(d.Pack, uint16(d.Slot)), b) {
			return true
		}
	}
	return false
}
