package api

import "time"

// Chain is the tree of a disk's images.
type Chain struct {
	VM   string `json:"vm"`
	Disk string `json:"disk"`
	// Images come parents first, by time.
	Images []ChainImage `json:"images"`
	// Length is that of the chain of the newest image; Limit what the policy allows, 0 for any;
	// FullAfter the number of incrementals after which mode auto takes a full.
	Length    int      `json:"length"`
	Limit     int      `json:"limit"`
	FullAfter int      `json:"full_after"`
	Warnings  []string `json:"warnings,omitempty"`
	// Total is of the whole tree: its unique bytes are what deleting all of it
	// would free.
	Total Usage `json:"total"`
}

// ChainImage is a disk's content at one point.
type ChainImage struct {
	Point       string    `json:"point"`
	Time        time.Time `json:"time"`
	Mode        string    `json:"mode"`
	Parent      string    `json:"parent,omitempty"`
	Depth       int       `json:"depth"` // images it hangs on
	Manual      bool      `json:"manual,omitempty"`
	Hold        string    `json:"hold,omitempty"` // why it is held
	LockedUntil time.Time `json:"locked_until,omitzero"`
	Damaged     bool      `json:"damaged,omitempty"`
	InUse       bool      `json:"in_use,omitempty"` // read, or the parent of an open backup or a clone
	Size        int64     `json:"size"`
	Usage       Usage     `json:"usage"`
}

// MergeRequest joins images of a disk. From and Into are references of points;
// when Into is the older, it gets From's content (commit), else the images from
// From to before Into are taken out beneath it (pull).
type MergeRequest struct {
	From   string `json:"from"`
	Into   string `json:"into"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// Merged is what a merge did, or would do.
type Merged struct {
	VM        string   `json:"vm"`
	Disk      string   `json:"disk"`
	Direction string   `json:"direction"` // commit or pull
	From      string   `json:"from"`
	Into      string   `json:"into"`
	Gone      []string `json:"gone"` // points whose image of the disk is, or would be, gone
	DryRun    bool     `json:"dry_run,omitempty"`
}
