package maintenance

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// hooks are called before data is read from or written to files, and may take
// their time.
type hooks struct {
	read, write atomic.Pointer[func(path string)]
}

func (h *hooks) onRead(f func(path string))  { h.read.Store(&f) }
func (h *hooks) onWrite(f func(path string)) { h.write.Store(&f) }

func call(f *atomic.Pointer[func(string)], path string) {
	if f := f.Load(); f != nil {
		(*f)(path)
	}
}

// stop holds up the first operation on a file whose path has part in it.
type stop struct {
	part        string
	reached     chan struct{} // closed when it does
	gone        chan struct{}
	once, freed atomic.Bool
}

func newStop(part string) *stop {
	return &stop{part: part, reached: make(chan struct{}), gone: make(chan struct{})}
}

func (s *stop) hook(path string) {
	if strings.Contains(path, s.part) && !s.once.Swap(true) {
		close(s.reached)
		<-s.gone
	}
}

// release lets it go on.
func (s *stop) release() {
	if !s.freed.Swap(true) {
		close(s.gone)
	}
}

// hookedFS calls hooks.
type hookedFS struct {
	vfs.FS
	h *hooks
}

func (fs hookedFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, o...)
	return fs.wrap(name, f, err)
}

func (fs hookedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c, o...)
	return fs.wrap(name, f, err)
}

func (fs hookedFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &hookedFile{f, name, fs.h}, nil
}

type hookedFile struct {
	vfs.File
	name string
	h    *hooks
}

func (f *hookedFile) ReadAt(p []byte, off int64) (int, error) {
	call(&f.h.read, f.name)
	return f.File.ReadAt(p, off)
}

func (f *hookedFile) WriteAt(p []byte, off int64) (int, error) {
	call(&f.h.write, f.name)
	return f.File.WriteAt(p, off)
}
