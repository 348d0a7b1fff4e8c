package life

import (
	"context"
	"errors"
	"fmt"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/maintenance"
)

// prune applies keep rules, first as a dry run.
func (h *history) prune() error {
	if len(h.points.live()) < 4 {
		return nil
	}
	keep := retention.Keep{Last: h.rng.IntN(3), Hourly: h.rng.IntN(4), Daily: h.rng.IntN(4), Weekly: h.rng.IntN(2)}
	h.note("prune by %+v", keep)
	request := maintenance.PruneRequest{VM: h.vm, Keep: &keep, DryRun: true}
	dry, err := h.w.maint.Prune(context.Background(), request)
	if err != nil {
		return fmt.Errorf("dry run of a prune: %w", err)
	}
	want, err := h.decidePrune(&keep)
	if err == nil {
		err = h.comparePrune(want, &dry)
	}
	if err != nil {
		return fmt.Errorf("dry run by %+v: %w", keep, err)
	}
	request.DryRun = false
	r, err := h.w.maint.Prune(context.Background(), request)
	if errors.Is(err, maintenance.ErrBusy) && h.s.concurrent {
		return nil
	}
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	if err := h.comparePrune(want, &r); err != nil {
		return fmt.Errorf("prune by %+v: %w", keep, err)
	}
	for _, p := range r.Points {
		switch {
		case p.Keep:
		case p.Err == nil:
			h.note("%s is pruned", p.Point)
			h.discard(p.Point, false)
		default:
			return fmt.Errorf("prune: point %s: %w", p.Point, p.Err)
		}
	}
	return nil
}

// decidePrune applies the rules to the model.
func (h *history) decidePrune(keep *retention.Keep) ([]retention.Verdict, error) {
	var list []retention.Point
	for _, p := range h.points.live() {
		got, err := h.w.cat.Point(p.id)
		if err != nil {
			return nil, err
		}
		rp := retention.Point{ID: p.id, Time: got.Time}
		if p.manual || p.protected(h.c.now()) || h.inUse(p.id) {
			rp.Exempt = "it must stay"
		}
		list = append(list, rp)
	}
	return retention.Evaluate(list, *keep, nil), nil
}

// comparePrune holds a prune's decisions against the model's.
func (h *history) comparePrune(want []retention.Verdict, r *maintenance.PruneResult) error {
	if len(r.Points) != len(want) {
		return fmt.Errorf("it looks at %d points, want %d", len(r.Points), len(want))
	}
	for i, w := range want {
		got := r.Points[i]
		strict := h.s.settings.StrictChains && got.Keep && !w.Keep
		if got.Point != w.ID || got.Keep != w.Keep && !strict || got.Reason == "" {
			return fmt.Errorf("%+v, want %+v", got, w)
		}
	}
	return nil
}

// same reports what differs between a point and the model's idea of it.
func same(got *catalog.Point, want *point) error {
	switch {
	case got.ID != want.id || got.VM != want.vm:
		return fmt.Errorf("point %s of VM %s, want %s of %s", got.ID, got.VM, want.id, want.vm)
	case got.Manual != want.manual, got.Hold != want.hold, !got.LockedUntil.Equal(want.locked):
		return fmt.Errorf("point %s: %+v, want %+v", got.ID, got.Attributes, want)
	case got.Trashed.IsZero() == want.trashed, !got.Purge.Equal(want.purge):
		return fmt.Errorf("point %s: in the trash since %v until %v, want %v until %v", got.ID, got.Trashed, got.Purge, want.trashed, want.purge)
	case len(got.Images) != len(want.images):
		return fmt.Errorf("point %s has %d images, want %d", got.ID, len(got.Images), len(want.images))
	}
	for _, im := range got.Images {
		w, ok := want.images[im.Disk]
		if !ok || im.Parent != w.parent || im.Size != w.size {
			return fmt.Errorf("point %s, disk %s: parent %q, %d bytes, want %q, %d", got.ID, im.Disk, im.Parent, im.Size, w.parent, w.size)
		}
	}
	return sameFiles(got, want)
}
