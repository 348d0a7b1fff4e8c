package dedup

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/strongroom-backup/strongroom/tier"
)

// recovery brings the index and the packs without a footer in order at Open.
type recovery struct {
	store *Store
	parks map[uint64]openRecord // of the last clean shutdown
	fresh bool                  // the index is new: it has nothing that could be newer
}

// recover makes the tier's listing the truth: which packs exist, which
// generation counts, and which of them the index still lacks.
func (s *Store) recover() error {
	if err := s.loadHealth(); err != nil {
		return fmt.Errorf("block index: %w", err)
	}
	if err := s.tier.Settle(); err != nil {
		return err
	}
	ids, err := s.countingPacks(true)
	if err != nil {
		return err
	}
	r := recovery{store: s}
	todo, err := r.unindexed(ids)
	if err != nil {
		return fmt.Errorf("block index: %w", err)
	}
	if err := s.loadLater(); err != nil {
		return fmt.Errorf("block index: %w", err)
	}
	if r.parks, err = s.index.takeOpenRecords(); err != nil {
		return fmt.Errorf("block index: %w", err)
	}
	s.pool.next = s.packs.highest() + 1
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	before := make(chan struct{})
	close(before)
	for _, id := range todo {
		turn, done := before, make(chan struct{})
		before = done
		g.Go(func() error {
			defer func() { <-turn; close(done) }()
			return r.judge(id, r.pack(id, turn))
		})
	}
	return g.Wait()
}

// judge lets a store open though a pack cannot be read: its blocks are errors
// when they are read, and no dedup hits. Only what a person must decide, or a
// block index that takes nothing, keeps it closed.
func (r *recovery) judge(id tier.ID, err error) error {
	if err == nil || errors.Is(err, ErrNewerFormat) || errors.Is(err, errForeign) || errors.Is(err, errIndexWrite) {
		return err
	}
	r.store.health.cannotRead(id.Pack)
	r.store.damage(damagedPack(id.Pack, id.Gen, 0, "the pack cannot be looked at: %v", err))
	return nil
}

// errIndexWrite is under errors of the block index met while packs are indexed.
var errIndexWrite = errors.New("block index cannot be written")

// countingPacks lists the packs in order, each in the generation that counts.
// With tidy the other generations are removed.
func (s *Store) countingPacks(tidy bool) ([]tier.ID, error) {
	packs, err := s.listPacks()
	if err != nil {
		return nil, err
	}
	ids := make([]tier.ID, len(packs))
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i, gens := range packs {
		if len(gens) == 1 {
			ids[i] = gens[0]
			continue
		}
		g.Go(func() error { ids[i] = s.chooseGeneration(gens, tidy); return nil })
	}
	_ = g.Wait()
	for _, id := range ids {
		s.packs.add(id.Pack, id.Gen)
	}
	return ids, nil
}

// unindexed returns the packs whose keys are not in the index. Packs that are
// in the index and not on the tier are missing: they stay known, so that they
// are told of until they are back or nothing needs them, and their numbers are
// not used again.
func (r *recovery) unindexed(ids []tier.ID) (todo []tier.ID, err error) {
	s := r.store
	i := 0
	r.fresh = true
	err = s.index.each('p', func(pack uint64, v []byte) error {
		r.fresh = false
		for ; i < len(ids) && ids[i].Pack < pack; i++ {
			todo = append(todo, ids[i])
		}
		rec, err := parsePackRecord(v)
		switch {
		case i == len(ids) || ids[i].Pack != pack:
			s.health.miss(pack)
			s.packs.see(pack)
			if s.opts.Events.PackMissing != nil {
				s.opts.Events.PackMissing(pack, rec.gen)
			}
		case err == nil && rec.gen == ids[i].Gen:
			s.sealedBytes.Add(rec.size)
			i++
		}
		return nil
	})
	return append(todo, ids[i:]...), err
}

