package dedup

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/strongroom-backup/strongroom/internal/mutant"
	"github.com/strongroom-backup/strongroom/tier"
)

// openPack is a pack without a footer: one that grows, one that waits for its
// seal, or one given up after a failed fdatasync.
//
//	growing ──full──▶ sealing ──▶ (sealed: forgotten here)
//	   │                 │  └──seal cannot be written──▶ stuck, tried again before the next pack is made
//	   └───fdatasync fails──┴──▶ given up: never appended to, synced or sealed again
type openPack struct {
	id   tier.ID
	file tier.File

	// size and torn belong to whoever holds the pack's lane.
	size int64 // where the next frame goes
	torn bool  // a write failed behind size

	view atomic.Pointer[toc] // what is with the kernel

	mu      sync.Mutex
	idle    sync.Cond // signalled when syncing becomes false
	syncing bool
	found   bool  // an earlier process wrote it: before a sync nobody knows what of it is durable
	synced  int   // slots below are durable
	failed  error // of an fdatasync, for ever
}

func newOpenPack(id tier.ID, file tier.File, size int64, t *toc) *openPack {
	p := &openPack{id: id, file: file, size: size}
	p.idle.L = &p.mu
	p.view.Store(t)
	return p
}

// append writes whole frames behind the last one and publishes t, which has
// them. The holder of the lane calls it.
func (p *openPack) append(frames []byte, t *toc) error {
	if _, err := p.file.WriteAt(frames, p.size); err != nil {
		p.torn = true
		return fmt.Errorf("write %v at %d: %w", p.id, p.size, err)
	}
	p.size += int64(len(frames))
	p.view.Store(t)
	return nil
}

// trusts reports whether a block in this slot may be a dedup hit.
func (p *openPack) trusts(slot int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed == nil || slot < p.synced
}

// durable reports whether every slot below n is durable.
func (p *openPack) durable(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return n <= p.synced
}

// err is the failure of the pack as seen by somebody who needs the slots below
// n.
func (p *openPack) err(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= p.synced {
		return nil
	}
	return p.failed
}

// usable returns nil unless the pack was given up.
func (p *openPack) usable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// syncTo makes the slots below n durable with run, the one call that may
// fdatasync the file. One sync serves everybody who came before it began.
func (p *openPack) syncTo(n int, run func(*openPack) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n > p.synced {
		if p.failed != nil && !mutant.On("dedup/fsync-again") {
			return p.failed
		}
		if p.syncing {
			p.idle.Wait()
			continue
		}
		p.syncLocked(run)
	}
	return nil
}

// syncTail makes the TOC and footer behind the frames durable.
func (p *openPack) syncTail(run func(*openPack) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.syncing {
		p.idle.Wait()
	}
	if p.failed == nil {
		p.syncLocked(run)
	}
	return p.failed
}

// syncLocked is called with mu held, which it lets go during the sync.
func (p *openPack) syncLocked(run func(*openPack) error) {
	target := p.view.Load().nextSlot()
	p.syncing = true
	p.mu.Unlock()
	err := run(p)
	p.mu.Lock()
	p.syncing = false
	if err != nil {
		p.failed = fmt.Errorf("fdatasync of %v failed, its last blocks may be lost and it is given up: %w", p.id, asEIO(err))
	} else {
		p.synced = target
	}
	p.idle.Broadcast()
}

// asEIO makes sure a failed sync looks like an I/O error to whoever maps it.
func asEIO(err error) error {
	if errors.Is(err, syscall.EIO) {
		return err
	}
	return errors.Join(err, syscall.EIO)
}

// syncedSlots is the number below which slots are durable.
func (p *openPack) syncedSlots() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.synced
}
