package volume

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
)

// file is a file of a session: a disk whose size changes, under any number of
// names.
type file struct {
	d  *disk
	id uint64

	// By session.mu. Without names and users the file goes.
	names   []string // sorted; replaced, never changed
	users   int      // open Files, and added disks that have blocks of it
	created time.Time
	mode    uint32 // when it was created
	lost    string // why nobody can read it: d has no journal then; never changes
}

func newFile(s *session, e *fileEntry) *file {
	spec := diskFile{Disk: fmt.Sprintf("file %q", e.Names[0]), Size: maxFileSize, Mode: catalog.Full}
	d := &disk{s: s, spec: spec, chunks: map[uint32]*chunk{}, resident: map[uint32]*chunk{}, isClean: true,
		file: &fileEnd{modified: e.Created, mode: e.Mode, cut: e.Cut}}
	return &file{d: d, id: e.ID, names: e.Names, created: e.Created, mode: e.Mode, lost: e.Lost}
}

// File is an open file of a session. Every open counts: a file that lost its
// last name is gone when its last File is closed.
type File struct {
	f      *file
	closed atomic.Bool
}

// FileStatus describes a file of a session under one of its names.
type FileStatus struct {
	Name         string    `json:"name"`
	ID           uint64    `json:"id"`    // of the file: equal for all its names, never used again in the session
	Links        int       `json:"links"` // how many names the file has
	Size         int64     `json:"size"`  // bytes
	Modified     time.Time `json:"modified"`
	Mode         uint32    `json:"mode"`          // permission bits
	WrittenBytes int64     `json:"written_bytes"` // data sent, and zeros sent as data
	NewBytes     int64     `json:"new_bytes"`
	StoredBytes  int64     `json:"stored_bytes"`
	// Unfinished says why the file may lack what was written: it cannot be
	// committed then. See File.SetState. Resumable: all that was acknowledged is
	// there, so that a writer can go on.
	Unfinished string `json:"unfinished,omitempty"`
	Resumable  bool   `json:"resumable,omitempty"`
	// Lost says why the file cannot be read any more; it can only be removed.
	Lost string `json:"lost,omitempty"`
}

// status describes a file that has so many names under one of them.
func (f *file) status(name string, links int) FileStatus {
	end, c := f.d.look()
	return FileStatus{Name: name, ID: f.id, Links: links, Size: end.length, Modified: end.modified, Mode: end.mode,
		WrittenBytes: c.written, NewBytes: c.fresh, StoredBytes: c.stored, Unfinished: end.unfinished(), Resumable: end.state == Left && end.cut == "", Lost: f.lost}
}

// ID is the file's number, unique in its session.
func (x *File) ID() uint64 { return x.f.id }

// Status describes the file as it is now, under the first of its names; Name is
// "" once it has none.
func (x *File) Status() FileStatus {
	s := x.f.d.s
	s.mu.Lock()
	names := x.f.names
	s.mu.Unlock()
	if len(names) == 0 {
		return x.f.status("", 0)
	}
	return x.f.status(names[0], len(names))
}

// enter is disk.enter for a handle that is open.
func (x *File) enter() (parity, error) {
	if x.closed.Load() {
		return 0, fs.ErrClosed
	}
	return x.f.d.enter()
}

