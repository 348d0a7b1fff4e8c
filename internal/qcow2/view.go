package qcow2

import "io"

// ViewOptions say what the virtual file shows.
type ViewOptions struct {
	Size    int64  // of the disk in bytes
	Backing string // name of the backing file, a qcow2 file too; "": none, the file is flat
	// Source is the content of the whole disk, safe for concurrent use.
	Source io.ReaderAt
	// Extents calls yield for the pieces that are in this file, ascending and not
	// overlapping, until it returns false: Data or Zero. What is in no extent is
	// unallocated. Called once, by NewView.
	Extents func(yield func(off, n int64, kind Kind) bool) error
}

// View is a qcow2 file that exists nowhere: its bytes are made as they are
// read. It is immutable and safe for concurrent use.
type View struct{ size int64 }

// NewView lays out the file.
func NewView(o ViewOptions) (*View, error) { return nil, errUnfinished }

// Size is the length of the file in bytes.
func (v *View) Size() int64 { return v.size }

// ReadAt reads bytes of the file.
func (v *View) ReadAt(p []byte, off int64) (int, error) { return 0, errUnfinished }
