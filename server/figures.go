package server

import (
	"context"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/metrics"
)

// figuresLoop counts for the metrics what would be too much to count at every
// scrape. However large the store, it works a small share of the time.
func (s *Server) figuresLoop() {
	for {
		begun := time.Now()
		f, err := countFigures(s.ctx, s.engines.cat, s.clock())
		switch {
		case err == nil:
			s.figures.Store(&f)
		case s.ctx.Err() == nil:
			s.log.Error("figures for the metrics could not be counted; those from before stay", keyError, err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(max(figuresEvery, figuresShare*time.Since(begun))):
		}
	}
}

// lastFigures are empty until they have been counted once.
func (s *Server) lastFigures() metrics.Figures {
	if f := s.figures.Load(); f != nil {
		return *f
	}
	return metrics.Figures{}
}

// countFigures reads every point once, and asks what each VM and disk takes.
func countFigures(ctx context.Context, cat *catalog.Catalog, now time.Time) (f metrics.Figures, err error) {
	vms, err := cat.VMs()
	if err != nil {
		return f, err
	}
	for _, vm := range vms {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		if err := countVM(cat, vm, now, &f); err != nil {
			return f, err
		}
	}
	u, err := cat.StoreUsage()
	f.Store, f.Counted = figuresOf(u), now
	return f, err
}

func countVM(cat *catalog.Catalog, vm catalog.VM, now time.Time, f *metrics.Figures) error {
	c := chainCounter{now: now, depth: map[chainKey]int{}, newest: map[string]int{}, f: f}
	if err := cat.EachPoint(vm.Name, time.Time{}, c.point); err != nil {
		return err
	}
	for _, length := range c.newest {
		f.LongestChain = max(f.LongestChain, length)
	}
	if len(f.Disks)+len(vm.Disks) > figuresMax {
		f.Omitted += len(vm.Disks)
		return nil
	}
	u, err := cat.VMUsage(vm.Name)
	if err != nil {
		return err
	}
	f.VMs = append(f.VMs, metrics.VMFigures{VM: vm.Name, Points: vm.Points, Usage: figuresOf(u)})
	for _, d := range vm.Disks {
		u, err := cat.DiskUsage(vm.Name, d.Disk)
		if err != nil {
			return err
		}
		f.Disks = append(f.Disks, metrics.DiskFigures{VM: vm.Name, Disk: d.Disk, Chain: c.newest[d.Disk], Usage: figuresOf(u)})
	}
	return nil
}

func figuresOf(u catalog.Usage) metrics.Usage {
	return metrics.Usage{Logical: u.Logical, UniqueStored: u.UniqueStored, SharedStored: u.SharedStored}
}

// chainCounter finds how many images hang on one another, over a VM's points
// from the oldest on.
type chainCounter struct {
	now    time.Time
	depth  map[chainKey]int // images of the chain that ends there
	newest map[string]int   // by disk: of that which ends in its newest image
	f      *metrics.Figures
}

type chainKey struct{ point, disk string }

func (c *chainCounter) point(p *catalog.Point) bool {
	if p.Manual {
		c.f.Manual++
	}
	if p.Hold != "" {
		c.f.Held++
	}
	if p.LockedUntil.After(c.now) {
		c.f.Locked++
	}
	for _, im := range p.Images {
		length := 1 + c.depth[chainKey{im.Parent, im.Disk}]
		c.depth[chainKey{p.ID, im.Disk}], c.newest[im.Disk] = length, length
	}
	return true
}
