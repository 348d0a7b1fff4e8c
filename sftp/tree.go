package sftp

import (
	"io"
	"io/fs"
	"time"
)

// Tree is what one login sees. Names are absolute and clean: "/", "/a/b". Errors
// are told apart with errors.Is (fs.ErrNotExist, fs.ErrExist, fs.ErrPermission,
// fs.ErrInvalid, ENOSPC, EDQUOT, EROFS, ENOTEMPTY, EISDIR, ENOTDIR,
// errors.ErrUnsupported); their text goes to the client.
type Tree interface {
	Stat(name string) (Attr, error)
	Open(name string, f OpenFlags, mode fs.FileMode) (File, error)
	// ReadDir returns up to n entries with names above after, sorted by name.
	ReadDir(name, after string, n int) ([]Entry, error)
	Mkdir(name string, mode fs.FileMode) error
	Remove(name string) error // a file
	Rmdir(name string) error
	Rename(from, to string, replace bool) error
	Link(from, to string) error
	SetAttr(name string, c Changes) error
	StatFS(name string) (FSInfo, error)
	// Close ends the connection's use of the tree; every File was closed before.
	Close() error
}

// File is an open file. What one method has answered, later calls see, through
// any handle.
type File interface {
	io.ReaderAt
	io.WriterAt
	Stat() (Attr, error)
	SetAttr(Changes) error
	Sync() error // returns when the file, its name included, survives a power cut
	Close() error
}

// OpenFlags say what a file is opened for.
type OpenFlags struct{ Read, Write, Append, Create, Truncate, Exclusive bool }

// Attr describes a file or folder; Size is in bytes.
type Attr struct {
	Mode                fs.FileMode
	Size                int64
	ModTime, AccessTime time.Time
	Links               uint32
	ID                  uint64
}

// Changes are attributes to set; nil ones stay.
type Changes struct {
	Size    *int64
	Mode    *fs.FileMode
	ModTime *time.Time
}

// Entry is a name in a folder.
type Entry struct {
	Name string
	Attr Attr
}

// FSInfo is the space of a tree, in bytes.
type FSInfo struct {
	BlockSize          uint64
	Total, Free, Avail uint64
	Files, FilesFree   uint64
	NameMax            uint64
	ReadOnly           bool
}
