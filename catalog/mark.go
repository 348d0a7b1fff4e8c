package catalog

import (
	"context"

	"github.com/strongroom-backup/strongroom/dedup"
)

// MarkStats is what a mark went through.
type MarkStats struct {
	Points, Images, Chunks int64
}

// Mark calls visit with the runs of every chunk that an image of a point not
// forgotten names, each chunk once; from several goroutines at a time. runs
// are valid during the call.
func (c *Catalog) Mark(ctx context.Context, visit func(runs []Run)) (MarkStats, error) {
	return MarkStats{}, errUnfinished
}

// AffectedImage is an image with blocks that are bad.
type AffectedImage struct {
	Point, VM, Disk string
	Blocks          int64 // how many of its blocks are
}

// Affected returns the images of live and trashed points with blocks for which
// bad is true. bad says whether one of n consecutive slots from an address on
// is; it is called from several goroutines at a time.
func (c *Catalog) Affected(ctx context.Context, bad func(a dedup.Addr, n int) bool) ([]AffectedImage, error) {
	return nil, errUnfinished
}
