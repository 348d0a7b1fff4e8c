package maintenance

import (
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
	// Total is of all images together: its unique bytes are what deleting the
	// whole tree would free.
	Total catalog.Usage
}

// TreeImage is the disk at one point. What names its usage's unique stored bytes
// is "freed if deleted".
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
func (e *Engine) Chain(vm, disk string) (Tree, error) { return Tree{}, errUnfinished }