// pack sees to one pack the index does not know. The pack may be indexed when
// turn is closed: then all before it are.
func (r *recovery) pack(id tier.ID, turn <-chan struct{}) error {
	s := r.store
	file, err := s.tier.Reopen(id)
	if err != nil {
		return err
	}
	synced, noted, err := r.note(id)
	begun := false
	if err == nil {
		begun, err = s.checkHeader(id, file)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if noted {
		return r.givenUp(id, file, synced)
	}
	t, err := s.readTOC(id, file)
	switch {
	case err == nil:
		if !begun {
			s.headerDamage(id)
		}
		return r.index(id, file, t, turn)
	case !isDamage(err):
		return errors.Join(err, file.Close())
	case !begun:
		_ = s.writeHeader(newOpenPack(id, file, 0, nil)) // on a full disk the pack goes without
	}
	return r.unsealed(id, file)
}

// note reads what an earlier process knew of a failed fdatasync.
func (r *recovery) note(id tier.ID) (synced int, noted bool, err error) {
	b, err := r.store.tier.Note(id)
	if errors.Is(err, tier.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if synced, err = parseNote(b, id.Pack, id.Gen); err != nil {
		r.store.damage(damagedPack(id.Pack, id.Gen, 0, "the note of a failed fdatasync beside the pack is damaged: its blocks can be read, and none is a dedup hit"))
		return noteUnreadable, true, nil
	}
	return synced, true, nil
}

// noteUnreadable stands for a note that says nothing: the pack's blocks are
// read, verified as always, and nothing new is based on them.
const noteUnreadable = -1

// givenUp keeps a pack after a failed fdatasync readable as far as it was
// durable.
func (r *recovery) givenUp(id tier.ID, file tier.File, synced int) error {
	s := r.store
	t, err := s.readTOC(id, file)
	open := isDamage(err)
	if open {
		var sc scanned
		sc, err = s.scan(id, file, true)
		t = sc.toc
		if sc.damaged > 0 {
			s.damage(damagedPack(id.Pack, id.Gen, sc.end, "%d frames before its end are damaged", sc.damaged))
		}
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if synced != noteUnreadable {
		t = s.durableBelow(id, t, synced, open)
	}
	p := newOpenPack(id, file, 0, t)
	p.synced = max(synced, 0)
	p.failed = fmt.Errorf("fdatasync of %v failed in an earlier run and it is given up: %w", id, errEIO)
	s.open.put(p)
	for i, slot := range t.slots {
		if int(slot.slot) < synced && slot.flags&slotDamaged == 0 {
			s.recent.publish(t.hashes[i], MakeAddr(id.Pack, slot.slot))
		}
	}
	return nil
}

// durableBelow is the part of a given-up pack's table that was durable. What a
// scan does not find of it is damage: the slots of an open pack are without
// gaps.
func (s *Store) durableBelow(id tier.ID, t *toc, synced int, open bool) *toc {
	t = t.below(synced)
	if !open {
		return t
	}
	good := 0
	for _, slot := range t.slots {
		if slot.flags&slotDamaged == 0 {
			good++
		}
	}
	if good < synced {
		t.lossy = true
		s.damage(damagedPack(id.Pack, id.Gen, 0, "%d of the %d blocks that were durable when it was given up are damaged", synced-good, synced))
	}
	return t
}

// index makes a sealed pack durable, which it may not be if a crash came
// before its last fdatasync, and indexes it.
func (r *recovery) index(id tier.ID, file tier.File, t *toc, turn <-chan struct{}) error {
	s := r.store
	p := newOpenPack(id, file, 0, t)
	p.synced = t.nextSlot() // a footer is only written behind durable frames
	if err := p.syncTail(s.fsync); err != nil {
		s.open.put(p)
		return nil // given up, reported by its event; the store works without it
	}
	size, err := file.Size()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	<-turn
	if err := s.index.addPack(id.Pack, id.Gen, t, size, s.preference(!r.fresh)); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errIndexWrite, err), file.Close())
	}
	s.sealedBytes.Add(size)
	s.later.set(id.Pack, t.laterBytes())
	return file.Close()
}

// unsealed goes on with a pack that was parked by a clean shutdown, and seals
// any other behind its last good frame. Going on in the latter could give
// slots a second life that a power cut took from them, while somebody's
// journal still names them.
func (r *recovery) unsealed(id tier.ID, file tier.File) error {
	s := r.store
	if rec, ok := r.parks[id.Pack]; ok && rec.gen == id.Gen {
		sc, err := s.scan(id, file, false)
		if err == nil && sc.damaged == 0 && sc.end == rec.size && sc.toc.nextSlot() == int(rec.slots) {
			if size, err := file.Size(); err == nil && size == rec.size {
				return r.resume(id, file, sc)
			}
		}
	}
	sc, err := s.scan(id, file, true)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return r.seal(id, file, sc)
}

func (r *recovery) resume(id tier.ID, file tier.File, sc scanned) error {
	p := newOpenPack(id, file, sc.end, sc.toc)
	p.synced = sc.toc.nextSlot()
	r.store.open.put(p)
	for i, slot := range sc.toc.slots {
		r.store.recent.publish(sc.toc.hashes[i], MakeAddr(id.Pack, slot.slot))
	}
	r.store.pool.give(p)
	return nil
}

func (r *recovery) seal(id tier.ID, file tier.File, sc scanned) error {
	s := r.store
	p := newOpenPack(id, file, sc.end, sc.toc)
	p.found = true
	s.open.put(p)
	for i, slot := range sc.toc.slots {
		if slot.flags&slotDamaged == 0 {
			s.recent.publish(sc.toc.hashes[i], MakeAddr(id.Pack, slot.slot))
		}
	}
	size, err := file.Size()
	if err != nil {
		return err
	}
	p.torn = size != sc.end
	if sc.damaged > 0 {
		s.damage(damagedPack(id.Pack, id.Gen, sc.end, "%d frames before its end are damaged", sc.damaged))
	}
	if s.opts.Events.PackRecovered != nil && size > packHeaderSize {
		s.opts.Events.PackRecovered(id, len(sc.toc.slots), size-sc.end)
	}
	_ = s.seal(p) // on failure the pack stays open: readable, and sealed later
	return nil
}
