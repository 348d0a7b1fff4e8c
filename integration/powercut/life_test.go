package powercut

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// liveOn does something to the VM's points that makes sense now.
func (d *driver) liveOn() error {
	p := d.anyPoint()
	if p == nil {
		return nil
	}
	switch d.rng.IntN(13) {
	case 0, 1:
		return d.trash(p, 1000*time.Hour)
	case 2:
		return d.trash(p, time.Millisecond)
	case 3:
		return d.undelete()
	case 4, 5:
		return d.remove(p)
	case 6:
		return d.hold(p)
	case 7:
		return d.release(p)
	case 8:
		return d.lock(p, 100*time.Hour)
	case 9:
		return d.setPolicy(1 + d.rng.IntN(60))
	case 10:
		return d.mergeAny()
	case 11:
		return d.compress()
	}
	return d.collect()
}

// anyPoint is a point of the VM that no session needs and that does not go by
// itself, when there are more than two.
func (d *driver) anyPoint() *point {
	var mine []*point
	d.m.set(func() {
		for _, p := range d.m.points[d.vm] {
			if !p.expires {
				mine = append(mine, p)
			}
		}
		if d.m.next[d.vm] != nil { // nobody knows what there is
			mine = nil
		}
	})
	if len(mine) < 3 {
		return nil
	}
	p := mine[d.rng.IntN(len(mine))]
	if len(d.e.InUse(p.id)) > 0 {
		return nil
	}
	return p
}

// alter makes a call that replaces a point by another, nil for none. refusal,
// when not nil, is what the call must fail with.
func (d *driver) alter(what string, p, next *point, refusal error, call func() error) error {
	if refusal == nil {
		d.m.propose(p.vm, replaced(d.m.points[p.vm], p.id, next))
	}
	switch err := call(); {
	case refusal != nil && !errors.Is(err, refusal) && err == nil:
		return &broken{fmt.Sprintf("%s of %s was done, though: %v", what, p.id, refusal)}
	case refusal != nil && errors.Is(err, refusal):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	d.m.accept(p.vm)
	return nil
}

// broken is a promise broken, whatever fault was injected.
type broken struct{ what string }

func (e *broken) Error() string { return e.what }

// refusalOf is what keeps a point from going.
func (p *point) refusalOf() error {
	switch {
	case p.hold != "":
		return catalog.ErrHeld
	case !p.locked.IsZero():
		return catalog.ErrLocked
	}
	return nil
}

func (d *driver) trash(p *point, keep time.Duration) error {
	if p.trashed {
		return nil
	}
	next := p.with(func(p *point) { p.trashed, p.expires = true, keep < time.Second })
	return d.alter("trash", p, next, p.refusalOf(), func() error { return d.e.Trash(p.id, now().Add(keep)) })
}

func (d *driver) undelete() error {
	for _, p := range d.m.points[d.vm] {
		if p.trashed && !p.expires {
			return d.alter("undelete", p, p.with(func(p *point) { p.trashed = false }), nil, func() error { return d.e.cat.Undelete(p.id) })
		}
	}
	return nil
}

func (d *driver) remove(p *point) error {
	return d.alter("remove", p, nil, p.refusalOf(), func() error { return d.e.Remove(p.id) })
}

func (d *driver) hold(p *point) error {
	if p.trashed {
		return nil
	}
	reason := fmt.Sprintf("case %d", d.rng.IntN(100))
	return d.alter("hold", p, p.with(func(p *point) { p.hold = reason }), nil, func() error { return d.e.cat.Hold(p.id, reason) })
}

func (d *driver) release(p *point) error {
	return d.alter("release", p, p.with(func(p *point) { p.hold = "" }), nil, func() error { return d.e.cat.Release(p.id) })
}

// lock locks a point, or tries to shorten its lock.
func (d *driver) lock(p *point, until time.Duration) error {
	if p.trashed {
		return nil
	}
	t := now().Add(until)
	var refusal error
	if t.Before(p.locked) {
		refusal = catalog.ErrLocked
	}
	return d.alter("lock", p, p.with(func(p *point) { p.locked = t }), refusal, func() error { return d.e.cat.Lock(p.id, t) })
}

func (d *driver) setPolicy(n int) error {
	d.m.set(func() {
		was := d.m.policy[d.vm]
		if was == nil {
			was = []int{0}
		}
		d.m.policy[d.vm] = append(slices.Clone(was), n)
	})
	if err := d.e.cat.SetPolicy(d.vm, catalog.Policy{FullAfter: &n}); err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	d.m.set(func() { d.m.policy[d.vm] = []int{n} })
	return nil
}

// mergeAny merges two images of a line of the VM, if it has such.
func (d *driver) mergeAny() error {
	disk := []string{"vda", "vdb"}[d.rng.IntN(2)]
	line, err := d.line(disk)
	if err != nil || len(line) < 2 {
		return err
	}
	i := d.rng.IntN(len(line) - 1)
	j := i + 1 + d.rng.IntN(len(line)-1-i)
	return d.merge(disk, line[i:j+1], d.rng.IntN(2) == 0)
}

// line is the newest line of images of a disk, oldest first, as far as merging
// is allowed.
func (d *driver) line(disk string) (line []*point, err error) {
	latest, found, err := d.e.cat.Latest(d.vm, disk)
	for id := latest.ID; err == nil && found && id != ""; {
		var p *point
		d.m.set(func() { p = d.m.find(id) })
		if p == nil {
			return nil, fmt.Errorf("parent %s is no point", id)
		}
		if p.trashed || p.protected() || len(d.e.InUse(id)) > 0 {
			break
		}
		line = append(line, p)
		var got catalog.Point
		if got, err = d.e.cat.Point(id); err == nil {
			id = parentOf(&got, disk)
		}
	}
	slices.Reverse(line)
	return line, err
}

func parentOf(p *catalog.Point, disk string) string {
	for _, im := range p.Images {
		if im.Disk == disk {
			return im.Parent
		}
	}
	return ""
}

// merge makes one image of a line, oldest first: with commit the oldest, with
// the newest's content, else the newest as it is.
func (d *driver) merge(disk string, line []*point, commit bool) error {
	base, top := line[0], line[len(line)-1]
	req := catalog.MergeRequest{VM: d.vm, Disk: disk, From: base.id, Into: top.id}
	gone := line[:len(line)-1]
	if commit {
		req.From, req.Into, gone = top.id, base.id, line[1:]
	}
	next := slices.Clone(d.m.points[d.vm])
	var touched []string
	for _, p := range gone {
		touched = append(touched, p.id)
		rest := p.with(func(q *point) { q.images = without(p.images, disk) })
		if len(rest.images) == 0 {
			rest = nil
		}
		next = replaced(next, p.id, rest)
	}
	if commit {
		touched = append(touched, base.id)
		next = replaced(next, base.id, base.with(func(p *point) {
			p.images = without(base.images, disk)
			p.images[disk] = top.images[disk]
		}))
	}
	d.m.propose(d.vm, next)
	if _, err := d.e.Merge(req, func() ([]string, error) { return touched, nil }); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	d.m.accept(d.vm)
	return nil
}

func without(images map[string]content, disk string) map[string]content {
	out := map[string]content{}
	for name, c := range images {
		if name != disk {
			out[name] = c
		}
	}
	return out
}

// collect frees space beside whatever the other VMs do.
func (d *driver) collect() error {
	if err := d.e.collect(); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return nil
}
