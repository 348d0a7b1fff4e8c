package maintenance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// CollectOptions overrule the configuration for one collection; zero values do
// not.
type CollectOptions struct {
	Trigger    Trigger // OnRequest when empty
	DeadRatio  float64
	Rate       int64 // bytes moved per second
	FreeWanted int64 // compaction stops after so many bytes freed
}

// CollectResult is what a collection found and did.
type CollectResult struct {
	Purged    int      // points that left the trash
	Forgotten int      // removed points whose references were dropped
	Pinned    []string // removed points that readers or backups still need
	Marked    MarkCounts
	Tally     dedup.Tally
	Audit     catalog.Audit
	Sweep     dedup.SweepProgress
	Phases    []Phase
	Took      time.Duration
}

// MarkCounts is what was marked from the catalog.
type MarkCounts struct{ Points, Images, Chunks int64 }

// Phase is a part of a collection and how long it took.
type Phase struct {
	Name string
	Took time.Duration
}

// gcState is what automatic collections go by.
type gcState struct {
	began time.Time // when the engine was made

	mu    sync.Mutex
	tried time.Time // when the last collection that began by itself did
	done  time.Time // when the last one that ended well began
	left  int64     // reclaimable bytes that it left
	took  time.Duration

	forgotten int // points forgotten since then
}

// Collect frees the space of what no point, backup or reader needs. It returns
// ErrBusy while another is running. Cancelled, it leaves everything whole: what
// was freed is freed.
func (e *Engine) Collect(ctx context.Context, o CollectOptions) (CollectResult, error) {
	if o.DeadRatio < 0 || o.DeadRatio > 1 || o.Rate < 0 || o.FreeWanted < 0 {
		return CollectResult{}, fmt.Errorf("%w: a dead ratio is a share from 0 to 1, rates and sizes are not below 0", ErrBadRequest)
	}
	ctx, r, err := e.begin(ctx, GC, o.Trigger, "bytes")
	if err != nil {
		return CollectResult{}, err
	}
	c := &collecting{e: e, o: o, run: r}
	began := e.now()
	err = c.collect(ctx)
	c.result.Took = e.now().Sub(began)
	if err != nil {
		err = fmt.Errorf("collect garbage: %w", err)
	}
	e.collected(&c.result, began, err)
	c.publish()
	r.end(err)
	return c.result, err
}

// collected remembers how a collection ended.
func (e *Engine) collected(res *CollectResult, began time.Time, err error) {
	if err == nil {
		left, _ := e.Reclaimable() // unknown: the next begins sooner than it need
		e.gc.mu.Lock()
		e.gc.done, e.gc.left, e.gc.forgotten, e.gc.took = began, left, 0, res.Took
		e.gc.mu.Unlock()
	}
	e.count(func(s *Stats) {
		g := &s.GC
		g.add(err)
		g.LastStart = began
		g.CondemnedBytes += res.Sweep.CondemnedBytes
		g.MovedBytes += res.Sweep.MovedBytes
		g.FreedBytes += res.Sweep.FreedBytes
		if err != nil {
			return
		}
		g.LastSuccess, g.LastTook, g.Phases = e.now(), res.Took, map[string]time.Duration{}
		for _, p := range res.Phases {
			g.Phases[p.Name] += p.Took
		}
	})
}

// collecting is one collection under way.
type collecting struct {
	e      *Engine
	o      CollectOptions
	run    *run
	result CollectResult

	marks *dedup.Collection // nil before begin
}

