package offline

import (
	"errors"

	"github.com/strongroom-backup/strongroom/catalog"
)

// List returns the points of a VM, of all VMs when vm is "", oldest first.
func (s *Store) List(vm string) ([]catalog.Point, error) { return s.cat.Points(vm) }

// Trash returns the points that are deleted and not yet purged, by the time
// they will be. Export gives their disks and files back when it is given their ids.
func (s *Store) Trash() ([]catalog.Point, error) { return s.cat.TrashList() }

// Blob returns the bytes of a point's blob, checked against their hash.
func (s *Store) Blob(point, name string) ([]byte, error) { return s.cat.Blob(point, name) }

// Find returns the point a reference names and the disk, "" if it names none.
// A point in the trash is found by its whole id.
func (s *Store) Find(ref string) (p catalog.Point, disk string, err error) {
	r, err := catalog.ParseRef(ref)
	if err != nil {
		return p, "", err
	}
	p, err = s.cat.Resolve(r)
	if errors.Is(err, catalog.ErrNotFound) {
		if trashed, err := s.cat.Point(r.Point); err == nil && (r.VM == "" || r.VM == trashed.VM) {
			return trashed, r.Disk, nil
		}
	}
	return p, r.Disk, err
}
