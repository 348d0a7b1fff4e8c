package maintenance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// Engine looks after a store. Its methods may be called from any goroutine.
type Engine struct {
	blocks *dedup.Store
	cat    *catalog.Catalog
	vols   *volume.Manager
	space  func() (free, total uint64, err error)
	now    func() time.Time
	after  func(time.Duration) <-chan time.Time
	config Config
	events Events

	jobs     jobs
	gc       gcState
	scrub    scrubState
	damage   damageState
	age      ageState
	compress compressState

	logVerified atomic.Int64 // when the metadata log was read last, in this process

	warned warnedState

	mu    sync.Mutex
	stats Stats

	paused func(step string) // where tests stop a collection
}

// New makes an engine and has Volumes ask it before every backup. Nothing runs
// by itself until Run.
func New(o Options) (*Engine, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	e := &Engine{
		blocks: o.Blocks, cat: o.Catalog, vols: o.Volumes, space: o.Space,
		now: o.Clock, after: o.After, config: o.Config, events: o.Events,
		jobs: jobs{running: map[Kind]*run{}, last: map[Kind]Job{}},
	}
	e.gc.began = e.now()
	e.vols.SetPlan(e.plan)
	return e, nil
}

// Run does what is due, until ctx ends; then it waits for what is under way and
// returns nil. It must have returned before the engines below are closed.
func (e *Engine) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { e.loop(ctx, "collect garbage", e.config.GC.Every, e.CollectDue) })
	wg.Go(func() { e.loop(ctx, "look after damage", damageEvery, e.HealDue) })
	wg.Go(func() { e.loop(ctx, "compress", e.config.Compress.Every, e.CompressDue) })
	if e.config.Scrub.TargetAge > 0 {
		wg.Go(func() {
			e.loop(ctx, "verify packs", e.config.Scrub.Every, func(ctx context.Context) error {
				_, err := e.ScrubDue(ctx)
				return err
			})
		})
	}
	if e.config.PruneAt != nil {
		wg.Go(func() { e.pruneLoop(ctx) })
	}
	wg.Wait()
	return nil
}

// loop does work every so often, less often while it fails.
func (e *Engine) loop(ctx context.Context, what string, every time.Duration, work func(context.Context) error) {
	wait := every
	for e.sleep(ctx, wait) {
		wait = every
		if err := work(ctx); e.failed(ctx, what, err) {
			wait = max(every, retryAfter)
		}
	}
}

// pruneLoop prunes at the times of the schedule.
func (e *Engine) pruneLoop(ctx context.Context) {
	next := e.config.PruneAt.Next(e.now().In(e.config.Location))
	for !next.IsZero() && e.sleep(ctx, min(maxWait, max(next.Sub(e.now()), 0))) { // zero: it never comes again
		now := e.now().In(e.config.Location)
		if now.Before(next) {
			continue
		}
		next = e.config.PruneAt.Next(now)
		_, err := e.Prune(ctx, PruneRequest{Trigger: OnSchedule})
		e.failed(ctx, "prune", err)
	}
}

// sleep waits and reports whether to go on.
func (e *Engine) sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-e.after(d):
	}
	return ctx.Err() == nil
}

// failed reports whether a loop's work went wrong, and says so.
func (e *Engine) failed(ctx context.Context, what string, err error) bool {
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrBusy) {
		return false
	}
	if f := e.events.Failed; f != nil {
		f(what, err)
	}
	return true
}

// count changes the statistics.
func (e *Engine) count(f func(*Stats)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.stats)
}
