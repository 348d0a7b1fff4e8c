package catalog

import "time"

// EachPoint calls visit for the points of vm committed later than after, oldest
// first, until it returns false; for those of all VMs, in the order of their
// names, if vm is "".
func (c *Catalog) EachPoint(vm string, after time.Time, visit func(*Point) bool) error {
	return errUnfinished
}
