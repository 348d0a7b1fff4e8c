package catalog

import "fmt"

// Remove forgets a point, its images and blobs, durably. Points that name it
// as their parent stay whole. Chunk records stay: which of them nobody needs
// is found out by the garbage collection. An id that is not here fails with
// ErrNotFound; errors matching ErrReadOnly mean what they do at Commit.
func (c *Catalog) Remove(id string) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	c.commit.Lock()
	defer c.commit.Unlock()
	if err := c.Err(); err != nil {
		return fmt.Errorf("remove point %s: %w", id, err)
	}
	if _, err := getPlace(c.db, id); err != nil {
		return err
	}
	t := tombstone{id: id, time: c.now()}
	if err := c.write(t.records); err != nil {
		return fmt.Errorf("remove point %s: %w", id, err)
	}
	return nil
}
