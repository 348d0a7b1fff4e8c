package life

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/volume"
)

// cloneSessions is a copy of the model's sessions that later changes leave alone.
func (h *history) cloneSessions() (out []*session) {
	for _, s := range h.sessions {
		n := &session{id: s.id, blob: s.blob, clean: s.clean, base: s.base}
		for _, d := range s.disks {
			e := *d
			e.want = d.want.clone()
			n.disks = append(n.disks, &e)
		}
		n.keeps, n.files = s.keeps, cloneFiles(s.files)
		out = append(out, n)
	}
	return out
}

// decide finds out whether an operation that a crash came into was done: the
// points are as before it or as after it, or, when it is done in parts, some are
// as before and some as after. It sets the model right.
func (h *history) decide(before, after points, partly bool) error {
	if err := h.commits(after); err != nil {
		return err
	}
	errBefore := h.is(before)
	if errBefore == nil {
		h.settled(before, before)
		return nil
	}
	errAfter := h.is(after)
	if errAfter == nil {
		h.settled(before, after)
		return nil
	}
	// What was due to leave the trash may have done so in between.
	for _, p := range before {
		partly = partly || h.expired(p)
	}
	if !partly {
		return fmt.Errorf("neither as before (%w) nor as after (%w)", errBefore, errAfter)
	}
	now, err := h.partly(before, after)
	if err == nil {
		err = h.is(now)
	}
	if err != nil {
		return fmt.Errorf("neither as before (%w), as after (%w) nor in between (%w)", errBefore, errAfter, err)
	}
	h.settled(before, now)
	return nil
}

// settled makes ps the model and remembers what is gone.
func (h *history) settled(before, ps points) {
	for _, p := range before {
		if ps.find(p.id) == nil {
			h.gone = append(h.gone, p.id)
		}
	}
	h.points = ps
}

// commits takes sessions out of the model whose commit was done.
func (h *history) commits(after points) error {
	for _, s := range slices.Clone(h.sessions) {
		st, err := h.w.vols.Status(s.id)
		switch {
		case errors.Is(err, volume.ErrNoSession):
			return fmt.Errorf("session %s is lost", s.id)
		case err != nil:
			return err
		case st.State == volume.Committed:
			if after.find(st.Point) == nil {
				return fmt.Errorf("session %s is committed as %s", s.id, st.Point)
			}
			h.drop(s)
		case st.State == volume.Aborted:
			h.drop(s)
		case st.State == volume.Dead:
			s.clean = s.clean && after.find(st.Point) == nil
		}
	}
	return nil
}

// partly makes the model that lies between before and after and fits what is
// here.
func (h *history) partly(before, after points) (points, error) {
	now := before
	for _, p := range before {
		got, err := h.w.cat.Point(p.id)
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			if !h.expired(p) && after.find(p.id) != nil {
				return nil, fmt.Errorf("point %s is gone", p.id)
			}
			now = now.without(p.id)
		case err != nil:
			return nil, err
		case got.Trashed.IsZero() == p.trashed:
			if a := after.find(p.id); a != nil && a.trashed != p.trashed {
				now = now.with(p.id, func(p *point) { p.trashed, p.purge = a.trashed, a.purge })
			}
		}
	}
	for _, p := range after {
		if before.find(p.id) != nil {
			continue
		}
		if _, err := h.w.cat.Point(p.id); err == nil {
			n := *p
			n.images = maps.Clone(p.images)
			now = append(slices.Clone(now), &n)
		}
	}
	return now, nil
}
