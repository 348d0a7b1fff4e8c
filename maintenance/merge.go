package maintenance

import (
	"fmt"

	"github.com/strongroom-backup/strongroom/catalog"
)

// MergeRequest joins images of a disk. From and Into are references of points of
// the VM; when Into is the older it gets From's content (commit), else the
// images from From to before Into are taken out beneath it (pull).
type MergeRequest struct {
	VM, Disk   string
	From, Into string
	DryRun     bool
}

// Directions of a merge.
const (
	Commit = "commit" // overlays into their base
	Pull   = "pull"   // bases into the top
)

// Merged is what a merge did, or would do.
type Merged struct {
	VM, Disk   string
	Direction  string
	From, Into string   // points
	Gone       []string // points whose image of the disk is gone, oldest first
	Removed    []string // of them, those that had no other image and are gone whole; nil in a dry run
}

// Merge joins images; [catalog.Catalog.Merge] says how. None that goes or changes
// may be in use.
func (e *Engine) Merge(r MergeRequest) (Merged, error) {
	from, err := e.mergeEnd(&r, r.From)
	if err != nil {
		return Merged{}, err
	}
	into, err := e.mergeEnd(&r, r.Into)
	if err != nil {
		return Merged{}, err
	}
	m := Merged{VM: r.VM, Disk: r.Disk, Direction: Pull, From: from.ID, Into: into.ID}
	if from.Time.After(into.Time) {
		m.Direction = Commit
	}
	if m.Gone, err = e.mergeLine(&m, &from, &into); err != nil || r.DryRun {
		return m, err
	}
	done, err := e.vols.Merge(catalog.MergeRequest{VM: r.VM, Disk: r.Disk, From: from.ID, Into: into.ID}, func() ([]string, error) {
		touched, err := e.mergeLine(&m, &from, &into)
		if m.Direction == Commit {
			touched = append(touched, into.ID)
		}
		return touched, err
	})
	if err != nil {
		return m, err
	}
	m.Gone, m.Removed = done.Gone, done.Points
	e.outdate()
	return m, nil
}

// mergeEnd is a point a merge names; its VM may be left out of the reference when
// it is an id.
func (e *Engine) mergeEnd(r *MergeRequest, text string) (catalog.Point, error) {
	p, err := e.whole(text)
	switch {
	case err != nil:
		return p, err
	case p.VM != r.VM:
		return p, fmt.Errorf("%w: point %s is one of VM %s, not of %s", ErrBadRequest, p.ID, p.VM, r.VM)
	case imageOf(&p, r.Disk) == nil:
		return p, fmt.Errorf("disk %s of VM %s at point %s %w", r.Disk, r.VM, p.ID, catalog.ErrNotFound)
	}
	return p, nil
}

// mergeLine are the points whose image of the disk a merge takes away, oldest
// first.
func (e *Engine) mergeLine(m *Merged, from, into *catalog.Point) (gone []string, err error) {
	top, base := into, from
	if m.Direction == Commit {
		top, base = from, into
	}
	line, err := e.line(top, m.Disk)
	if err != nil {
		return nil, err
	}
	for i := range line {
		if line[i].ID == base.ID {
			if m.Direction == Commit {
				i-- // the base stays
				for ; i >= 0; i-- {
					gone = append(gone, line[i].ID)
				}
				return gone, nil
			}
			for ; i > 0; i-- { // the top stays
				gone = append(gone, line[i].ID)
			}
			return gone, nil
		}
	}
	return nil, fmt.Errorf("%w: disk %s of VM %s: the image of point %s does not hang on that of %s; see: strongroom chain show %s/%s",
		ErrBadRequest, m.Disk, m.VM, top.ID, base.ID, m.VM, m.Disk)
}
