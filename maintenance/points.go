package maintenance

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// Deleted is a point that was deleted.
type Deleted struct {
	Point catalog.Point
	Purge time.Time // when it leaves the trash for good; zero: it is gone
}

// resolve finds a point by a reference. A point in the trash is found by its
// whole id.
func (e *Engine) resolve(text string) (catalog.Point, catalog.Ref, error) {
	ref, err := catalog.ParseRef(text)
	if err != nil {
		return catalog.Point{}, ref, fmt.Errorf("%w: %v", ErrBadRequest, err)
	}
	if ref.VM == "" {
		p, err := e.cat.Point(ref.Point)
		return p, ref, err
	}
	p, err := e.cat.Resolve(ref)
	return p, ref, err
}

// whole is resolve for what concerns points, not their disks.
func (e *Engine) whole(text string) (catalog.Point, error) {
	p, ref, err := e.resolve(text)
	if err == nil && ref.Disk != "" {
		err = fmt.Errorf("%w: %s names a disk; points stay and go whole, with all their disks", ErrBadRequest, text)
	}
	return p, err
}

// Delete deletes the point of a reference or id. It goes to the trash for as
// long as its VM's policy says, or for good when that is not at all or now is
// set; a point in the trash goes for good when now is set. Space comes back with
// the next collection, which begins by itself. Errors wrap catalog.ErrNotFound,
// ErrHeld, ErrLocked, volume.ErrInUse or ErrStrictChains.
func (e *Engine) Delete(ref string, now bool) (Deleted, error) {
	p, err := e.whole(ref)
	if err != nil {
		return Deleted{}, err
	}
	if !p.Trashed.IsZero() && !now {
		return Deleted{Point: p, Purge: p.Purge}, nil
	}
	d, err := e.discard(&p, now)
	if err == nil {
		e.count(func(s *Stats) { s.Prune.Deleted++ })
	}
	return d, err
}

// discard lets a point go by its VM's policy.
func (e *Engine) discard(p *catalog.Point, now bool) (Deleted, error) {
	set, err := e.Settings(p.VM)
	if err != nil {
		return Deleted{}, err
	}
	if set.StrictChains && p.Trashed.IsZero() {
		if err := e.strictly(p); err != nil {
			return Deleted{}, err
		}
	}
	if now || set.TrashKeep == 0 {
		return Deleted{Point: *p}, e.vols.Remove(p.ID)
	}
	purge := e.purgeTime(&set)
	if err := e.vols.Trash(p.ID, purge); err != nil {
		return Deleted{}, err
	}
	return Deleted{Point: *p, Purge: purge}, nil
}

// strictly refuses to let a point go that strict-chains keeps.
func (e *Engine) strictly(p *catalog.Point) error {
	points, err := e.cat.Points(p.VM)
	if err != nil {
		return err
	}
	trash, err := e.trashOf(p.VM)
	if err != nil {
		return err
	}
	s := newStrict(points, trash)
	s.goes[p.ID] = true
	if why := s.needed(p); why != "" {
		return fmt.Errorf("%w: point %s of VM %s: %s; delete from the end of the chain after a newer full backup, or switch strict-chains off", ErrStrictChains, p.ID, p.VM, why)
	}
	return nil
}

// Undelete takes a point out of the trash, by its id.
func (e *Engine) Undelete(id string) (catalog.Point, error) {
	p, err := e.change(id, e.cat.Undelete)
	if err == nil {
		e.count(func(s *Stats) { s.Prune.Undeleted++ })
	}
	return p, err
}

// Trash lists the deleted points, first the one that goes for good first.
func (e *Engine) Trash() ([]catalog.Point, error) { return e.cat.TrashList() }

// trashOf are the deleted points of a VM.
func (e *Engine) trashOf(vm string) (list []catalog.Point, err error) {
	all, err := e.cat.TrashList()
	for _, p := range all {
		if p.VM == vm {
			list = append(list, p)
		}
	}
	return list, err
}

// lookAtTrash brings its figures up to date.
func (e *Engine) lookAtTrash() error {
	list, err := e.cat.TrashList()
	if err != nil {
		return err
	}
	t := TrashStats{Points: len(list)}
	if len(list) > 0 {
		ids := make([]string, len(list))
		for i, p := range list {
			ids[i] = p.ID
		}
		u, err := e.cat.Usage(ids...)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) { // removed meanwhile
			return err
		}
		t.Bytes = u.UniqueStored
	}
	e.count(func(s *Stats) { s.Trash = t })
	return nil
}

// Hold keeps a point until it is released, whatever the rules say.
func (e *Engine) Hold(ref, reason string) (catalog.Point, error) {
	return e.change(ref, func(id string) error { return e.cat.Hold(id, reason) })
}

// Release ends a hold.
func (e *Engine) Release(ref string) (catalog.Point, error) { return e.change(ref, e.cat.Release) }

// Lock keeps a point until a time that can only be moved on.
func (e *Engine) Lock(ref string, until time.Time) (catalog.Point, error) {
	return e.change(ref, func(id string) error { return e.cat.Lock(id, until) })
}

// change does something to a point and returns it as it is then.
func (e *Engine) change(ref string, how func(id string) error) (catalog.Point, error) {
	p, err := e.whole(ref)
	if err != nil {
		return p, err
	}
	if err := how(p.ID); err != nil {
		return p, err
	}
	return e.cat.Point(p.ID)
}
