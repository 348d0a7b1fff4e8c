package volume

import (
	"errors"
	"time"
)

// File is an open file of a session. Every open counts: a file that lost its
// last name is gone when its last File is closed.
type File struct{}

// FileStatus describes a file of a session under one of its names.
type FileStatus struct {
	Name         string    `json:"name"`
	ID           uint64    `json:"id"`    // of the file: equal for all its names, never used again in the session
	Links        int       `json:"links"` // how many names the file has
	Size         int64     `json:"size"`  // bytes
	Modified     time.Time `json:"modified"`
	Mode         uint32    `json:"mode"` // permission bits
	WrittenBytes int64     `json:"written_bytes"`
	NewBytes     int64     `json:"new_bytes"`
	StoredBytes  int64     `json:"stored_bytes"`
	// Lost says why the file cannot be read any more; it can only be removed.
	Lost string `json:"lost,omitempty"`
}

var errUnfinished = errors.New("unfinished")

// ID is the file's number, unique in its session.
func (f *File) ID() uint64 { return 0 }

// Status describes the file as it is now. Name is "" once it has none.
func (f *File) Status() FileStatus { return FileStatus{} }

// ReadAt fills p. Like every io.ReaderAt it returns io.EOF when the file ends
// before p does.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return 0, errUnfinished }

// WriteAt stores p and lets the file grow to hold it. When it returns nil the
// data survives a crash of the server, and Flush makes it survive a power cut.
// p is not kept. It is safe for concurrent use.
func (f *File) WriteAt(p []byte, off int64) (int, error) { return 0, errUnfinished }

// Zero is WriteAt of n zeros, at the price of a journal record.
func (f *File) Zero(off, n int64) error { return errUnfinished }

// Truncate makes the file size bytes long. What it had beyond is gone for ever;
// what it gets reads as zeros.
func (f *File) Truncate(size int64) error { return errUnfinished }

// Extents tells which parts of [off, off+n), as far as the file goes, are zero
// without reading data.
func (f *File) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	return errUnfinished
}

// SetAttributes sets time and permission bits. The next write changes the time.
func (f *File) SetAttributes(modified time.Time, mode uint32) error { return errUnfinished }

// Flush returns when everything acknowledged before for this file survives a
// power cut.
func (f *File) Flush() error { return errUnfinished }

// Close gives the handle back.
func (f *File) Close() error { return nil }

// CreateFile makes an empty file, durable when it returns, and opens it. The
// error wraps fs.ErrExist when the name is taken.
func (m *Manager) CreateFile(session, name string, mode uint32) (*File, error) {
	return nil, errUnfinished
}

// OpenFile opens a file. The error wraps fs.ErrNotExist when there is none, and
// ErrDead when the host restarted before what was written to it was flushed.
func (m *Manager) OpenFile(session, name string) (*File, error) { return nil, errUnfinished }

// RenameFile gives a file another name, at once and durable. A file that had
// that name loses it. Nothing happens when both are names of one file.
func (m *Manager) RenameFile(session, from, to string) error { return errUnfinished }

// LinkFile gives a file a second name, durable. fs.ErrExist when it is taken.
func (m *Manager) LinkFile(session, from, to string) error { return errUnfinished }

// RemoveFile takes a name away, durable. With the last one the file goes, once
// nobody has it open. The error wraps ErrInUse while an imported disk has copies
// of it.
func (m *Manager) RemoveFile(session, name string) error { return errUnfinished }

// FileNames describes all files of a session under all their names, sorted by
// name.
func (m *Manager) FileNames(session string) ([]FileStatus, error) { return nil, errUnfinished }
