package nbd

import "context"

// Device is the content of one export. Methods are called concurrently.
// Offsets and lengths are bytes, already checked to lie within Size. An error
// that wraps a syscall.Errno reaches the client as that errno; any other is EIO.
type Device interface {
	// Size is fixed for the life of the device.
	Size() int64
	// ReadAt fills p. A short read is an error.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt returns when p is safe from a crash of this process. p is not kept.
	WriteAt(p []byte, off int64) (int, error)
	// Zero makes a range read as zeros, without work per byte.
	Zero(off, n int64) error
	// Flush returns when every write that had returned, through any Device of
	// the same export, is safe from a power cut.
	Flush() error
	// Extents calls yield for consecutive extents that begin at off and end at
	// off+n; neighbours differ. It stops early when yield returns false.
	Extents(off, n int64, yield func(length int64, zero bool) bool) error
	// Close is called once, after the last other call has returned.
	Close() error
}

// Info describes an export. It must be the same at every open of a name.
type Info struct {
	Name        string
	Description string
	ReadOnly    bool
}

// Exports finds devices by name. Methods are called concurrently.
type Exports interface {
	// List names the exports a client may be shown.
	List(ctx context.Context) ([]Info, error)
	// Stat describes an export without opening it. It returns an error that
	// wraps ErrUnknownExport (no such name), ErrRefused (known, and never to be
	// served again; text says why) or any other (temporary).
	Stat(ctx context.Context, name string) (Info, int64, error)
	// Open opens an export for one connection. Errors as for Stat.
	Open(ctx context.Context, name string) (Device, Info, error)
}
