package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/internal/ids"
)

// Resolve finds the point a reference names. An error matching ErrNotFound
// says what there is instead; one matching ErrInvalid that the reference is
// malformed or an id prefix ambiguous.
func (c *Catalog) Resolve(ref Ref) (Point, error) {
	if err := c.enter(); err != nil {
		return Point{}, err
	}
	defer c.leave()
	snap := c.db.NewSnapshot()
	defer snap.Close()
	p, err := resolve(snap, ref)
	if err != nil {
		return Point{}, fmt.Errorf("reference %s: %w", ref, err)
	}
	return p, nil
}

func resolve(r pebble.Reader, ref Ref) (Point, error) {
	if ref.VM == "" {
		return resolveID(r, ref.Point)
	}
	sel, err := parseSelector(ref.Point)
	if err != nil {
		return Point{}, invalid("%v; %s", err, refGrammar)
	}
	v, err := getVM(r, ref.VM)
	if err != nil {
		return Point{}, err
	}
	if sel.prefix != "" {
		p, err := byPrefix(r, &v, sel.prefix)
		if err == nil && ref.Disk != "" && !p.has(ref.Disk) {
			err = p.lacks(ref.Disk)
		}
		return p, err
	}
	if v.Points == 0 {
		return Point{}, noPoints(v.Name)
	}
	return byOrder(r, &v, ref.Disk, sel)
}

func noPoints(vm string) error { return fmt.Errorf("VM %s %w: it has no point", vm, ErrNotFound) }

// inTrash is the error for a reference to a point in the trash.
func inTrash(p *Point) error {
	return fmt.Errorf("point %s of VM %s %w: it is in the trash since %s and may be removed from %s on; "+
		"undelete it to use it again (strongroom point undelete %s)", p.ID, p.VM, ErrNotFound,
		p.Trashed.Format(time.RFC3339), p.Purge.Format(time.RFC3339), p.ID)
}

// resolveID finds a point of any VM.
func resolveID(r pebble.Reader, id string) (Point, error) {
	if !ids.IsID(id) {
		return Point{}, invalid("%q is no point id; %s", id, refGrammar)
	}
	_, p, err := getPoint(r, id)
	if err == nil && !p.Trashed.IsZero() {
		return p, inTrash(&p)
	}
	if !errors.Is(err, ErrNotFound) {
		return p, err
	}
	if v, verr := getVM(r, id); verr == nil && v.Points > 0 {
		return p, fmt.Errorf("%w; there is a VM of this name: write %s@latest for its newest point", err, id)
	}
	return p, err
}

// byPrefix finds the only live point of v whose id begins with prefix.
func byPrefix(r pebble.Reader, v *VM, prefix string) (Point, error) {
	var found, trashed []string
	err := scan(r, pointVMKey(prefix), func(key, value []byte) error {
		at, err := decodePlace(value)
		if err != nil {
			return damaged("point "+string(key[1:]), err)
		}
		switch id := string(key[1:]); {
		case at.vm != v.Name:
		case at.trashed:
			trashed = append(trashed, id)
		default:
			found = append(found, id)
		}
		return nil
	})
	switch {
	case err != nil:
		return Point{}, err
	case len(found) > 1:
		return Point{}, invalid("%d points of VM %s begin with %s, such as %s and %s: write more of the id",
			len(found), v.Name, prefix, found[0], found[1])
	case len(found) == 1:
		_, p, err := getPoint(r, found[0])
		return p, err
	case len(trashed) > 0:
		_, p, err := getPoint(r, trashed[0])
		if err == nil {
			err = inTrash(&p)
		}
		return Point{}, err
	case v.Points == 0:
		return Point{}, noPoints(v.Name)
	}
	return Point{}, fmt.Errorf("point %s %w: %s", prefix, ErrNotFound, v)
}

// byOrder walks back from the newest point that counts.
func byOrder(r pebble.Reader, v *VM, disk string, sel selector) (p Point, err error) {
	prefix := pointsPrefix(v.Name)
	bounds := pebble.IterOptions{LowerBound: prefix, UpperBound: keysAfter(prefix)}
	if !sel.until.IsZero() {
		bounds.UpperBound = timeBound(v.Name, sel.until)
	}
	if bytes.Compare(bounds.LowerBound, bounds.UpperBound) >= 0 {
		return p, nothing(v, disk, sel, 0)
	}
	it, err := r.NewIter(&bounds)
	if err != nil {
		return p, err
	}
	defer it.Close()
	seen := 0
	for ok := it.Last(); ok; ok = it.Prev() {
		value, err := it.ValueAndErr()
		if err != nil {
			return p, unreadable("a point of VM "+v.Name, err)
		}
		if p, err = decodeStored(value); err != nil {
			return p, damaged("a point of VM "+v.Name, err)
		}
		if disk != "" && !p.has(disk) {
			continue
		}
		if seen == sel.back {
			return p, nil
		}
		seen++
	}
	if err := it.Error(); err != nil {
		return p, unreadable("a point of VM "+v.Name, err)
	}
	return Point{}, nothing(v, disk, sel, seen)
}

// timeBound is the key of a point committed at t, for any t.
func timeBound(vm string, t time.Time) []byte {
	if t.UnixMilli() < 0 {
		return pointsPrefix(vm)
	}
	return pointKey(vm, t)
}

// nothing says why byOrder found no point.
func nothing(v *VM, disk string, sel selector, seen int) error {
	of := "VM " + v.Name
	if disk != "" {
		of = "disk " + disk + " of VM " + v.Name
	}
	switch {
	case !sel.until.IsZero():
		return fmt.Errorf("point of %s before %s %w: %s", of, sel.until.UTC().Format(time.RFC3339Nano), ErrNotFound, v)
	case disk != "" && seen == 0:
		return fmt.Errorf("%s %w: %s", of, ErrNotFound, v)
	default:
		return fmt.Errorf("latest~%d of %s %w: only %d points have it; %s", sel.back, of, ErrNotFound, seen, v)
	}
}

// String says what there is, for error messages.
func (v *VM) String() string {
	disks := ""
	for i, d := range v.Disks {
		if i > 0 {
			disks += ", "
		}
		disks += d.Disk
	}
	return fmt.Sprintf("VM %s has %d points, the newest %s of %s, and disks %s",
		v.Name, v.Points, v.Latest, v.LatestTime.Format(time.RFC3339Nano), disks)
}
