package maintenance

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/catalog"
)

// strict is the classical rule for chains: an image needs those it hangs on. So
// a point may go only when every point that hangs on it goes too, and when each
// of its disks has a newer full image, which stays. No image here needs another;
// the rule is for those who want it.
type strict struct {
	points   []*catalog.Point // by time
	goes     map[string]bool
	children map[string][]string // by point: points with an image whose parent is there
}

// newStrict takes the points of a VM, oldest first, and those in its trash, which
// are as good as gone.
func newStrict(points, trash []catalog.Point) *strict {
	s := &strict{goes: map[string]bool{}, children: map[string][]string{}}
	for i := range points {
		s.points = append(s.points, &points[i])
	}
	for i := range trash {
		s.goes[trash[i].ID] = true
	}
	for _, list := range [][]catalog.Point{points, trash} {
		for i := range list {
			for _, im := range list[i].Images {
				if im.Parent != "" {
					s.children[im.Parent] = append(s.children[im.Parent], list[i].ID)
				}
			}
		}
	}
	return s
}

// needed is why a point that is to go must stay; "" when it need not.
func (s *strict) needed(p *catalog.Point) string {
	if heir := s.heir(p.ID); heir != "" {
		return "strict-chains: point " + heir + " hangs on it"
	}
	for _, im := range p.Images {
		if !s.newerFull(p, im.Disk) {
			return fmt.Sprintf("strict-chains: disk %s has no newer full image", im.Disk)
		}
	}
	return ""
}

// heir is a point that hangs on id, through others that go perhaps, and stays.
func (s *strict) heir(id string) string {
	seen := map[string]bool{}
	for next := []string{id}; len(next) > 0; {
		children := s.children[next[0]]
		next = next[1:]
		for _, c := range children {
			if !s.goes[c] {
				return c
			}
			if !seen[c] {
				seen[c] = true
				next = append(next, c)
			}
		}
	}
	return ""
}

// newerFull reports whether a full image of the disk that is newer than p stays.
func (s *strict) newerFull(p *catalog.Point, disk string) bool {
	for _, q := range s.points {
		if im := imageOf(q, disk); im != nil && im.Mode == catalog.Full && q.Time.After(p.Time) && !s.goes[q.ID] {
			return true
		}
	}
	return false
}

// applyStrict makes the points stay that the rule wants; list says of each of
// points what becomes of it. A point that stays makes those stay it hangs on, so
// it is gone through until nothing changes.
func applyStrict(list []PrunePoint, points, trash []catalog.Point) {
	s := newStrict(points, trash)
	for i := range list {
		s.goes[list[i].Point] = !list[i].Keep
	}
	for changed := true; changed; {
		changed = false
		for i := len(list) - 1; i >= 0; i-- { // children first
			if list[i].Keep {
				continue
			}
			if why := s.needed(&points[i]); why != "" {
				list[i].Keep, list[i].Reason = true, why
				s.goes[points[i].ID] = false
				changed = true
			}
		}
	}
}

// imageOf is a point's image of a disk, or nil.
func imageOf(p *catalog.Point, disk string) *catalog.Image {
	for i := range p.Images {
		if p.Images[i].Disk == disk {
			return &p.Images[i]
		}
	}
	return nil
}
