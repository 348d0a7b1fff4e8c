package maintenance

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/volume"
)

// Options say what is looked after, and how. Blocks, Catalog and Volumes are
// needed, the rest has defaults.
type Options struct {
	Blocks  *dedup.Store
	Catalog *catalog.Catalog
	Volumes *volume.Manager
	// Space tells how many bytes clients can still store and how many the disk
	// has; nil: the store is never short of space.
	Space func() (free, total uint64, err error)
	Clock func() time.Time // nil: time.Now
	// After is what Run waits with; nil: time.After.
	After  func(time.Duration) <-chan time.Time
	Config Config
	Events Events
}

func (o *Options) fill() error {
	if o.Blocks == nil || o.Catalog == nil || o.Volumes == nil {
		return errors.New("maintenance: Blocks, Catalog and Volumes are needed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Space == nil {
		o.Space = func() (free, total uint64, err error) { return 1, 1, nil }
	}
	return o.Config.fill()
}

func (c *Config) fill() error {
	if c.Location == nil {
		c.Location = time.UTC
	}
	g := &c.GC
	g.DeadRatio = or(g.DeadRatio, defaultDeadRatio)
	g.ReclaimAt = or(g.ReclaimAt, defaultReclaimAt)
	g.ReclaimShare = or(g.ReclaimShare, defaultReclaimShare)
	g.LowFree = or(g.LowFree, defaultLowFree)
	g.Every = or(g.Every, defaultGCEvery)
	g.AtLeast = or(g.AtLeast, defaultAtLeast)
	c.Scrub.Every = or(c.Scrub.Every, defaultScrubEvery)
	z := &c.Compress
	z.Idle = or(z.Idle, defaultCompressIdle)
	z.At = or(z.At, defaultCompressAt)
	z.Every = or(z.Every, defaultCompressEvery)
	switch {
	case g.Rate < 0 || c.Scrub.Rate < 0 || z.Rate < 0:
		return errors.New("maintenance: a rate is below 0")
	case !(g.DeadRatio > 0 && g.DeadRatio <= 1):
		return fmt.Errorf("maintenance: a dead ratio of %v is not a share", g.DeadRatio)
	case g.Every < 0 || c.Scrub.Every < 0 || c.Scrub.TargetAge < 0 || g.Grace < 0 || z.Idle < 0 || z.Every < 0:
		return errors.New("maintenance: a time is below 0")
	}
	return c.Settings.Validate()
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
