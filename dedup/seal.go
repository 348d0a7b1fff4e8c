package dedup

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// writeAt writes to a pack and counts it.
func (s *Store) writeAt(p *openPack, b []byte, off int64) error {
	if _, err := p.file.WriteAt(b, off); err != nil {
		return err
	}
	s.count.packWrites.Add(1)
	s.count.packWriteBytes.Add(uint64(len(b)))
	return nil
}

// writeHeader begins a pack.
func (s *Store) writeHeader(p *openPack) error {
	h := packHeader{domain: s.opts.Domain, gen: p.id.Gen, pack: p.id.Pack, created: s.opts.Clock(), store: s.opts.StoreID}
	return s.writeAt(p, h.append(nil), 0)
}

// fsync is the only caller of a pack's Sync. After an error nobody calls it
// for that pack again: openPack sees to that.
func (s *Store) fsync(p *openPack) error {
	start := time.Now()
	if mutant.On("dedup/no-fsync") {
		return nil
	}
	err := p.file.Sync()
	s.count.packSyncs.Add(1)
	s.count.syncTime.Since(start)
	if err != nil {
		s.giveUp(p, err)
	}
	return err
}

// giveUp takes a pack whose fdatasync failed out of use. It is called before
// anybody learns of the failure, while the pack still counts as syncing.
func (s *Store) giveUp(p *openPack, err error) {
	s.count.packSyncErrors.Add(1)
	s.count.givenUp.Add(1)
	durable := p.syncedSlots()
	say := durable
	if p.found && durable == 0 {
		say = noteUnreadable // committed points may need what is there
	}
	var noteErr error
	if !mutant.On("dedup/no-note") {
		noteErr = s.tier.SetNote(p.id, noteBytes(p.id.Pack, p.id.Gen, say))
	}
	if s.opts.Events.PackGivenUp != nil {
		s.opts.Events.PackGivenUp(p.id, durable, errors.Join(err, noteErr))
	}
}

// sync makes the slots below n of a pack durable.
func (s *Store) sync(p *openPack, n int) error {
	err := p.syncTo(n, s.fsync)
	if err != nil {
		s.forgetUnsynced(p)
	}
	return err
}

// forgetUnsynced keeps the lost slots of a given-up pack from being found and
// makes every writer look at its packs. It may run more than once.
func (s *Store) forgetUnsynced(p *openPack) {
	s.recent.removePack(p.id.Pack, p.view.Load(), p.syncedSlots())
	s.failures.Add(1)
}

// sealLater seals a full pack in the background. It waits when many packs are
// being sealed already.
func (s *Store) sealLater(p *openPack) {
	s.sealing <- struct{}{}
	s.seals.Go(func() {
		defer func() { <-s.sealing }()
		_ = s.seal(p) // reported by an event; writers that need the pack meet the error in Sync
	})
}

// seal finishes a pack: frames durable, then TOC and footer, then those
// durable, then the index, and only then it stops being an open pack. A footer
// therefore means that the frames before it are durable.
func (s *Store) seal(p *openPack) error {
	t := p.view.Load()
	if !mutant.On("dedup/footer-before-sync") {
		if err := s.sync(p, t.nextSlot()); err != nil {
			return err
		}
	}
	if err := s.writeTail(p, t); err != nil {
		s.pool.addStuck(p)
		if s.opts.Events.SealFailed != nil {
			s.opts.Events.SealFailed(p.id, err)
		}
		return fmt.Errorf("seal %v: %w", p.id, err)
	}
	if err := p.syncTail(s.fsync); err != nil {
		s.forgetUnsynced(p)
		return err
	}
	return s.sealed(p, t)
}

// writeTail writes both TOCs and the footer behind whatever is in the file.
func (s *Store) writeTail(p *openPack, t *toc) error {
	end := p.size
	if p.torn {
		size, err := p.file.Size()
		if err != nil {
			return err
		}
		end = max(end, size)
	}
	p.torn = true // until it is whole
	return s.writeAt(p, appendTail(nil, t, p.id.Pack, p.id.Gen, end), end)
}

// sealed moves a finished pack from the open ones to the index.
func (s *Store) sealed(p *openPack, t *toc) error {
	size, err := p.file.Size()
	if err == nil {
		err = s.index.addPack(p.id.Pack, p.id.Gen, t, size, s.preference(false))
	}
	if err != nil {
		// The pack is whole; the next Open indexes it. Until then its blocks
		// are found where they are found now.
		s.indexError(err)
		return nil
	}
	s.sealedBytes.Add(size)
	s.later.set(p.id.Pack, t.laterBytes())
	s.open.delete(p.id.Pack)
	s.recent.removePack(p.id.Pack, t, 0)
	s.count.sealed.Add(1)
	if s.opts.Events.PackSealed != nil {
		s.opts.Events.PackSealed(p.id, len(t.slots), p.size)
	}
	return p.file.Close()
}

// preference is for the place stored last, the highest, unless it is damaged or
// gone: then a block that was stored again leads readers to the good copy. An
// older pack only needs to look what is there when the index may have newer
// ones.
func (s *Store) preference(look bool) preference {
	p := preference{damaged: s.health.has}
	if look {
		p.keep = func(old, new Addr) bool {
			_, there := s.packs.gen(old.Pack())
			return old > new && there && !s.health.has(old)
		}
	}
	return p
}

func (s *Store) indexError(err error) {
	s.count.indexErrors.Add(1)
	if s.opts.Events.IndexError != nil {
		s.opts.Events.IndexError(err)
	}
}
