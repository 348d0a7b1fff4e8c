package tier

import (
	"errors"
	"fmt"
	"io"
)

// ID names one generation of a pack.
type ID struct {
	Pack uint64 // 1 … MaxPack, never changes
	Gen  uint32 // raised by compaction; the highest is the pack's content
}

// String is how messages name a pack.
func (id ID) String() string { return fmt.Sprintf("pack %d generation %d", id.Pack, id.Gen) }

// Errors every Store answers with, possibly wrapped.
var (
	ErrNotFound = errors.New("not on this tier")
	ErrExists   = errors.New("already on this tier")
	// ErrUsageUnknown is returned by Usage when the medium cannot tell.
	ErrUsageUnknown = errors.New("disk usage is not known")
	// ErrNoTier means that a directory is not the tier it should be: its disk
	// may not be mounted, or it belongs to another store.
	ErrNoTier = errors.New("tier not found")
)

// File is one pack. ReadAt and WriteAt may be called concurrently, also with
// Sync; the caller sees to it that writes do not overlap.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes everything written before the call durable (fdatasync).
	// After an error the file's un-synced content is lost: callers must not
	// call Sync on that pack again.
	Sync() error
	Size() (int64, error)
	Close() error
}

// Usage is the space of a tier, in bytes.
type Usage struct {
	Total uint64
	Free  uint64 // what this process may still write
}

// Store keeps packs. All methods may be called concurrently.
type Store interface {
	// Create makes an empty pack for writing. Its name is durable when Create
	// returns. An existing pack is ErrExists and is left alone.
	Create(id ID) (File, error)
	// Open opens a pack for reading; it may be written by another File.
	Open(id ID) (File, error)
	// Reopen opens an existing pack for reading and writing.
	Reopen(id ID) (File, error)
	// Settle makes durable what List shows. A process that died between
	// making or removing a pack and the sync of that leaves names that the
	// next power cut may take, or bring back: who opens a tier for writing
	// calls it before he believes a listing.
	Settle() error
	// List names every pack, in no order.
	List() ([]ID, error)
	// Remove forgets a pack and its note, durably.
	Remove(id ID) error
	// Usage tells the space, or ErrUsageUnknown.
	Usage() (Usage, error)
	// SetNote keeps a few bytes (at most MaxNote) beside a pack, durably,
	// replacing what was there.
	SetNote(id ID, note []byte) error
	// Note returns them, or ErrNotFound.
	Note(id ID) ([]byte, error)
}
