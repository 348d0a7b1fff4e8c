package catalog

// exclusively calls do while no other change of the catalog is under way.
func (c *Catalog) exclusively(do func() error) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	c.commit.Lock()
	defer c.commit.Unlock()
	if err := c.Err(); err != nil {
		return err
	}
	return do()
}
