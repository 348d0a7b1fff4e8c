package catalog

import (
	"errors"
	"time"
)

var errUnfinished = errors.New("unfinished")

// Trash puts a point into the trash, from where it may be removed from purge on.
func (c *Catalog) Trash(id string, purge time.Time) error { return errUnfinished }

// Undelete brings a point back from the trash.
func (c *Catalog) Undelete(id string) error { return errUnfinished }

// TrashList returns the points in the trash, those to be purged first first.
func (c *Catalog) TrashList() ([]Point, error) { return nil, errUnfinished }
