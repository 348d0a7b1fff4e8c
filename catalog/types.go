package catalog

import (
	"time"

	"github.com/strongroom-backup/strongroom/dedup"
)

// ChunkNo numbers a chunk record. 0 is the chunk of zeros, which has none.
type ChunkNo uint64

// Run says that Count blocks of a chunk, from block Start on, lie in
// consecutive slots from Addr on. Blocks no run covers are zero.
type Run struct {
	Start uint16
	Count uint16
	Addr  dedup.Addr
}

// Chunk is how one chunk is made. Runs are sorted by Start, do not overlap and
// are maximal.
type Chunk struct {
	Hash   dedup.Hash
	Length uint32 // bytes of disk it covers: ChunkSize, less for a disk's last
	Runs   []Run
}

// Mode says what a backup transferred.
type Mode string

const (
	Full        Mode = "full"
	Incremental Mode = "incremental"
)

// Image is one disk's content at one point, without its chunk list.
type Image struct {
	Disk         string     `json:"disk"`
	Size         int64      `json:"size"` // bytes
	Mode         Mode       `json:"mode"`
	Parent       string     `json:"parent,omitempty"` // point id of the parent image of the same VM and disk
	Root         dedup.Hash `json:"-"`
	Checkpoint   string     `json:"checkpoint,omitempty"`
	WrittenBytes int64      `json:"written_bytes"` // data bytes the client sent
	ZeroedBytes  int64      `json:"zeroed_bytes"`  // bytes the client zeroed or trimmed
	NewBytes     int64      `json:"new_bytes"`     // bytes of blocks nobody had
	StoredBytes  int64      `json:"stored_bytes"`  // what they took in packs, compressed

	// Merged is when other images were last merged into this one, and
	// MergedFrom the point of the farthest of them, which is gone.
	Merged     time.Time `json:"merged,omitzero"`
	MergedFrom string    `json:"merged_from,omitempty"`
	// Gone is how many images were between this one and its parent, or the
	// beginning of its chain, and were removed or merged into it.
	Gone int64 `json:"gone,omitempty"`
}

// FileImage is a file kept with a point, without its chunk list. Where an image
// is named by its disk, a file image is named by FileKey of its name.
type FileImage struct {
	Name     string     `json:"name"`              // CheckFileName says what it may be
	Size     int64      `json:"size"`              // bytes
	Modified time.Time  `json:"modified,omitzero"` // kept in milliseconds
	Disk     string     `json:"disk,omitempty"`    // the disk it was understood as; "": none
	Root     dedup.Hash `json:"-"`

	WrittenBytes int64 `json:"written_bytes"` // data bytes the client sent
	NewBytes     int64 `json:"new_bytes"`     // bytes of blocks nobody had
	StoredBytes  int64 `json:"stored_bytes"`  // what they took in packs
}

// Blob is an opaque file kept with a point, such as a domain XML.
type Blob struct {
	Name string
	Data []byte
}

// Point is what one backup of a VM made.
type Point struct {
	ID     string
	VM     string
	Time   time.Time // server time of the commit, UTC
	Start  time.Time // when the backup was opened, UTC
	Labels map[string]string
	Images []Image     // sorted by disk
	Files  []FileImage // sorted by name
	Blobs  []BlobInfo  // sorted by name

	Attributes
}

// Attributes are what can change of a point.
type Attributes struct {
	Manual      bool      // made by hand: no limit of a chain removes it
	Sealed      bool      // was a clone: what a guest wrote elsewhere than on the disks that are backed up
	Hold        string    // why it must stay; "" when it need not
	LockedUntil time.Time // it stays until then; zero when it was never locked
	Trashed     time.Time // when it went to the trash; zero when it is not there
	Purge       time.Time // when it may be removed from the trash; zero when it is not there
}

// BlobInfo describes a blob without its bytes.
type BlobInfo struct {
	Name string     `json:"name"`
	Size int64      `json:"size"`
	Hash dedup.Hash `json:"-"`
}
