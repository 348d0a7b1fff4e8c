package maintenance

import (
	"context"
	"time"
)

// Reclaimable is how many bytes of packs no point and no open backup needs, by
// the accounts. It is cheap.
func (e *Engine) Reclaimable() (int64, error) {
	n, _, err := e.reclaimable()
	return n, err
}

func (e *Engine) reclaimable() (free, total int64, err error) {
	u, err := e.cat.StoreUsage()
	if err != nil {
		return 0, 0, err
	}
	total = e.blocks.Stats().PackBytes
	return max(0, total-u.Stored-e.vols.Stats().OpenStoredBytes), total, nil
}

// CollectDue removes what has been in the trash for long enough, warns of what
// the operator wants to be warned of, and collects garbage when that pays or is
// overdue.
func (e *Engine) CollectDue(ctx context.Context) error {
	if e.isRunning(GC) {
		return nil
	}
	if _, err := e.purge(); err != nil {
		return err
	}
	if _, _, err := e.forget(); err != nil {
		return err
	}
	if err := e.lookAtTrash(); err != nil {
		return err
	}
	if err := e.warnOfManual(); err != nil {
		return err
	}
	o, due, err := e.due()
	if err != nil || !due {
		return err
	}
	e.gc.mu.Lock()
	e.gc.tried = e.now()
	e.gc.mu.Unlock()
	_, err = e.Collect(ctx, o)
	return err
}

// situation is what decides whether to collect.
type situation struct {
	now                   time.Time
	began, tried, done    time.Time // of the engine, the last attempt, the last success; zero: none
	reclaimable, left     int64     // now, and after the last collection
	forgotten             int       // points since the last collection
	took                  time.Duration
	packs                 int64 // bytes
	spaceFree, spaceTotal uint64
}

// due says whether a collection should begin, and how.
func (e *Engine) due() (CollectOptions, bool, error) {
	s := situation{now: e.now(), began: e.gc.began}
	var err error
	if s.reclaimable, s.packs, err = e.reclaimable(); err != nil {
		return CollectOptions{}, false, err
	}
	if s.spaceFree, s.spaceTotal, err = e.space(); err != nil {
		return CollectOptions{}, false, err
	}
	e.gc.mu.Lock()
	e.gc.left = min(e.gc.left, s.reclaimable) // files that waited for their grace
	s.tried, s.done, s.left = e.gc.tried, e.gc.done, e.gc.left
	s.forgotten, s.took = e.gc.forgotten, e.gc.took
	e.gc.mu.Unlock()
	e.count(func(st *Stats) { st.GC.ReclaimableBytes = s.reclaimable })
	o, due := e.config.GC.decide(&s)
	return o, due, nil
}

func (g *GCConfig) decide(s *situation) (CollectOptions, bool) {
	failed := s.tried.After(s.done)
	if failed && s.now.Sub(s.tried) < retryAfter {
		return CollectOptions{}, false
	}
	grown := s.reclaimable - s.left
	wanted := int64(g.LowFree*float64(s.spaceTotal)) - int64(s.spaceFree)
	last := s.done
	if last.IsZero() {
		last = s.began
	}
	switch {
	case wanted > 0 && (grown >= lowReclaimMin || s.done.IsZero() && s.reclaimable >= lowReclaimMin):
		return CollectOptions{Trigger: OnThreshold, DeadRatio: min(lowDeadRatio, g.DeadRatio), FreeWanted: wanted}, true
	case grown > 0 && grown >= min(g.ReclaimAt, int64(g.ReclaimShare*float64(s.packs))):
		return CollectOptions{Trigger: OnThreshold}, true
	case s.forgotten > 0 && grown >= smallReclaimMin && s.now.Sub(last) >= max(smallWait, s.took*smallPause):
		return CollectOptions{Trigger: OnThreshold}, true
	case g.AtLeast > 0 && s.now.Sub(last) >= g.AtLeast:
		return CollectOptions{Trigger: OnSchedule}, true
	}
	return CollectOptions{}, false
}
