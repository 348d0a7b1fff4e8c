package catalog

import (
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// Remove removes a point, live or in the trash, durably; its id stays used.
// Images that have it as their parent get that image's own parent, if any, and
// stay whole. Its chunk lists and chunks can be read until Forget.
//
// A point on hold fails with ErrHeld, a locked one with ErrLocked, one that is
// not here or was removed with ErrNotFound; errors matching ErrReadOnly mean
// what they do at Commit.
func (c *Catalog) Remove(id string) error {
	return c.remove(id, func(*Point) error { return nil })
}

// Purge removes a point as Remove does, if it is in the trash and may be purged
// at now. One that was undeleted meanwhile, or went to the trash again, fails
// with ErrInvalid.
func (c *Catalog) Purge(id string, now time.Time) error {
	return c.remove(id, func(p *Point) error {
		if p.Trashed.IsZero() && !mutant.On("catalog/purge-undeleted") || p.Purge.After(now) {
			return invalid("it is not in the trash, or not for long enough")
		}
		return nil
	})
}

// remove removes a point that may go and is as it should be.
func (c *Catalog) remove(id string, check func(*Point) error) error {
	return c.exclusively(func() error {
		_, p, err := getPoint(c.db, id)
		if err != nil {
			return fmt.Errorf("remove: %w", c.whatBecame(id, err))
		}
		if err = check(&p); err == nil {
			err = c.mayGo(&p)
		}
		if err == nil {
			err = c.write((&tombstone{id: id, time: c.now()}).records)
		}
		if err != nil {
			return fmt.Errorf("remove point %s of VM %s: %w", id, p.VM, err)
		}
		return nil
	})
}
