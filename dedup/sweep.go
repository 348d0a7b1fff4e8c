package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// SweepOptions say how much a sweep may do.
type SweepOptions struct {
	// DeadRatio is the share of dead bytes from which on a pack is compacted,
	// 0 … 1. Packs without a live block go whatever it is.
	DeadRatio float64
	// Grace is how long a file that is out of use stays at least. Readers that
	// began before find it there.
	Grace time.Duration
	// Limiter is the budget of bytes written to new generations, nil for none.
	// Each costs a read and a read back too.
	Limiter *rate.Limiter
	// Progress, if not nil, is called after every victim and every removal, on
	// the goroutine of Sweep.
	Progress func(SweepProgress)
	// FreeWanted ends compaction when so many bytes are free or will be after
	// the grace; 0 compacts all that qualify.
	FreeWanted int64
}

// SweepProgress is how far a sweep has come.
type SweepProgress struct {
	Victims, Done  int   // packs to remove or compact, and those seen to
	Skipped        int   // of Done: left alone, a live block in them is damaged
	CondemnedBytes int64 // dead bytes of the victims condemned so far
	MovedBytes     int64 // written to new generations
	FreedBytes     int64 // given back to the disk, new generations subtracted
	TotalBytes     int64 // dead bytes of all victims
}

// sweep is one call of Collection.Sweep.
type sweep struct {
	SweepProgress
	c    *Collection
	s    *Store
	ctx  context.Context
	o    SweepOptions
	errs []error

	promised int64 // bytes that will be free once the graves are empty
}

// victim is a pack with dead blocks.
type victim struct {
	cand      *candidate
	live      int   // blocks, when the victims were chosen
	deadBytes int64 // as shares of the pack's
}

// Sweep takes away what is not marked: packs without a live block first, for
// they cost nothing, then it compacts those with the most dead bytes for every
// byte it has to move. Everything it does is done when it returns, but for the
// removal of files in their grace when ctx ends before. Call it once, after
// every Mark.
//
// A pack with a damaged live block and no other copy of it stays as it is and
// the sweep goes on, without an error; a disk that fails or is full ends it. What happened is in the error, with ENOSPC or
// EIO under it, and the rest is for the next collection.
func (c *Collection) Sweep(ctx context.Context, o SweepOptions) (SweepProgress, error) {
	if c.s.collecting.Load() != c {
		return SweepProgress{}, errors.New("dedup: Sweep of a collection that is closed")
	}
	sw := &sweep{c: c, s: c.s, ctx: ctx, o: o}
	whole, part := sw.victims()
	err := sw.removeWhole(whole, &part)
	if err == nil {
		err = sw.compactAll(part)
	}
	if waitErr := sw.emptyGraves(); err == nil {
		err = waitErr
	}
	return sw.SweepProgress, errors.Join(append(sw.errs, err)...)
}

// victims chooses packs and puts them in order. The highest-numbered pack is
// never removed, else the next start would use its number again; it is
// compacted to nothing instead.
func (sw *sweep) victims() (whole, part []victim) {
	highest := sw.s.packs.highest()
	for i := range sw.c.marks.cands {
		cand := &sw.c.marks.cands[i]
		live, _ := sw.c.live(cand)
		v := victim{cand: cand, live: live, deadBytes: cand.bytes - cand.share(live)}
		switch {
		case cand.lost || live == 0 && (cand.pack != highest || mutant.On("dedup/highest-pack-goes")):
			if live == 0 {
				whole = append(whole, v)
			}
			continue
		case live == int(cand.slots) || !sw.worth(v):
			continue
		}
		part = append(part, v)
	}
	sortVictims(part)
	for _, v := range slices.Concat(whole, part) {
		sw.Victims++
		sw.TotalBytes += v.deadBytes
	}
	return whole, part
}

func (sw *sweep) worth(v victim) bool {
	return float64(v.deadBytes) >= sw.o.DeadRatio*float64(v.cand.bytes)
}

