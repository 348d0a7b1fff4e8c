package catalog

import "time"

// Hold keeps a point from going until Release.
func (c *Catalog) Hold(id, reason string) error { return errUnfinished }

// Release ends a hold.
func (c *Catalog) Release(id string) error { return errUnfinished }

// Lock keeps a point from going until a date, which can only be put off.
func (c *Catalog) Lock(id string, until time.Time) error { return errUnfinished }
