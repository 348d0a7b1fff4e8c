package catalog

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// EachPoint calls visit for the live points of vm committed later than after,
// oldest first, until it returns false; for those of all VMs, in the order of
// their names, if vm is "". The point is visit's to keep.
//
// It holds few points and no view of the database while visit runs, so that
// visit may take its time and change the catalog. A point committed or deleted
// meanwhile may be visited or not.
func (c *Catalog) EachPoint(vm string, after time.Time, visit func(*Point) bool) error {
	lower, upper := eachBounds(vm, after)
	for {
		points, next, err := c.somePoints(lower, upper, after)
		if err != nil {
			return err
		}
		for i := range points {
			if !visit(&points[i]) {
				return nil
			}
		}
		if next == nil {
			return nil
		}
		lower = next
	}
}

// eachBounds are the keys between which EachPoint looks.
func eachBounds(vm string, after time.Time) (lower, upper []byte) {
	if vm == "" {
		return []byte{keyPoint}, []byte{keyPoint + 1}
	}
	prefix := pointsPrefix(vm)
	return timeBound(vm, after.Truncate(time.Millisecond)), keysAfter(prefix)
}

// somePoints reads up to pageOfPoints points and where to go on, nil at the end.
func (c *Catalog) somePoints(lower, upper []byte, after time.Time) (points []Point, next []byte, err error) {
	if err := c.enter(); err != nil {
		return nil, nil, err
	}
	defer c.leave()
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if len(points) == pageOfPoints {
			return points, append([]byte(nil), it.Key()...), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, unreadable("points", err)
		}
		p, err := decodeStored(v)
		if err != nil {
			return nil, nil, damaged("a point", err)
		}
		if p.Time.After(after) {
			points = append(points, p)
		}
	}
	if err := it.Error(); err != nil {
		return nil, nil, unreadable("points", err)
	}
	return points, nil, nil
}
