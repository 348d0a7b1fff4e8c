package catalog

import "fmt"

// Remove removes a point, live or in the trash, durably; its id stays used.
// Images that have it as their parent get that image's own parent, if any, and
// stay whole. Its chunk lists and chunks can be read until Forget.
//
// A point on hold fails with ErrHeld, a locked one with ErrLocked, one that is
// not here or was removed with ErrNotFound; errors matching ErrReadOnly mean
// what they do at Commit.
func (c *Catalog) Remove(id string) error {
	return c.exclusively(func() error {
		_, p, err := getPoint(c.db, id)
		if err != nil {
			return fmt.Errorf("remove: %w", c.whatBecame(id, err))
		}
		if err = c.mayGo(&p); err == nil {
			err = c.write((&tombstone{id: id, time: c.now()}).records)
		}
		if err != nil {
			return fmt.Errorf("remove point %s of VM %s: %w", id, p.VM, err)
		}
		return nil
	})
}