// collect goes through the steps of the protocol; doc.go says why their order is
// the one.
func (c *collecting) collect(ctx context.Context) error {
	defer func() {
		if c.marks != nil {
			c.marks.Close()
		}
	}()
	for _, step := range c.steps() {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.run.phase(step.name)
		if c.e.paused != nil {
			c.e.paused(step.name)
		}
		start := c.e.now()
		err := step.do(ctx)
		c.result.Phases = append(c.result.Phases, Phase{step.name, c.e.now().Sub(start)})
		c.publish()
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

type step struct {
	name string
	do   func(context.Context) error
}

func (c *collecting) steps() []step {
	steps := []step{
		{"purge", c.purge},
		{"forget", c.forget},
		{"begin", c.begin},
		{"barrier", c.barrier},
		{"roots", c.roots},
		{"mark", c.mark},
		{"settle", c.settle},
		{"audit", c.audit},
		{"sweep", c.sweep},
	}
	if mutant.On("maintenance/points-before-sessions") {
		steps[4], steps[5] = steps[5], steps[4]
	}
	return steps
}

// publish lets others see the result so far.
func (c *collecting) publish() {
	res := c.result
	c.run.change(func(j *Job) { j.GC = &res })
}

// purge removes the points whose time in the trash is over.
func (c *collecting) purge(context.Context) (err error) {
	c.result.Purged, err = c.e.purge()
	return err
}

// forget drops the references of removed points that nobody uses any more.
func (c *collecting) forget(context.Context) (err error) {
	c.result.Forgotten, c.result.Pinned, err = c.e.forget()
	return err
}

// begin makes every sealed pack a candidate. From now on what is stored marks
// itself.
func (c *collecting) begin(context.Context) (err error) {
	c.marks, err = c.e.blocks.BeginCollection()
	return err
}

// barrier waits for what began before.
func (c *collecting) barrier(context.Context) error {
	c.e.vols.Barrier()
	return nil
}

// roots marks what only sessions lead to. It comes before mark: a session that
// becomes a point meanwhile is found by one of them.
func (c *collecting) roots(context.Context) error {
	return c.e.vols.Roots(c.marks.Mark)
}

// mark marks what points lead to.
func (c *collecting) mark(ctx context.Context) error {
	st, err := c.e.cat.Mark(ctx, func(runs []catalog.Run) {
		for _, r := range runs {
			c.marks.Mark(r.Addr, int(r.Count))
		}
	})
	c.result.Marked = MarkCounts(st)
	return err
}

// settle waits for reads that may have found addresses nobody marked.
func (c *collecting) settle(context.Context) error {
	c.e.vols.Barrier()
	c.result.Tally = c.marks.Tally()
	return nil
}

// audit compares the marks with the accounts, which were counted in another way.
// Accounts that are wrong are made anew. If a block is needed by what was counted
// afresh and not marked all the same, the marks are wrong: nothing is swept.
func (c *collecting) audit(context.Context) (err error) {
	cat := c.e.cat
	c.result.Audit, err = cat.AuditAccounts(c.marks.Live, false)
	if errors.Is(err, catalog.ErrAccounts) {
		c.e.count(func(s *Stats) { s.GC.AuditErrors++ })
		if _, err := cat.RecountAccounts(); err != nil {
			return err
		}
		c.result.Audit, err = cat.AuditAccounts(c.marks.Live, false)
	}
	if errors.Is(err, catalog.ErrAccounts) {
		err = fmt.Errorf("nothing was freed: points need blocks that were not marked as needed; this is an error in the program, please report it: %w", err)
	}
	return err
}

// sweep frees what is not marked.
func (c *collecting) sweep(ctx context.Context) (err error) {
	e := c.e
	y := e.newYield()
	c.result.Sweep, err = c.marks.Sweep(ctx, dedup.SweepOptions{
		DeadRatio:  or(c.o.DeadRatio, e.config.GC.DeadRatio),
		Grace:      e.config.GC.Grace,
		Limiter:    limiter(or(c.o.Rate, e.config.GC.Rate)),
		FreeWanted: c.o.FreeWanted,
		Progress: func(p dedup.SweepProgress) {
			c.result.Sweep = p
			c.run.progress(p.CondemnedBytes, p.TotalBytes)
			c.publish()
			if c.o.FreeWanted == 0 { // else space is what everybody waits for
				y.pause(ctx)
			}
		},
	})
	return err
}

// purge removes the points whose time in the trash is over, for good.
func (e *Engine) purge() (purged int, err error) {
	list, err := e.cat.TrashList()
	if err != nil {
		return 0, err
	}
	now := e.now()
	for _, p := range list {
		if p.Purge.After(now) {
			break // in order of purge
		}
		err := e.vols.Purge(p.ID, now)
		switch {
		case isProtected(err) || errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid):
			continue // undeleted or removed meanwhile
		case err != nil:
			return purged, err
		}
		purged++
		e.count(func(s *Stats) { s.Prune.Purged++ })
		if f := e.events.Purged; f != nil {
			f(p)
		}
	}
	return purged, nil
}

// forget drops the chunk references of removed points, durably, except those
// that readers or sessions still use.
func (e *Engine) forget() (forgotten int, pinned []string, err error) {
	removed, err := e.cat.Removed()
	if err != nil {
		return 0, nil, err
	}
	var ids []string
	for _, id := range removed {
		if e.vols.Pinned(id) && !mutant.On("maintenance/forget-pinned") {
			pinned = append(pinned, id)
		} else {
			ids = append(ids, id)
		}
	}
	e.count(func(s *Stats) { s.GC.PinnedPoints = len(pinned) })
	if len(ids) == 0 {
		return 0, pinned, nil
	}
	if err := e.cat.Forget(ids...); err != nil {
		return 0, pinned, err
	}
	e.gc.mu.Lock()
	e.gc.forgotten += len(ids)
	e.gc.mu.Unlock()
	return len(ids), pinned, nil
}