// sortVictims puts those first that free most for what they cost.
func sortVictims(part []victim) {
	slices.SortStableFunc(part, func(a, b victim) int {
		// dead/live of a > that of b, without dividing
		x, y := float64(a.deadBytes)*float64(b.cand.bytes-b.deadBytes), float64(b.deadBytes)*float64(a.cand.bytes-a.deadBytes)
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
}

func (sw *sweep) tell() {
	if sw.o.Progress != nil {
		sw.o.Progress(sw.SweepProgress)
	}
}

// condemn condemns a victim and counts it.
func (sw *sweep) condemn(v victim) (live []uint64) {
	live, first := sw.c.condemn(v.cand)
	for i, w := range v.cand.exists() {
		live[i] &= w
	}
	if first {
		n := v.cand.bytes - v.cand.share(countBits(live))
		sw.CondemnedBytes += n
		sw.s.count.condemnedBytes.Add(uint64(n))
	}
	return live
}

// removeAtOnce is how many packs are forgotten by one durable write of the index.
const removeAtOnce = 64

// removeWhole takes out of use the packs without a live block. One that got a
// live block meanwhile is left to compaction.
func (sw *sweep) removeWhole(whole []victim, part *[]victim) error {
	for len(whole) > 0 {
		var dead []uint64
		n := min(len(whole), removeAtOnce)
		for _, v := range whole[:n] {
			if err := sw.ctx.Err(); err != nil {
				return err
			}
			live := countBits(sw.condemn(v))
			switch {
			case live == 0:
				dead = append(dead, v.cand.pack)
			default:
				v.live, v.deadBytes = live, v.cand.bytes-v.cand.share(live)
				if live < int(v.cand.slots) && sw.worth(v) {
					*part = append(*part, v)
				} else {
					sw.Done++
				}
			}
		}
		freed, err := sw.s.removePacks(dead, sw.o.Grace)
		sw.promised += freed
		sw.Done += len(dead)
		if err != nil {
			return err
		}
		sw.reap()
		sw.tell()
		whole = whole[n:]
	}
	sortVictims(*part)
	return nil
}

// compactAll compacts packs until enough is free.
func (sw *sweep) compactAll(part []victim) error {
	for _, v := range part {
		if err := sw.ctx.Err(); err != nil {
			return err
		}
		if sw.o.FreeWanted > 0 && sw.promised >= sw.o.FreeWanted {
			return nil
		}
		err := sw.compact(v)
		if errors.Is(err, syscall.ENOSPC) && sw.s.graves.count() > 0 {
			// Room is on its way.
			if err = sw.emptyGraves(); err == nil {
				err = sw.compact(v)
			}
		}
		var damaged *liveDamage
		if errors.As(err, &damaged) { // known by now, and told of by its event
			sw.Skipped++
		} else if err != nil {
			return err
		}
		sw.Done++
		sw.reap()
		sw.tell()
	}
	return nil
}

// compact writes a pack anew without its dead blocks.
func (sw *sweep) compact(v victim) error {
	sw.s.rewriting.Lock()
	defer sw.s.rewriting.Unlock()
	live := sw.condemn(v)
	wanted := func(slot uint16) bool { return int(slot) < len(live)*64 && hasBit(live, slot) }
	res, err := sw.s.rewritePack(sw.ctx, v.cand.pack, rewritePlan{
		wanted: wanted, limit: sw.o.Limiter, grace: sw.o.Grace, verbatim: worthCopying,
	})
	sw.MovedBytes += res.moved
	sw.s.count.movedBytes.Add(uint64(res.moved))
	if err != nil {
		return fmt.Errorf("compact pack %d: %w", v.cand.pack, err)
	}
	sw.promised += res.freed
	sw.s.count.compacted.Add(1)
	return nil
}

// reap removes the files whose grace has passed.
func (sw *sweep) reap() {
	freed, err := sw.s.reap(false)
	sw.FreedBytes += freed
	if err != nil {
		sw.errs = append(sw.errs, err)
	}
}

// emptyGraves waits until every file that is out of use is gone. A file that
// cannot be removed is reported and left to the next sweep.
func (sw *sweep) emptyGraves() error {
	const poll = 20 * time.Millisecond
	for {
		before := len(sw.errs)
		sw.reap()
		sw.tell()
		if sw.s.graves.count() == 0 || len(sw.errs) > before {
			return nil
		}
		t := time.NewTimer(max(poll, min(sw.s.graves.next(), time.Second)))
		select {
		case <-sw.ctx.Done():
			t.Stop()
			return sw.ctx.Err()
		case <-t.C:
		}
	}
}
