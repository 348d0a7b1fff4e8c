package maintenance

import (
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// Deleted is a point that was deleted.
type Deleted struct {
	Point catalog.Point
	Purge time.Time // when it leaves the trash for good; zero: it is gone
}

// Delete deletes the point of a reference or id. It goes to the trash for as
// long as its VM's policy says, or for good when that is not at all or now is
// set; a point in the trash goes for good when now is set. Space comes back with
// the next collection, which begins by itself. Errors wrap catalog.ErrNotFound,
// ErrHeld, ErrLocked, volume.ErrInUse or ErrStrictChains.
func (e *Engine) Delete(ref string, now bool) (Deleted, error) { return Deleted{}, errUnfinished }

// Undelete takes a point out of the trash, by its id.
func (e *Engine) Undelete(id string) (catalog.Point, error) {
	return catalog.Point{}, errUnfinished
}

// Trash lists the deleted points, first the one that goes for good first.
func (e *Engine) Trash() ([]catalog.Point, error) { return nil, errUnfinished }

// Hold keeps a point until it is released, whatever the rules say.
func (e *Engine) Hold(ref, reason string) (catalog.Point, error) {
	return catalog.Point{}, errUnfinished
}

// Release ends a hold.
func (e *Engine) Release(ref string) (catalog.Point, error) { return catalog.Point{}, errUnfinished }

// Lock keeps a point until a time that can only be moved on.
func (e *Engine) Lock(ref string, until time.Time) (catalog.Point, error) {
	return catalog.Point{}, errUnfinished
}

// MergeRequest joins images of a disk. From and Into are references of points of
// the VM; when Into is the older it gets From's content (commit), else the
// images from From to before Into are taken out beneath it (pull).
type MergeRequest struct {
	VM, Disk   string
	From, Into string
	DryRun     bool
}

// Merged is what a merge did, or would do.
type Merged struct {
	VM, Disk   string
	Direction  string // commit or pull
	From, Into string // points
	Gone       []string
}

// Merge joins images. None of them may be in use.
func (e *Engine) Merge(r MergeRequest) (Merged, error) { return Merged{}, errUnfinished }

// Settings is what holds for a VM; "" is the server's own.
func (e *Engine) Settings(vm string) (Settings, error) { return Settings{}, errUnfinished }

// SetPolicy replaces a VM's policy.
func (e *Engine) SetPolicy(vm string, p catalog.Policy) error { return errUnfinished }
