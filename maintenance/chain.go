package maintenance

import (
	"fmt"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// Tree is the images of a disk, linked by parent. After a full, or when the
// oldest image was deleted, there are several roots.
type Tree struct {
	VM, Disk string
	// Images come by time, so parents before their children.
	Images []TreeImage
	// Length is that of the chain that ends in the newest image.
	Length   int
	Settings Settings
	Warnings []string
	// Total is of all images together, those in the trash included: its unique
	// bytes are what deleting the whole tree would free.
	Total catalog.Usage
}

// TreeImage is the disk at one point. UniqueStored of its usage is what deleting
// it would free.
type TreeImage struct {
	Point       string
	Time        time.Time
	Mode        catalog.Mode
	Parent      string // point; empty: none
	Depth       int    // images it hangs on; 0: none
	Manual      bool
	Hold        string
	LockedUntil time.Time
	Damaged     bool
	InUse       bool // read, or the parent of an open backup
	Image       catalog.Image
	Usage       catalog.Usage
}

// Chain draws the tree of a disk. An unknown disk is catalog.ErrNotFound.
func (e *Engine) Chain(vm, disk string) (Tree, error) {
	t := Tree{VM: vm, Disk: disk}
	points, err := e.cat.Points(vm)
	if err != nil {
		return t, err
	}
	trash, err := e.trashOf(vm)
	if err != nil {
		return t, err
	}
	if t.Settings, err = e.Settings(vm); err != nil {
		return t, err
	}
	t.Images = tree(points, trash, disk)
	if len(t.Images) == 0 {
		return t, fmt.Errorf("disk %s of VM %s %w: no point has it", disk, vm, catalog.ErrNotFound)
	}
	t.Length = t.Images[len(t.Images)-1].Depth + 1
	if err := e.weigh(&t); err != nil {
		return t, err
	}
	t.warn()
	return t, nil
}

// tree links the images of a disk. points are by time; an image whose parent is
// in the trash hangs on the next one up that is not.
func tree(points, trash []catalog.Point, disk string) (images []TreeImage) {
	above := map[string]string{} // parents of images in the trash
	for i := range trash {
		if im := imageOf(&trash[i], disk); im != nil {
			above[trash[i].ID] = im.Parent
		}
	}
	depth := map[string]int{}
	for i := range points {
		p := &points[i]
		im := imageOf(p, disk)
		if im == nil {
			continue
		}
		x := TreeImage{Point: p.ID, Time: p.Time, Mode: im.Mode, Parent: im.Parent, Manual: p.Manual,
			Hold: p.Hold, LockedUntil: p.LockedUntil, Image: *im}
		for n := 0; n < len(trash); n++ {
			up, gone := above[x.Parent]
			if !gone {
				break
			}
			x.Parent = up
		}
		if d, ok := depth[x.Parent]; ok {
			x.Depth = d + 1
		}
		depth[p.ID] = x.Depth
		images = append(images, x)
	}
	return images
}

// weigh adds what images take, and what they are to others.
func (e *Engine) weigh(t *Tree) error {
	usage, err := e.cat.ChainUsage(t.VM, t.Disk)
	if err != nil {
		return err
	}
	if t.Total, err = e.cat.DiskUsage(t.VM, t.Disk); err != nil {
		return err
	}
	damaged := map[string]bool{}
	for _, a := range e.Affected() {
		if a.VM == t.VM && a.Disk == t.Disk {
			damaged[a.Point] = true
		}
	}
	for i := range t.Images {
		x := &t.Images[i]
		x.Usage, x.Damaged = usage[x.Point], damaged[x.Point]
		x.InUse = e.vols.Read(x.Point) || len(e.vols.InUse(x.Point)) > 0
	}
	return nil
}

// warn says what an operator should know of the tree.
func (t *Tree) warn() {
	manual, damaged := 0, 0
	for _, x := range t.Images {
		if x.Manual {
			manual++
		}
		if x.Damaged {
			damaged++
		}
	}
	if w := t.Settings.manualWarning(t.VM, t.Disk, manual); w != "" {
		t.Warnings = append(t.Warnings, w)
	}
	if limit := t.Settings.ChainLimit; limit > 0 && t.Length >= limit {
		t.Warnings = append(t.Warnings, fmt.Sprintf("the chain of disk %s of VM %s has %d images, and its limit is %d", t.Disk, t.VM, t.Length, limit))
	}
	if damaged > 0 {
		t.Warnings = append(t.Warnings, fmt.Sprintf("%d images of disk %s of VM %s cannot be read whole; the next backup is a full one", damaged, t.Disk, t.VM))
	}
}

// manualWarning is the warning for so many manual points; "" when they are few.
func (s *Settings) manualWarning(vm, disk string, manual int) string {
	if s.ManualWarn == 0 || manual <= s.ManualWarn {
		return ""
	}
	return fmt.Sprintf("disk %s of VM %s has %d points made by hand, more than %d; no rule removes them", disk, vm, manual, s.ManualWarn)
}
