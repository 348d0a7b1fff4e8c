package catalog

import "time"

// NewPoint is a point to be committed. Its slices are read only during Commit.
type NewPoint struct {
	ID     string // as made by ids.New; never used before
	VM     string
	Start  time.Time // kept in milliseconds
	Labels map[string]string
	Manual bool       // made by hand rather than by a schedule
	Sealed bool       // was a clone
	Images []NewImage // in any order
	Files  []NewFile  // in any order; there is an image or a file at least
	Blobs  []Blob     // in any order
}

// NewFile is a file of a new point. FileImage.Root is computed by Commit.
type NewFile struct {
	FileImage
	// Chunks names every chunk of the file, ceil(Size/ChunkSize) of them.
	Chunks []ChunkRef
}

// NewImage is a disk of a new point. Image.Root is computed by Commit.
type NewImage struct {
	Image
	// Chunks names every chunk of the disk, ceil(Size/ChunkSize) of them.
	Chunks []ChunkRef
}

// ChunkRef is either a recorded chunk or a new one.
type ChunkRef struct {
	// No is a chunk recorded before, 0 for zeros; ignored if New is set. Its
	// record must cover as many bytes as this place of the disk does: the
	// short last chunk of a disk that has grown must be recorded anew.
	No ChunkNo
	// New is recorded unless a chunk of that hash is. Without runs it is the
	// chunk of zeros whatever its hash.
	New *Chunk
}
