package volume

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

// PlanQuestion asks whether a disk's new image may inherit from Parent's.
type PlanQuestion struct {
	VM, Disk string
	Parent   catalog.Point
	// Explicit: the caller asked for an incremental image, not for whatever fits.
	Explicit bool
	// Manual: the new point is made by hand.
	Manual bool
}

// PlanDecision answers. The zero decision agrees.
type PlanDecision struct {
	// Full is why the image should not inherit; empty: it may. In mode auto it
	// becomes a full one. An explicit question is never answered like that.
	Full string
	// Refuse is why the backup must not be.
	Refuse error
	// First makes room for the image; then the question is asked again. Start
	// calls it without holding a lock.
	First func() error
}

// SetPlan has every Start ask before it lets an image inherit; nil: everything is
// allowed. ask may be called from several goroutines and must remove no point.
func (m *Manager) SetPlan(ask func(PlanQuestion) (PlanDecision, error)) {
	m.ask.Store(&ask)
}

// decide asks about one disk's parent.
func (m *Manager) decide(q PlanQuestion) (PlanDecision, error) {
	ask := m.ask.Load()
	if ask == nil || *ask == nil {
		return PlanDecision{}, nil
	}
	d, err := (*ask)(q)
	if err != nil {
		return d, fmt.Errorf("decide how to back up disk %s of VM %s: %w", q.Disk, q.VM, err)
	}
	return d, d.Refuse
}

// plan decides each disk's mode and parent; parent is the id of the point the
// caller named. first is what is to be done before.
func (m *Manager) plan(r *StartRequest) (disks []diskFile, parent string, first func() error, err error) {
	var want *catalog.Point
	if r.Parent != "" {
		if want, err = m.parentPoint(r.VM, r.Parent); err != nil {
			return nil, "", nil, err
		}
		parent = want.ID
	}
	for _, d := range r.Disks {
		f, first, err := m.planDisk(r, d, want)
		if err != nil || first != nil {
			return nil, "", first, err
		}
		disks = append(disks, f)
	}
	return disks, parent, nil, nil
}

// parentPoint turns the caller's idea of the parent into a point of the VM.
func (m *Manager) parentPoint(vm, text string) (*catalog.Point, error) {
	ref, err := catalog.ParseRef(text)
	if err != nil {
		return nil, fmt.Errorf("%w: parent %q: %v", ErrBadRequest, text, err)
	}
	p, err := m.cat.Resolve(ref)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil, fmt.Errorf("%w: parent %q is not here: %v; %s", ErrMismatch, text, err, m.newest(vm))
	case err != nil:
		return nil, err
	case p.VM != vm:
		return nil, fmt.Errorf("%w: parent %s is a point of VM %s, not of %s", ErrMismatch, p.ID, p.VM, vm)
	}
	return &p, nil
}

// newest tells what the server has of a VM, for error messages.
func (m *Manager) newest(vm string) string {
	p, found, err := m.cat.Latest(vm, "")
	if err != nil || !found {
		return "the server has no point of VM " + vm
	}
	return fmt.Sprintf("the newest point of VM %s is %s of %s", vm, p.ID, p.Time.Format(time.RFC3339))
}

// planDisk decides one disk's mode; want is the parent point the caller named.
func (m *Manager) planDisk(r *StartRequest, d DiskSpec, want *catalog.Point) (f diskFile, first func() error, err error) {
	f = diskFile{Disk: d.Name, Size: d.Size, Mode: catalog.Full, Token: ids.Token(), Checkpoint: r.Checkpoint}
	parent, found, err := m.cat.Latest(r.VM, d.Name)
	if err != nil {
		return f, nil, err
	}
	if found {
		f.Hint = parent.ID
	}
	if r.Mode == string(catalog.Full) {
		return f, nil, nil
	}
	newest := parent.ID
	if r.Branch {
		parent, found = *want, imageOf(*want, d.Name).Disk != ""
	}
	if why := mismatch(r, d, want, parent, found); why != "" {
		return f, nil, fmt.Errorf("%w: disk %s of VM %s: %s", ErrMismatch, d.Name, r.VM, why)
	}
	if !found || imageOf(parent, d.Name).Size > d.Size {
		return f, nil, nil // auto falls back to a full backup
	}
	if parent.Sealed && want == nil && r.ParentCheckpoint == "" {
		if r.Mode == string(catalog.Incremental) {
			return f, nil, fmt.Errorf("%w: disk %s of VM %s: %s", ErrMismatch, d.Name, r.VM, sealedParent(&parent))
		}
		f.Why = sealedParent(&parent)
		return f, nil, nil
	}
	q := PlanQuestion{VM: r.VM, Disk: d.Name, Parent: parent, Explicit: r.Mode == string(catalog.Incremental), Manual: r.Manual}
	decision, err := m.decide(q)
	switch {
	case err != nil || decision.First != nil:
		return f, decision.First, err
	case decision.Full != "":
		f.Why = decision.Full
		return f, nil, nil
	}
	f.Mode, f.Parent, f.Branch = catalog.Incremental, parent.ID, parent.ID != newest
	return f, nil, nil
}

// sealedParent says why nothing inherits from what was a clone unasked: the disk
// that is backed up may have gone on from an older point all the time.
func sealedParent(p *catalog.Point) string {
	return fmt.Sprintf("the newest image, of point %s, was a clone; name it as the parent if the VM went on from it, "+
		"or the point that the changes are since, as a branch", p.ID)
}

// mismatch says why the caller's idea of the disk's parent does not fit; "" when
// it does. parent is the point the image would inherit from.
func mismatch(r *StartRequest, d DiskSpec, want *catalog.Point, parent catalog.Point, found bool) string {
	named := want != nil || r.ParentCheckpoint != ""
	strict := named || r.Mode == string(catalog.Incremental)
	if !found {
		// A disk added since the parent point starts with a full backup.
		if strict && !(r.Mode == "auto" && want != nil) {
			return "the server has no image of it; start with mode full or auto"
		}
		return ""
	}
	img := imageOf(parent, d.Name)
	newest := "newest image is"
	if r.Branch {
		newest = "image to branch from is"
	}
	has := fmt.Sprintf("the server's %s point %s of %s, %d bytes", newest, parent.ID, parent.Time.Format(time.RFC3339), img.Size)
	if img.Checkpoint != "" {
		has += ", checkpoint " + img.Checkpoint
	}
	switch {
	case want != nil && want.ID != parent.ID:
		return fmt.Sprintf("parent %s was named, but %s; say that it is a branch when the VM was set back to that point", want.ID, has)
	case r.ParentCheckpoint != "" && r.ParentCheckpoint != img.Checkpoint:
		return fmt.Sprintf("parent checkpoint %s was named, but %s", r.ParentCheckpoint, has)
	case strict && img.Size > d.Size:
		return fmt.Sprintf("it has %d bytes now, but %s; a disk that shrank needs mode full", d.Size, has)
	}
	return ""
}

func imageOf(p catalog.Point, disk string) catalog.Image {
	i := slices.IndexFunc(p.Images, func(im catalog.Image) bool { return im.Disk == disk })
	if i < 0 {
		return catalog.Image{}
	}
	return p.Images[i]
}
