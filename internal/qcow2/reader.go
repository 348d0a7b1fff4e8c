package qcow2

import (
	"errors"
	"io"
)

// Kind says what a piece of a disk is in one qcow2 file.
type Kind uint8

const (
	// Unallocated: the file says nothing; the backing file's content shows
	// through, or zeros when there is none.
	Unallocated Kind = iota
	// Zero: the file says that this reads as zeros.
	Zero
	// Data: the bytes are in the file as they are.
	Data
	// Compressed: the bytes are in the file, compressed cluster by cluster.
	Compressed
)

// Mapping is a piece of the disk of one kind.
type Mapping struct {
	Offset, Length int64 // bytes of the disk
	Kind           Kind
	Host           int64 // of Data: where its first byte is in the file
}

// Info tells what the header says.
type Info struct {
	Version        int
	ClusterSize    int64
	Compression    string // "zlib" or "zstd", of compressed clusters if there are any
	RefcountBits   int
	ExtendedL2     bool // clusters are divided into 32 subclusters
	LazyRefcounts  bool
	Dirty          bool // not closed properly; its refcounts may be wrong, its data is not
	Snapshots      int  // internal ones
	BackingName    string
	BackingFormat  string
	L1Entries      int64
	L1Offset       int64
	RefcountOffset int64
}

// ErrUnsupported is wrapped by the errors about images which are well formed
// but use what a Reader does not support.
var ErrUnsupported = errors.New("not supported")

// FormatError says that a file is not a well-formed qcow2 image.
type FormatError struct {
	Offset int64 // byte of the file where the wrong thing is
	Reason string
}

func (e *FormatError) Error() string { return e.Reason }

var errUnfinished = errors.New("unfinished")

// Reader reads a qcow2 file. It is safe for concurrent use.
type Reader struct {
	info Info
	size int64
}

// Open reads and checks the header of the file of size bytes behind r. Errors
// are of r, *FormatError, or wrap ErrUnsupported.
func Open(r io.ReaderAt, size int64) (*Reader, error) { return nil, errUnfinished }

// Size is the length of the disk in bytes.
func (q *Reader) Size() int64 { return q.size }

// ClusterSize is the unit of allocation in bytes.
func (q *Reader) ClusterSize() int64 { return q.info.ClusterSize }

// Backing returns the name and the format of the backing file; empty when the
// file does not tell.
func (q *Reader) Backing() (name, format string) { return q.info.BackingName, q.info.BackingFormat }

// Info returns what the header says.
func (q *Reader) Info() Info { return q.info }

// Check reads all tables.
func (q *Reader) Check() error { return errUnfinished }

// Map calls yield for the whole disk in order, after a Check.
func (q *Reader) Map(yield func(Mapping) error) error { return errUnfinished }

// ReadAt reads bytes of the disk; what is unallocated reads as zeros.
func (q *Reader) ReadAt(p []byte, off int64) (int, error) { return 0, errUnfinished }
