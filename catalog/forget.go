package catalog

// Removed returns the points that have been removed and not forgotten.
func (c *Catalog) Removed() ([]string, error) { return nil, errUnfinished }

// Forget drops the chunk references of removed points, durably.
func (c *Catalog) Forget(ids ...string) error { return errUnfinished }
