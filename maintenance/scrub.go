package maintenance

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// scrubState is where the rolling verification stands.
type scrubState struct {
	mu     sync.Mutex
	last   time.Time // when packs were last chosen
	credit float64   // packs that may be verified, the rest of the last choice
}

// ScrubDue verifies the packs whose turn has come by the clock, so that every
// pack is verified within the target age. Nothing is due when that is 0.
func (e *Engine) ScrubDue(ctx context.Context) (VerifyResult, error) {
	packs, err := e.scrubTurn()
	if err != nil || len(packs) == 0 {
		return VerifyResult{}, err
	}
	ctx, r, err := e.begin(ctx, Scrub, OnSchedule, "bytes")
	if err != nil {
		return VerifyResult{}, err
	}
	return e.verify(ctx, r, packs, 0, e.logDue())
}

// scrubTurn chooses the packs that are due now.
func (e *Engine) scrubTurn() ([]dedup.PackInfo, error) {
	target := e.config.Scrub.TargetAge
	if target <= 0 {
		return nil, nil
	}
	var packs []dedup.PackInfo
	err := e.blocks.Packs(func(p dedup.PackInfo) bool {
		if !p.Open {
			packs = append(packs, p)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	s := &e.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	now := e.now()
	passed := e.config.Scrub.Every
	if !s.last.IsZero() {
		passed = max(0, now.Sub(s.last))
	}
	s.last = now
	s.credit += float64(len(packs)) * float64(passed) / (scrubHeadroom * float64(target))
	s.credit = min(s.credit, float64(len(packs)))
	list := scrubChoice(packs, now, target, int(s.credit))
	s.credit = max(0, s.credit-float64(len(list)))
	return list, nil
}

// scrubChoice picks what to verify: every pack that would soon be too old, then
// those never verified, then the oldest, quota of them together, but none that
// was verified only lately. It reorders packs.
func scrubChoice(packs []dedup.PackInfo, now time.Time, target time.Duration, quota int) []dedup.PackInfo {
	age := func(p *dedup.PackInfo) time.Duration { return now.Sub(p.Verified) }
	part := func(share float64) time.Duration { return time.Duration(share * float64(target)) }
	class := func(p *dedup.PackInfo) int {
		switch {
		case p.Verified.IsZero():
			return 1
		case age(p) >= part(scrubOverdue):
			return 0
		case age(p) >= part(scrubFresh):
			return 2
		}
		return 3
	}
	slices.SortFunc(packs, func(a, b dedup.PackInfo) int {
		return cmp.Or(cmp.Compare(class(&a), class(&b)), a.Verified.Compare(b.Verified), cmp.Compare(a.ID.Pack, b.ID.Pack))
	})
	n := 0
	for n < len(packs) {
		if c := class(&packs[n]); c == 3 || c > 0 && n >= quota {
			break
		}
		n++
	}
	return packs[:n]
}

// ScrubAge is how old the verification of the store is.
type ScrubAge struct {
	Packs      int64
	Unverified int64         // never verified
	Oldest     time.Duration // since the verification that is longest ago; 0: there is none
	Target     time.Duration
}

// ageState keeps a count of the packs' ages for a while.
type ageState struct {
	mu      sync.Mutex
	counted time.Time
	packs   int64
	never   int64
	oldest  time.Time
}

func (a *ageState) stale() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counted = time.Time{}
}

// Age is cheap enough for every scrape: it is counted at most once a minute. A
// pack that is still open, or has known damage, counts as it was last verified.
func (e *Engine) Age() (ScrubAge, error) {
	a := &e.age
	a.mu.Lock()
	defer a.mu.Unlock()
	now := e.now()
	if a.counted.IsZero() || now.Sub(a.counted) >= ageEvery {
		a.packs, a.never, a.oldest = 0, 0, time.Time{}
		err := e.blocks.Packs(func(p dedup.PackInfo) bool {
			if p.Open {
				return true
			}
			a.packs++
			if p.Verified.IsZero() {
				a.never++
			} else if a.oldest.IsZero() || p.Verified.Before(a.oldest) {
				a.oldest = p.Verified
			}
			return true
		})
		if err != nil {
			return ScrubAge{}, err
		}
		a.counted = now
	}
	age := ScrubAge{Packs: a.packs, Unverified: a.never, Target: e.config.Scrub.TargetAge}
	if !a.oldest.IsZero() {
		age.Oldest = max(0, now.Sub(a.oldest))
	}
	return age, nil
}
