package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Trash puts a point into the trash, durably: it is not listed or found by a
// reference any more, all else of it stays, and Undelete brings it back. From
// purge on (kept in milliseconds) it may be removed; somebody else does that.
//
// A point on hold fails with ErrHeld and a locked one with ErrLocked. One that
// is in the trash stays there as it is.
func (c *Catalog) Trash(id string, purge time.Time) error {
	if err := checkTime(purge); err != nil {
		return fmt.Errorf("trash point %s: when it may be purged: %w", id, err)
	}
	return c.describe("trash", id, func(p *Point) error {
		if !p.Trashed.IsZero() {
			return nil
		}
		p.Trashed, p.Purge = c.now(), purge.UTC().Truncate(time.Millisecond)
		return c.mayGo(p)
	})
}

// Undelete brings a point back from the trash, durably; one that is not in the
// trash stays as it is.
func (c *Catalog) Undelete(id string) error {
	return c.describe("undelete", id, func(p *Point) error {
		p.Trashed, p.Purge = time.Time{}, time.Time{}
		if mutant.On("catalog/undelete-forgets") {
			p.Attributes = Attributes{}
		}
		return nil
	})
}

// TrashList returns the points in the trash of all VMs, those to be purged
// first first.
func (c *Catalog) TrashList() (points []Point, err error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	err = eachTrashed(c.db, "", func(p *Point) error {
		points = append(points, *p)
		return nil
	})
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(a.Purge.Compare(b.Purge), cmp.Compare(a.ID, b.ID))
	})
	return points, err
}

// checkTime refuses times that cannot be kept or printed.
func checkTime(t time.Time) error {
	if ms := t.UnixMilli(); ms <= 0 || ms > maxTime {
		return invalid("%s: want a time between 1970 and 9999", t.UTC().Format(time.RFC3339))
	}
	return nil
}

// describe lets change alter a point's attributes and makes that durable.
func (c *Catalog) describe(what, id string, change func(*Point) error) error {
	return c.exclusively(func() error {
		_, p, err := getPoint(c.db, id)
		if err != nil {
			return fmt.Errorf("%s: %w", what, c.whatBecame(id, err))
		}
		before := p.Attributes
		if err = change(&p); err == nil && p.Attributes != before {
			err = c.write((&described{id, p.Attributes}).records)
		}
		if err != nil {
			return fmt.Errorf("%s point %s of VM %s: %w", what, id, p.VM, err)
		}
		return nil
	})
}

// whatBecame adds to an error that a point is not here that it was removed.
func (c *Catalog) whatBecame(id string, err error) error {
	b, gerr := get(c.db, removedKey(id))
	if gerr != nil {
		return err
	}
	d := decoder{b: b}
	return fmt.Errorf("%w: it was removed at %s", err, d.time().Format(time.RFC3339))
}
