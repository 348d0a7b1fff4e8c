package catalog

import (
	"errors"
	"fmt"
	"slices"
)

// MergeRequest names two images of one disk, by their points' ids, of which
// one descends from the other.
type MergeRequest struct {
	VM, Disk   string
	From, Into string
}

// MergeResult says what a merge did.
type MergeResult struct {
	Point  Point    // Into, as it is now
	Gone   []string // points whose image of the disk is gone, oldest first
	Points []string // those of them that had nothing else and are removed
}

// Merge makes one image of a line of images of a disk, durably and at once.
//
// If From descends from Into (commit), Into gets From's content, and the
// images after it up to and including From go; what descends from them descends
// from Into. If From is an ancestor (pull), the images from From up to the one
// before Into go, and Into, whose content stays, gets From's parent, or becomes
// full if there is none. Either way Into's counters become the sums. A file that
// was understood as the disk goes with the image it became, and at a commit from
// Into too, whose image is another then. A point is removed with the last image
// or file it has.
//
// Nobody may have the images open that go, or Into's at a commit. Images that
// are not in one line, or in the trash, fail with ErrInvalid; points that lose
// an image or, at a commit, get another must not be held (ErrHeld) or locked
// (ErrLocked). When From is gone because it was merged into Into, nothing is
// left to do and nothing fails.
func (c *Catalog) Merge(m MergeRequest) (r MergeResult, err error) {
	err = c.exclusively(func() error {
		r, err = c.merge(&m)
		if err != nil {
			return fmt.Errorf("merge disk %s of VM %s from %s into %s: %w", m.Disk, m.VM, m.From, m.Into, err)
		}
		return nil
	})
	return r, err
}

func (c *Catalog) merge(m *MergeRequest) (r MergeResult, err error) {
	into, err := c.mergeEnd(m, m.Into)
	if err != nil {
		return r, err
	}
	from, err := c.mergeEnd(m, m.From)
	if errors.Is(err, ErrNotFound) && into.image(m.Disk).MergedFrom == m.From {
		return MergeResult{Point: into}, nil
	}
	if err != nil {
		return r, err
	}
	t := merged{vm: m.VM, disk: m.Disk, into: m.Into, from: m.From}
	gone, err := c.plan(&t, &from, &into)
	if err != nil {
		return r, err
	}
	for i := range gone {
		t.gone = append(t.gone, gone[i].ID)
		if len(gone[i].Images) == 1 && len(gone[i].filesOf(m.Disk)) == len(gone[i].Files) {
			r.Points = append(r.Points, gone[i].ID)
		}
	}
	t.time = c.now()
	if err := c.write(t.records); err != nil {
		return r, err
	}
	r.Gone = t.gone
	_, r.Point, err = getPoint(c.db, m.Into)
	return r, err
}

// mergeEnd is From or Into, which must be a live point of the VM and have the
// disk.
func (c *Catalog) mergeEnd(m *MergeRequest, id string) (Point, error) {
	_, p, err := getPoint(c.db, id)
	switch {
	case err != nil:
		return p, err
	case p.VM != m.VM:
		return p, invalid("point %s is one of VM %s", id, p.VM)
	case !p.has(m.Disk):
		return p, p.lacks(m.Disk)
	}
	return p, inLine(&p)
}

// plan finds the direction of a merge and the points that lose an image, oldest
// first, and refuses it if one of them must stay as it is.
func (c *Catalog) plan(t *merged, from, into *Point) (gone []Point, err error) {
	switch {
	case from.ID == into.ID:
		return nil, invalid("they are the same image")
	case from.Time.After(into.Time):
		t.direction = mergeCommit
		if gone, err = c.line(t.disk, from, into); err != nil {
			return nil, err
		}
		if err := c.mayLose(into); err != nil {
			return nil, err
		}
	default:
		t.direction = mergePull
		if gone, err = c.line(t.disk, into, from); err != nil {
			return nil, err
		}
		gone = append(gone[1:], *from) // into stays
	}
	if len(gone) > maxMerged {
		return nil, invalid("%d images are between them; merge %d at a time", len(gone), maxMerged)
	}
	for i := range gone {
		if err := c.mayLose(&gone[i]); err != nil {
			return nil, err
		}
	}
	slices.Reverse(gone)
	return gone, nil
}

// line walks from an image to its ancestor and returns the points passed,
// without the ancestor, the newest first.
func (c *Catalog) line(disk string, from, ancestor *Point) (points []Point, err error) {
	for p := *from; p.ID != ancestor.ID; {
		if err := inLine(&p); err != nil {
			return nil, err
		}
		points = append(points, p)
		parent := p.image(disk).Parent
		if parent == "" {
			return nil, invalid("%s does not descend from %s: its line begins with %s", from.ID, ancestor.ID, p.ID)
		}
		at := p.Time
		if _, p, err = getPoint(c.db, parent); err != nil {
			return nil, err
		}
		if p.Time.Before(ancestor.Time) {
			return nil, invalid("%s does not descend from %s: they are on different branches", from.ID, ancestor.ID)
		}
		if !p.Time.Before(at) || !p.has(disk) {
			return nil, damaged("point "+p.ID, errors.New("it is a parent it cannot be"))
		}
	}
	return points, nil
}

// inLine refuses points in the trash.
func inLine(p *Point) error {
	if p.Trashed.IsZero() {
		return nil
	}
	return invalid("point %s is in the trash since %s: undelete or remove it first", p.ID, p.Trashed.Format("2006-01-02T15:04:05Z"))
}

// mayLose is mayGo, for one point among several.
func (c *Catalog) mayLose(p *Point) error {
	if err := c.mayGo(p); err != nil {
		return fmt.Errorf("point %s is %w", p.ID, err)
	}
	return nil
}
