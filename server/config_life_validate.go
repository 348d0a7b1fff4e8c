package server

import (
	"math"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/units"
)

func (c *Config) validateLife(p *problems) {
	p.duration("trash.keep", c.Trash.Keep, 0, trashKeepMax)
	c.validateRetention(p)
	for _, l := range []struct {
		key string
		v   Limit
	}{
		{"chains.full-after", c.Chains.FullAfter}, {"chains.limit", c.Chains.Limit}, {"chains.warn-manual", c.Chains.WarnManual},
	} {
		p.integer(l.key, int(l.v), 0, chainMax)
	}
	g := c.GC
	p.size("gc.rate", g.Rate, 0, units.TiB)
	if !(g.DeadRatio >= deadRatioMin && g.DeadRatio <= 1) || math.IsNaN(g.DeadRatio) {
		p.add("gc.dead-ratio", "is %v; want %v to 1", g.DeadRatio, deadRatioMin)
	}
	p.size("gc.reclaim-at", g.ReclaimAt, 0, units.PiB)
	p.duration("gc.every", g.Every, gcEveryMin, units.Day)
	p.duration("gc.grace", g.Grace, 0, units.Day)
	p.duration("compress.idle", c.Compress.Idle, time.Second, units.Day)
	p.size("compress.waiting-at", c.Compress.WaitingAt, 64*units.KiB, units.PiB)
	p.size("compress.rate", c.Compress.Rate, 0, units.TiB)
	p.size("scrub.rate", c.Scrub.Rate, 0, units.TiB)
	if a := c.Scrub.TargetAge; a != 0 {
		p.duration("scrub.target-age", a, scrubAgeMin, scrubAgeMax)
	}
}

func (c *Config) validateRetention(p *problems) {
	r := c.Retention
	keep := r.Keep.keep()
	for _, rule := range keepRules {
		p.integer("retention.keep."+rule.name, *rule.of(&keep), 0, keepMax)
	}
	if len(r.Labels) > labelRulesMax {
		p.add("retention.labels", "has %d labels; want at most %d", len(r.Labels), labelRulesMax)
	}
	for label := range r.Labels {
		if err := checkLabel(label); err != nil {
			p.add("retention.labels", "%v", err)
		}
	}
	if _, err := r.schedule(); err != nil {
		p.add("retention.schedule", "%.80q: %v; want five fields as in cron, such as \"17 3 * * *\", @daily or none", r.Schedule, err)
	}
	if _, err := time.LoadLocation(r.Timezone); err != nil || r.Timezone == "" {
		p.add("retention.timezone", "%.80q: want a name such as Europe/Vienna, UTC or Local", r.Timezone)
	}
}

// checkLabel tells whether a point can have the label key=value.
func checkLabel(label string) error {
	key, value := cutLabel(label)
	return catalog.CheckLabels(map[string]string{key: value})
}

// schedule is when to prune; nil: never.
func (r RetentionConfig) schedule() (cron.Schedule, error) {
	if r.Schedule == None {
		return nil, nil
	}
	return cron.ParseStandard(r.Schedule)
}

// location is whose days retention counts. Validate has looked at it.
func (r RetentionConfig) location() *time.Location {
	l, err := time.LoadLocation(r.Timezone)
	if err != nil {
		return time.UTC
	}
	return l
}