// ReadAt fills p. Like every io.ReaderAt it returns io.EOF when the file ends
// before p does.
func (x *File) ReadAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, 0, maxFileSize); err != nil {
		return 0, err
	}
	op, err := x.enter()
	if err != nil {
		return 0, err
	}
	d := x.f.d
	defer d.leave(op)
	end, _ := d.look()
	n := max(min(int64(len(p)), end.length-off), 0)
	if n > 0 {
		if err := d.read(p[:n], off); err != nil {
			return 0, err
		}
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// WriteAt stores p and lets the file grow to hold it. When it returns nil the
// data survives a crash of the server, and Flush makes it survive a power cut.
// p is not kept. It is safe for concurrent use.
func (x *File) WriteAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, int64(len(p)), maxFileSize); err != nil {
		return 0, err
	}
	op, err := x.enter()
	if err != nil || len(p) == 0 {
		if err == nil {
			x.f.d.leave(op)
		}
		return 0, err
	}
	defer x.f.d.leave(op)
	if err := x.f.d.write(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// change runs f, which logs what it does to the file, as one operation.
func (x *File) change(f func(d *disk) error) error {
	op, err := x.enter()
	if err != nil {
		return err
	}
	d := x.f.d
	defer d.leave(op)
	return d.log(func() error { return f(d) })
}

// Zero is WriteAt of n zeros, at the price of a journal record.
func (x *File) Zero(off, n int64) error {
	if err := checkRange(off, n, maxFileSize); err != nil || n == 0 {
		return err
	}
	return x.change(func(d *disk) error {
		if err := d.reach(off + n); err != nil {
			return err
		}
		d.total.written += n
		return d.logZero(off, n, true)
	})
}

// Truncate makes the file size bytes long. What it had beyond is gone for ever;
// what it gets reads as zeros.
func (x *File) Truncate(size int64) error {
	if err := checkRange(size, 0, maxFileSize); err != nil {
		return err
	}
	return x.change(func(d *disk) error {
		if err := d.mayChange(); err != nil {
			return err
		}
		e := *d.file
		if err := d.room(size - e.length); err != nil {
			return err
		}
		e.length, e.modified = size, d.s.m.now().UTC()
		if err := d.logFile(e); err != nil {
			return err
		}
		return d.settle()
	})
}

// SetAttributes sets time and permission bits. The next write changes the time.
func (x *File) SetAttributes(modified time.Time, mode uint32) error {
	if mode > maxFileMode || modified.Year() < 1678 || modified.Year() > 2261 {
		return fmt.Errorf("%w: mode %o, time %s", ErrBadRequest, mode, modified.Format(time.RFC3339))
	}
	return x.change(func(d *disk) error {
		e := *d.file
		e.modified, e.mode = modified.UTC(), mode
		return d.logFile(e)
	})
}

// SetState says whether the file is all that was to be written. One that is not
// cannot be committed, after a restart of the server either; so whoever goes
// before he has done leaves no point with half a file. When the host restarts
// before all was flushed, the file is as at its last flush, and not whole until
// somebody who knows says so.
func (x *File) SetState(state FileState) error {
	end, _ := x.f.d.look()
	if end.state != state {
		if err := x.change(func(d *disk) error {
			e := *d.file
			e.state = state
			return d.logFile(e)
		}); err != nil {
			return err
		}
	}
	if state != Whole || end.cut == "" {
		return nil
	}
	return x.f.d.s.heal(x.f)
}

// Extents tells which parts of [off, off+n), as far as the file goes, are zero
// without reading data.
func (x *File) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	if err := checkRange(off, n, maxFileSize); err != nil {
		return err
	}
	op, err := x.enter()
	if err != nil {
		return err
	}
	d := x.f.d
	defer d.leave(op)
	end, _ := d.look()
	if n = min(n, end.length-off); n <= 0 {
		return nil
	}
	return extents(off, n, yield, d.present)
}

// Flush returns when everything acknowledged before for this file, its names
// included, survives a power cut.
func (x *File) Flush() error {
	op, err := x.enter()
	if err != nil {
		return err
	}
	defer x.f.d.leave(op)
	return x.f.d.s.flush([]*disk{x.f.d})
}

// Close gives the handle back.
func (x *File) Close() error {
	if !x.closed.Swap(true) {
		x.f.d.s.unuse(x.f)
	}
	return nil
}

// unuse takes a user away. The file goes with the last one if it has no name.
func (s *session) unuse(f *file) {
	s.mu.Lock()
	f.users--
	gone := s.orphan(f)
	s.mu.Unlock()
	if gone {
		s.dispose(f)
	}
}

// orphan takes a file nobody can come to any more out of the session. The caller
// holds mu, and disposes of it then.
func (s *session) orphan(f *file) bool {
	if f.users > 0 || len(f.names) > 0 || s.files[f.id] != f {
		return false
	}
	delete(s.files, f.id)
	return true
}

// dispose frees what a file without names and users has. A journal that cannot
// be removed now is removed when the server starts, or with the session.
func (s *session) dispose(f *file) {
	end, _ := f.d.look()
	_ = f.d.close()
	s.space.Add(-end.length)
	s.m.files.Add(-1)
	_ = s.m.fs.Remove(s.m.fileJournalPath(s.file.ID, f.id))
}

// fileStatus describes all files under all their names, by name.
func (s *session) fileStatus() (list []FileStatus) {
	for _, f := range s.namedFiles() {
		for _, name := range f.names {
			list = append(list, f.status(name, len(f.names)))
		}
	}
	slices.SortFunc(list, func(a, b FileStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// namedFile is a file and its names at some time.
type namedFile struct {
	*file
	names []string
}

// namedFiles are all files that have names, by id.
func (s *session) namedFiles() (list []namedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if len(f.names) > 0 {
			list = append(list, namedFile{f, f.names})
		}
	}
	slices.SortFunc(list, func(a, b namedFile) int { return cmp.Compare(a.id, b.id) })
	return list
}
