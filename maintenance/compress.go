package maintenance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom-backup/strongroom/dedup"
)

// CompressOptions overrule the configuration for one run; zero values do not.
type CompressOptions struct {
	Trigger Trigger // OnRequest when empty
	Rate    int64   // bytes written per second
}

// CompressResult is what compressing later has done.
type CompressResult struct {
	Packs         int64 // written anew
	Skipped       int64 // left alone: something in them is damaged
	Frames        int64 // whose compression was tried
	Before, After int64 // bytes of the packs' files
	Took          time.Duration
}

// Compress compresses what was stored without, in every sealed pack; open packs
// that hold such data and that nobody fills are sealed first. ErrBusy while
// another Compress is running. Cancelled, it leaves everything whole: what was
// compressed is compressed. A pack something in which is damaged is left for the
// time when it is repaired.
func (e *Engine) Compress(ctx context.Context, o CompressOptions) (CompressResult, error) {
	if o.Rate < 0 {
		return CompressResult{}, fmt.Errorf("%w: a rate is not below 0", ErrBadRequest)
	}
	ctx, r, err := e.begin(ctx, Compress, o.Trigger, "bytes")
	if err != nil {
		return CompressResult{}, err
	}
	began := e.now()
	c := &compressing{e: e, run: r, left: map[uint64]int64{}}
	r.phase("compress")
	err = c.all(ctx, &o)
	c.result.Took = e.now().Sub(began)
	if err != nil {
		err = fmt.Errorf("compress: %w", err)
	}
	e.compressed(&c.result, err)
	c.publish()
	r.end(err)
	return c.result, err
}

// compressed counts a run.
func (e *Engine) compressed(res *CompressResult, err error) {
	e.count(func(s *Stats) {
		c := &s.Compress
		c.add(err)
		c.LastRun, c.LastTook = e.now(), res.Took
		c.Packs += uint64(res.Packs)
		c.Skipped += uint64(res.Skipped)
		c.Before += res.Before
		c.After += res.After
	})
}

// compressing is one run under way.
type compressing struct {
	e      *Engine
	run    *run
	result CompressResult

	left        map[uint64]int64 // bytes to compress in the packs still to be seen to
	done, total int64
}

// publish lets others see the result so far.
func (c *compressing) publish() {
	res := c.result
	c.run.change(func(j *Job) { j.Compress = &res })
}

// all compresses the packs that wait.
func (c *compressing) all(ctx context.Context, o *CompressOptions) error {
	e := c.e
	// One that cannot be sealed is none to be compressed; its event tells.
	_, _ = e.blocks.SealLater(or(o.Trigger, OnRequest) == OnRequest)
	packs := e.blocks.LaterPacks()
	if err := c.measure(packs); err != nil {
		return err
	}
	l, y := limiter(or(o.Rate, e.config.Compress.Rate)), e.newYield()
	for _, pack := range packs {
		if err := c.pack(ctx, pack, l); err != nil {
			return err
		}
		if !e.spaceIsShort() { // else that is what everybody waits for
			y.pause(ctx)
		}
	}
	return nil
}

// measure finds out how much there is to do.
func (c *compressing) measure(packs []uint64) error {
	if len(packs) == 0 {
		return nil
	}
	for _, pack := range packs {
		c.left[pack] = 0
	}
	return c.e.blocks.Packs(func(p dedup.PackInfo) bool {
		if _, ok := c.left[p.ID.Pack]; ok {
			c.left[p.ID.Pack] = p.LaterBytes
			c.total += p.LaterBytes
		}
		return true
	})
}

// pack compresses one pack.
func (c *compressing) pack(ctx context.Context, pack uint64, l *rate.Limiter) error {
	res, err := c.e.blocks.CompressPack(ctx, pack, l)
	switch {
	case errors.Is(err, dedup.ErrDamaged): // told of by its event
		c.result.Skipped++
	case errors.Is(err, dedup.ErrUnknownAddr): // collected meanwhile
	case err != nil:
		return err
	case res.Frames > 0: // else a collection wrote it anew meanwhile
		c.result.Packs++
		c.result.Frames += int64(res.Frames)
		c.result.Before += res.Before
		c.result.After += res.After
	}
	c.done += c.left[pack]
	c.run.progress(c.done, c.total)
	c.publish()
	return nil
}

// compressState is what compressing by itself goes by.
type compressState struct {
	mu    sync.Mutex
	puts  int64     // what clients had brought
	since time.Time // when that was seen first
}

// idle reports whether clients have brought nothing for so long.
func (c *compressState) idle(puts int64, now time.Time, long time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if puts != c.puts || c.since.IsZero() {
		c.puts, c.since = puts, now
	}
	return now.Sub(c.since) >= long
}

// CompressDue compresses what was stored without when clients have brought
// nothing for a while, or when a lot is waiting. Old files that somebody was
// reading when their pack was written anew go first. While garbage is collected
// it does nothing: a collection compresses what it writes anew.
func (e *Engine) CompressDue(ctx context.Context) error {
	st := e.blocks.Stats()
	idle := e.compress.idle(e.puts(), e.now(), e.config.Compress.Idle)
	if e.isRunning(GC) || e.isRunning(Compress) {
		return nil
	}
	if st.PendingRemoval > 0 {
		if err := e.blocks.RemoveReplaced(); err != nil {
			return err
		}
	}
	if st.LaterBytes == 0 || !idle && st.LaterBytes < e.config.Compress.At {
		return nil
	}
	if idle {
		_, _ = e.blocks.SealLater(false)
	}
	if len(e.blocks.LaterPacks()) == 0 {
		return nil
	}
	_, err := e.Compress(ctx, CompressOptions{Trigger: OnThreshold})
	return err
}

// spaceIsShort reports whether the disk fills up, as far as can be told.
func (e *Engine) spaceIsShort() bool {
	free, total, err := e.space()
	return err == nil && float64(free) < e.config.GC.LowFree*float64(total)
}
