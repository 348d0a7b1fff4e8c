package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/sftp"
)

const (
	rawSuffix   = ".raw"
	qcow2Suffix = ".qcow2"
	chainSuffix = ".chain"
	filesName   = "files"
)

// restore is the tree of the points of some VMs:
//
//	VM/POINT/DISK.raw  DISK.qcow2  DISK.chain/NN-POINT.qcow2  BLOB  files/NAME
//
// Names are looked up in the catalog each time; nothing is kept but the tables
// of virtual files.
type restore struct {
	s   *Service
	vms matcher
}

// entry is what a name below /restore leads to.
type entry struct {
	name string
	mod  time.Time
	size func() (int64, error)     // of a file
	open func() (sftp.File, error) // of a file
	list func(after string, n int) ([]entry, error)
	find func(name string) (entry, error) // in a folder
}

func (e *entry) dir() bool { return e.find != nil }

func (e *entry) attr() (sftp.Attr, error) {
	if e.dir() {
		return dirAttr(e.mod, 0o500), nil
	}
	size, err := e.size()
	return sftp.Attr{Mode: 0o400, Size: size, ModTime: e.mod, AccessTime: e.mod, Links: 1}, err
}

// locate walks down to a relative name.
func (r *restore) locate(name string) (entry, error) {
	at := r.top()
	for name != "" {
		var first string
		first, name = split(name)
		if !at.dir() {
			return entry{}, fmt.Errorf("%s: %w", at.name, syscall.ENOTDIR)
		}
		var err error
		if at, err = at.find(first); err != nil {
			return entry{}, known(err)
		}
	}
	return at, nil
}

