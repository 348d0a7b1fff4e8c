package maintenance

import "github.com/strongroom-backup/strongroom/catalog"

// Events tell the daemon what it should log. Every field may be nil. They are
// called on the goroutine that does the work and must return soon.
type Events struct {
	// Began and Ended frame every job; Ended's carries its result.
	Began, Ended func(Job)
	// Affected is called when the list of images that cannot be read whole has
	// changed.
	Affected func([]AffectedImage)
	// Trashed is called for a point that a chain limit or a prune took; its Purge
	// is when it leaves the trash for good, zero when it is gone.
	Trashed func(p catalog.Point, reason string)
	// Purged is called for a point that has left the trash for good.
	Purged func(p catalog.Point)
	// Warning is something the operator asked to be told of.
	Warning func(text string)
	// Failed is a loop's work that went wrong; it is tried again later.
	Failed func(what string, err error)
}
