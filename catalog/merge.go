package catalog

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
	Points []string // those of them that are gone as a whole
}

// Merge makes one image of a line of images.
func (c *Catalog) Merge(m MergeRequest) (MergeResult, error) { return MergeResult{}, errUnfinished }