// known makes errors of the catalog those of a file system.
func known(err error) error {
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrInvalid) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// visit does something with what a name leads to. A point of a chain may go
// between the look at the chain and the use of it; then the chain is another one.
func (r *restore) visit(name string, do func(e *entry) error) error {
	for try := 1; ; try++ {
		e, err := r.locate(name)
		if err != nil {
			return err
		}
		err = known(do(&e))
		if try == chainTries || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

func (r *restore) stat(name string) (a sftp.Attr, err error) {
	err = r.visit(name, func(e *entry) error {
		a, err = e.attr()
		return err
	})
	return a, err
}

func (r *restore) open(name string) (f sftp.File, err error) {
	err = r.visit(name, func(e *entry) error {
		if e.dir() {
			return fmt.Errorf("%s: %w", name, syscall.EISDIR)
		}
		f, err = e.open()
		return err
	})
	return f, err
}

func (r *restore) list(name, after string, n int) (list []sftp.Entry, err error) {
	err = r.visit(name, func(e *entry) error {
		if !e.dir() {
			return fmt.Errorf("%s: %w", name, syscall.ENOTDIR)
		}
		entries, err := e.list(after, min(n, maxListing))
		if err != nil {
			return err
		}
		list = make([]sftp.Entry, len(entries))
		for i := range entries {
			list[i].Name = entries[i].name
			if list[i].Attr, err = entries[i].attr(); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// pick takes the first n entries behind after, of all in a folder.
func pick(all []entry, after string, n int) []entry {
	all = slices.DeleteFunc(all, func(e entry) bool { return e.name <= after })
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all[:min(n, len(all))]
}

// folderEntry is a folder whose entries are few.
func folderEntry(name string, mod time.Time, all func() ([]entry, error)) entry {
	return entry{
		name: name, mod: mod,
		list: func(after string, n int) ([]entry, error) {
			l, err := all()
			return pick(l, after, n), err
		},
		find: func(want string) (entry, error) {
			l, err := all()
			if i := slices.IndexFunc(l, func(e entry) bool { return e.name == want }); i >= 0 {
				return l[i], nil
			}
			return entry{}, errors.Join(err, notExist(want))
		},
	}
}

// top is /restore: the VMs.
func (r *restore) top() entry {
	return entry{
		name: restoreName, mod: r.s.now(),
		list: func(after string, n int) ([]entry, error) {
			names, err := r.vms.list(r.s.o.Catalog)
			if err != nil {
				return nil, err
			}
			var all []entry
			for vm := range names {
				all = append(all, r.vm(vm))
			}
			return pick(all, after, n), nil
		},
		find: func(vm string) (entry, error) {
			if !r.vms.match(vm) || !r.vms.named(vm) && !r.s.hasPoints(vm) {
				return entry{}, notExist(vm)
			}
			return r.vm(vm), nil
		},
	}
}

// vm is the folder of a VM: its points.
func (r *restore) vm(vm string) entry {
	e := entry{
		name: vm, mod: r.s.now(),
		list: func(after string, n int) ([]entry, error) { return r.points(vm, after, n) },
		find: func(name string) (entry, error) {
			p, err := r.lookUp(vm, name)
			if err != nil {
				return entry{}, err
			}
			return r.point(&p), nil
		},
	}
	if p, ok, err := r.s.o.Catalog.Latest(vm, ""); ok && err == nil {
		e.mod = p.Time
	}
	return e
}

// points lists the first n points of a VM behind after, by id. Ids follow the
// time a commit began, points the time it ended, so all are looked at, and few
// are held.
func (r *restore) points(vm, after string, n int) ([]entry, error) {
	var all []entry
	err := r.s.o.Catalog.EachPoint(vm, time.Time{}, func(p *catalog.Point) bool {
		if p.ID > after {
			all = append(all, r.point(p))
		}
		if len(all) >= 2*n+64 {
			all = pick(all, after, n)
		}
		return true
	})
	return pick(all, after, n), err
}

// lookUp finds a point by id, RFC 3339 time, latest or latest~N.
func (r *restore) lookUp(vm, name string) (catalog.Point, error) {
	if ids.IsID(name) {
		p, err := r.s.o.Catalog.Point(name)
		if err == nil && (p.VM != vm || !p.Trashed.IsZero()) {
			return p, notExist(name)
		}
		return p, err
	}
	if _, err := time.Parse(time.RFC3339, name); err != nil && name != "latest" && !strings.HasPrefix(name, "latest~") {
		return catalog.Point{}, notExist(name)
	}
	return r.s.o.Catalog.Resolve(catalog.Ref{VM: vm, Point: name})
}

// point is the folder of a point.
func (r *restore) point(p *catalog.Point) entry {
	return folderEntry(p.ID, p.Time, func() ([]entry, error) {
		var all []entry
		taken := map[string]bool{filesName: len(p.Files) > 0}
		for _, im := range p.Images {
			flat := &layer{point: *p, image: im}
			all = append(all, r.raw(p, im.Disk+rawSuffix, im.Disk, im.Size, p.Time), r.virtual(flat, im.Disk+qcow2Suffix),
				folderEntry(im.Disk+chainSuffix, p.Time, func() ([]entry, error) { return r.chainFiles(p, im.Disk) }))
		}
		for i := range all {
			taken[all[i].name] = true
		}
		for _, b := range p.Blobs {
			if !taken[b.Name] {
				all = append(all, r.blob(p, &b))
			}
		}
		if len(p.Files) > 0 {
			all = append(all, r.files(p, "", filesName, p.Time))
		}
		return all, nil
	})
}

// chainFiles are the files of a disk's chain.
func (r *restore) chainFiles(p *catalog.Point, disk string) ([]entry, error) {
	chain, err := r.chain(*p, disk)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, l := range chain {
		all = append(all, r.virtual(l, l.name()))
	}
	return all, nil
}

// raw is an image, or a file, as it is.
func (r *restore) raw(p *catalog.Point, name, disk string, size int64, mod time.Time) entry {
	return entry{
		name: name, mod: mod,
		size: func() (int64, error) { return size, nil },
		open: func() (sftp.File, error) {
			x, err := r.s.o.Volumes.OpenImage(p.ID, disk)
			if err != nil {
				return nil, err
			}
			return r.s.reading(name, x, x.Size(), mod, func() { _ = x.Close() }), nil
		},
	}
}

// virtual is a layer as a qcow2 file.
func (r *restore) virtual(l *layer, name string) entry {
	return entry{
		name: name, mod: l.point.Time,
		size: func() (int64, error) { return r.s.viewSize(l) },
		open: func() (sftp.File, error) {
			v, err := r.s.openView(l)
			if err != nil {
				return nil, err
			}
			return r.s.reading(name, v.file, v.file.Size(), l.point.Time, func() { r.s.closeView(v) }), nil
		},
	}
}

func (r *restore) blob(p *catalog.Point, b *catalog.BlobInfo) entry {
	return entry{
		name: b.Name, mod: p.Time,
		size: func() (int64, error) { return b.Size, nil },
		open: func() (sftp.File, error) {
			data, err := r.s.o.Catalog.Blob(p.ID, b.Name)
			if err != nil {
				return nil, err
			}
			return r.s.reading(b.Name, bytes.NewReader(data), b.Size, p.Time, func() {}), nil
		},
	}
}

// files is a folder of a point's files; prefix is its name and a slash, or nothing.
func (r *restore) files(p *catalog.Point, prefix, name string, mod time.Time) entry {
	return folderEntry(name, mod, func() ([]entry, error) {
		var all []entry
		for _, f := range p.Files { // sorted, but "a/b" may come behind "a.x"
			rest, ok := strings.CutPrefix(f.Name, prefix)
			if !ok {
				continue
			}
			first, _, deeper := strings.Cut(rest, "/")
			switch {
			case !deeper:
				all = append(all, r.raw(p, first, catalog.FileKey(f.Name), f.Size, f.Modified))
			case !slices.ContainsFunc(all, func(e entry) bool { return e.name == first }):
				all = append(all, r.files(p, prefix+first+"/", first, p.Time))
			}
		}
		return all, nil
	})
}

// reader is a file that only is read.
type reader struct {
	s      *Service
	name   string
	src    io.ReaderAt
	attr   sftp.Attr
	finish func()
}

// reading opens a file of content src; finish is called once nobody reads any more.
func (s *Service) reading(name string, src io.ReaderAt, size int64, mod time.Time, finish func()) *reader {
	s.stats.Handles.Add(1)
	return &reader{s: s, name: name, src: src, finish: finish,
		attr: sftp.Attr{Mode: 0o400, Size: size, ModTime: mod, AccessTime: mod, Links: 1}}
}

func (f *reader) ReadAt(p []byte, off int64) (int, error) {
	left, end := f.attr.Size-off, error(nil)
	if off < 0 || left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	n, err := f.src.ReadAt(p, off)
	f.s.stats.read(n)
	if n < len(p) {
		return n, err
	}
	return n, end
}

func (f *reader) fixed() error { return fmt.Errorf("%s: %w", f.name, syscall.EROFS) }

func (f *reader) WriteAt([]byte, int64) (int, error) { return 0, f.fixed() }
func (f *reader) SetAttr(sftp.Changes) error         { return f.fixed() }
func (f *reader) Stat() (sftp.Attr, error)           { return f.attr, nil }
func (f *reader) Sync() error                        { return nil } // it is durable

func (f *reader) Close() error {
	if f.finish != nil {
		f.finish()
		f.finish = nil
		f.s.stats.Handles.Add(-1)
	}
	return nil
}

func (f *reader) Abandon() error { return f.Close() }
