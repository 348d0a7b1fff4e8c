package maintenance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// PruneRequest applies keep rules.
type PruneRequest struct {
	Trigger Trigger         // OnRequest when empty
	VM      string          // empty: every VM
	DryRun  bool            // decide, remove nothing
	Keep    *retention.Keep // overrules the policies, label rules included
}

// PruneResult is every point that was looked at, by VM, oldest first.
type PruneResult struct {
	Points  []PrunePoint
	Kept    int
	Removed int // into the trash or for good; in a dry run, that would be
}

// PrunePoint is a point and why it stays or goes.
type PrunePoint struct {
	Point, VM string
	Time      time.Time
	Labels    map[string]string
	Group     string // the label rule it falls under, "key=value"; empty: the VM's
	Keep      bool
	Reason    string
	Err       error // why a point that was to go is still there
}

// Prune decides what stays by the policies and removes the rest. A point that
// cannot be removed has its Err and does not stop the others. ErrBusy while
// another is running; dry runs may be any number.
func (e *Engine) Prune(ctx context.Context, r PruneRequest) (res PruneResult, err error) {
	if r.Keep != nil {
		if err := r.Keep.Validate(); err != nil {
			return res, fmt.Errorf("%w: %v", ErrBadRequest, err)
		}
	}
	vms, err := e.vmsToPrune(r.VM)
	if err != nil {
		return res, err
	}
	if r.DryRun {
		err = e.decideAll(ctx, &r, vms, &res)
		return res, err
	}
	ctx, run, err := e.begin(ctx, Prune, r.Trigger, "points")
	if err != nil {
		return res, err
	}
	defer func() {
		e.count(func(s *Stats) {
			s.Prune.add(err)
			s.Prune.LastRun = e.now()
			s.Prune.Pruned += uint64(res.Removed)
		})
		now := res
		run.change(func(j *Job) { j.Prune = &now })
		run.end(err)
	}()
	run.phase("decide")
	if err := e.decideAll(ctx, &r, vms, &res); err != nil {
		res.Removed = 0
		return res, err
	}
	run.phase("remove")
	err = e.removeDecided(ctx, run, &res)
	return res, err
}

// vmsToPrune are the VMs a request means.
func (e *Engine) vmsToPrune(vm string) (names []string, err error) {
	vms, err := e.cat.VMs()
	if err != nil {
		return nil, err
	}
	for _, v := range vms {
		if vm == "" || v.Name == vm {
			names = append(names, v.Name)
		}
	}
	if vm != "" && len(names) == 0 {
		return nil, fmt.Errorf("VM %s %w: it has no point", vm, catalog.ErrNotFound)
	}
	return names, nil
}

func (e *Engine) decideAll(ctx context.Context, r *PruneRequest, vms []string, res *PruneResult) error {
	for _, vm := range vms {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := e.decideVM(vm, r.Keep)
		if err != nil {
			return fmt.Errorf("prune VM %s: %w", vm, err)
		}
		for _, p := range list {
			if p.Keep {
				res.Kept++
			} else {
				res.Removed++
			}
		}
		res.Points = append(res.Points, list...)
	}
	return nil
}

// decideVM says of every point of a VM whether it stays.
func (e *Engine) decideVM(vm string, keep *retention.Keep) ([]PrunePoint, error) {
	set, err := e.Settings(vm)
	if err != nil {
		return nil, err
	}
	if keep != nil {
		set.Keep, set.LabelKeep = *keep, nil
	}
	points, err := e.cat.Points(vm)
	if err != nil {
		return nil, err
	}
	list := decide(points, &set, e.config.Location, e.exempt)
	if set.StrictChains {
		trash, err := e.trashOf(vm)
		if err != nil {
			return nil, err
		}
		applyStrict(list, points, trash)
	}
	return list, nil
}

// decide applies keep rules to each group of points: those a label rule names,
// and the rest. The result is in the order of points.
func decide(points []catalog.Point, set *Settings, loc *time.Location, exempt func(*catalog.Point) string) []PrunePoint {
	labels := slices.Sorted(maps.Keys(set.LabelKeep))
	groups := map[string][]int{}
	list := make([]PrunePoint, len(points))
	for i := range points {
		p := &points[i]
		g := groupOf(p, labels)
		groups[g] = append(groups[g], i)
		list[i] = PrunePoint{Point: p.ID, VM: p.VM, Time: p.Time, Labels: p.Labels, Group: g}
	}
	for g, members := range groups {
		keep := set.Keep
		if g != "" {
			keep = set.LabelKeep[g]
		}
		in := make([]retention.Point, len(members))
		for n, i := range members {
			in[n] = retention.Point{ID: points[i].ID, Time: points[i].Time, Exempt: exempt(&points[i])}
		}
		for n, v := range retention.Evaluate(in, keep, loc) {
			list[members[n]].Keep, list[members[n]].Reason = v.Keep, v.Reason
		}
	}
	return list
}

// groupOf is the first label rule, by name, that names the point.
func groupOf(p *catalog.Point, labels []string) string {
	for _, l := range labels {
		if key, value, ok := cutLabel(l); ok {
			if v, has := p.Labels[key]; has && v == value {
				return l
			}
		}
	}
	return ""
}

func cutLabel(l string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(l, "=")
	return key, value, ok && key != ""
}

// exempt is why a point stays whatever the rules say.
func (e *Engine) exempt(p *catalog.Point) string {
	switch {
	case p.Hold != "":
		return "held: " + p.Hold
	case p.LockedUntil.After(e.now()) && !mutant.On("maintenance/prune-ignores-lock"):
		return "locked until " + p.LockedUntil.UTC().Format(time.RFC3339)
	case p.Manual:
		return "made by hand"
	}
	if users := e.vols.InUse(p.ID); len(users) > 0 {
		if st, err := e.vols.Status(users[0]); err == nil && st.Clone {
			return "clone " + users[0] + " is made of it"
		}
		return "parent of the open backup " + users[0]
	}
	return ""
}

// removeDecided removes the points that are to go, the newest first: with
// strict-chains none goes before those that hang on it.
func (e *Engine) removeDecided(ctx context.Context, run *run, res *PruneResult) error {
	var errs []error
	total, done := int64(res.Removed), int64(0)
	res.Removed = 0
	for i := range slices.Backward(res.Points) {
		p := &res.Points[i]
		if p.Keep {
			continue
		}
		if err := ctx.Err(); err != nil {
			p.Err = err
			errs = append(errs[:0], err)
			continue
		}
		if p.Err = e.take(p.Point, p.VM, "pruned: "+p.Reason); p.Err == nil {
			res.Removed++
		} else if !isProtected(p.Err) {
			errs = append(errs, fmt.Errorf("point %s of VM %s: %w", p.Point, p.VM, p.Err))
		}
		done++
		run.progress(done, total)
	}
	return errors.Join(errs...)
}

// take puts a point into its VM's trash, or removes it when there is none.
func (e *Engine) take(id, vm, reason string) error {
	p, err := e.cat.Point(id)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && !p.Trashed.IsZero() {
		return nil // somebody else did
	}
	if err != nil {
		return err
	}
	d, err := e.discard(&p, false)
	if err != nil {
		return err
	}
	p.Purge = d.Purge
	if f := e.events.Trashed; f != nil {
		f(p, reason)
	}
	return nil
}
