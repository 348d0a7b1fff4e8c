package restore

import "context"

// Difference is what is not as the manifest says: a file that is missing or
// cannot be read as what it should be, or a range of bytes of it.
type Difference struct {
	Disk   string `json:"disk,omitempty"` // or
	Blob   string `json:"blob,omitempty"`
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`           // 0: the file as a whole
	Reason string `json:"reason,omitempty"` // of a file as a whole
}

// Checked is what a verification found.
type Checked struct {
	Point       string       `json:"point"`
	VM          string       `json:"vm"`
	Disks       int          `json:"disks"`
	Files       int          `json:"files"`
	Blobs       int          `json:"blobs"`
	Bytes       int64        `json:"bytes"` // read
	Differences []Difference `json:"differences"`
}

// CheckOptions are what a verification tells on its way. Progress is called
// concurrently. Both may be nil.
type CheckOptions struct {
	Begin    func(bytes int64)
	Progress func(n int64)
}

// VerifyDir compares everything a manifest names with it; path is that of the
// manifest, or of a directory that has one. Its error is that of the manifest, or
// says why nothing could be compared; differences are in the answer.
func VerifyDir(ctx context.Context, path string, o CheckOptions) (Checked, error) {
	return Checked{}, errUnfinished
}
