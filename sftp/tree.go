package sftp

import (
	"io"
	"io/fs"
	"time"
)

// Tree is what one session sees. Its methods are called one after the other, by
// the goroutine of the session; trees of other connections are used meanwhile.
//
// Names are absolute and clean: "/", "/a/b", every component 1 to 255 bytes of
// UTF-8 without control characters and neither "." nor "..".
//
// Errors are told apart with errors.Is; their text goes to the client:
//
//	fs.ErrNotExist, ENOTDIR    no such file
//	fs.ErrPermission, EROFS    permission denied
//	errors.ErrUnsupported      operation unsupported
//	io.EOF                     end of file
//	everything else            failure
//
// Version 3 of the protocol has no codes for fs.ErrExist, fs.ErrInvalid, ENOSPC,
// EDQUOT, ENOTEMPTY and EISDIR: only the text tells them apart.
type Tree interface {
	Stat(name string) (Attr, error)
	// Open opens a file; mode matters only when it makes one. The file a
	// successful Open with Create made is there for the next call.
	Open(name string, f OpenFlags, mode fs.FileMode) (File, error)
	// ReadDir returns up to n entries with names above after, sorted by name;
	// none means that there are no more.
	ReadDir(name, after string, n int) ([]Entry, error)
	Mkdir(name string, mode fs.FileMode) error
	Remove(name string) error // a file
	Rmdir(name string) error
	// Rename fails with fs.ErrExist when to is there and replace is not set.
	Rename(from, to string, replace bool) error
	// Link gives the file from the second name to.
	Link(from, to string) error
	SetAttr(name string, c Changes) error
	StatFS(name string) (FSInfo, error)
	// Close ends the session's use of the tree; every File was closed before.
	Close() error
}

// File is an open file. What one method has answered, later calls see, through
// any handle. Methods are called one after the other. ReadAt and WriteAt must
// not keep their argument.
type File interface {
	io.ReaderAt
	// WriteAt of a file opened with Append adds to its end, wherever off is.
	io.WriterAt
	Stat() (Attr, error)
	SetAttr(Changes) error
	// Sync returns when the file, its name included, survives a power cut.
	Sync() error
	// Close is the client's. Its error goes to him.
	Close() error
	// Abandon is called instead of Close when the session ended before the client
	// closed the file: he may not have written all he wanted to.
	Abandon() error
}

// OpenFlags say what a file is opened for. Exclusive comes only with Create.
type OpenFlags struct{ Read, Write, Append, Create, Truncate, Exclusive bool }

// Attr describes a file or folder; Size is in bytes. Of Mode, the permissions
// and fs.ModeDir count.
type Attr struct {
	Mode                fs.FileMode
	Size                int64
	ModTime, AccessTime time.Time
	Links               uint32
	ID                  uint64
}

// Changes are attributes to set; nil ones stay. Size is never negative, Mode has
// permissions only.
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

// FSInfo is the space of a tree; Total, Free and Avail are bytes.
type FSInfo struct {
	BlockSize          uint64
	Total, Free, Avail uint64
	Files, FilesFree   uint64
	NameMax            uint64
	ReadOnly           bool
}
