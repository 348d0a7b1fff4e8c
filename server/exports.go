package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/volume"
)

// exports is what the NBD server serves: the disks of open backups and clones under their
// tokens, writable and never listed; every committed image as VM/DISK@POINT
// and VM:DISK@POINT, read-only; every file of a point as VM:/NAME@POINT,
// read-only and not listed.
type exports struct {
	vols *volume.Manager
	cat  *catalog.Catalog

	// listing lets one listing be made at a time: it reads every point, and any
	// client may ask.
	listing sync.Mutex

	mu     sync.Mutex
	fenced map[string]string // tokens that are refused for now, and why
}

func newExports(vols *volume.Manager, cat *catalog.Catalog) *exports {
	return &exports{vols: vols, cat: cat, fenced: map[string]string{}}
}

// isImageName tells names of images from tokens, which hold neither character.
func isImageName(name string) bool { return strings.ContainsAny(name, "/:") }

// fence refuses tokens until unfence, so that no client comes back while its
// session is being committed or aborted.
func (x *exports) fence(tokens []string, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range tokens {
		x.fenced[t] = why
	}
}

func (x *exports) unfence(tokens []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range tokens {
		delete(x.fenced, t)
	}
}

func (x *exports) checkFence(token string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if why, ok := x.fenced[token]; ok {
		return errors.New(why)
	}
	return nil
}

// List implements nbd.Exports: the newest listedExportsMax images, newest first.
func (x *exports) List(context.Context) ([]nbd.Info, error) {
	x.listing.Lock()
	defer x.listing.Unlock()
	var newest newestFirst
	err := x.cat.EachPoint("", time.Time{}, func(p *catalog.Point) bool {
		for _, im := range p.Images {
			newest.offer(p.Time, imageInfo(*p, im))
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return newest.list(), nil
}

func imageInfo(p catalog.Point, im catalog.Image) nbd.Info {
	return nbd.Info{
		Name:        p.VM + "/" + im.Disk + "@" + p.ID,
		Description: fmt.Sprintf("%s backup of %s, %s", im.Mode, p.VM, p.Time.UTC().Format("2006-01-02 15:04:05 MST")),
		ReadOnly:    true,
	}
}

// Stat implements nbd.Exports.
func (x *exports) Stat(ctx context.Context, name string) (nbd.Info, int64, error) {
	if isImageName(name) {
		im, err := x.resolve(name)
		return im.info, im.size, err
	}
	d, err := x.openToken(name)
	if err != nil {
		return nbd.Info{}, 0, err
	}
	defer d.Close()
	return x.tokenInfo(name, d), d.Size(), nil
}

// Open implements nbd.Exports.
func (x *exports) Open(ctx context.Context, name string) (nbd.Device, nbd.Info, error) {
	if isImageName(name) {
		im, err := x.resolve(name)
		if err != nil {
			return nil, nbd.Info{}, err
		}
		image, err := x.vols.OpenImage(im.point, im.name)
		if err != nil {
			return nil, nbd.Info{}, err
		}
		return x.device(image), im.info, nil
	}
	d, err := x.openToken(name)
	if err != nil {
		return nil, nbd.Info{}, err
	}
	return diskDevice{d}, x.tokenInfo(name, d), nil
}

// committed is what an export name of a point means.
type committed struct {
	point string
	name  string // as volume has it: a disk, or a slash and a file
	size  int64
	info  nbd.Info
}

// resolve finds the image or file a name means.
func (x *exports) resolve(name string) (committed, error) {
	ref, file, isFile := cutFile(name)
	if !isFile {
		var err error
		if ref, err = catalog.ParseRef(name); err != nil || ref.Disk == "" {
			return committed{}, fmt.Errorf("%w: %q: want VM/DISK@POINT", nbd.ErrUnknownExport, name)
		}
	}
	p, err := x.cat.Resolve(ref)
	if errors.Is(err, catalog.ErrNotFound) {
		return committed{}, fmt.Errorf("%w: %v", nbd.ErrUnknownExport, err)
	}
	if err != nil {
		return committed{}, err
	}
	if isFile {
		i := slices.IndexFunc(p.Files, func(f catalog.FileImage) bool { return f.Name == file })
		if i < 0 {
			return committed{}, fmt.Errorf("%w: point %s of VM %s has no file %q", nbd.ErrUnknownExport, p.ID, p.VM, file)
		}
		info := nbd.Info{Name: name, Description: "file of a backup of " + p.VM, ReadOnly: true}
		return committed{point: p.ID, name: "/" + file, size: p.Files[i].Size, info: info}, nil
	}
	i := slices.IndexFunc(p.Images, func(im catalog.Image) bool { return im.Disk == ref.Disk })
	if i < 0 {
		return committed{}, fmt.Errorf("%w: point %s of VM %s has no disk %s", nbd.ErrUnknownExport, p.ID, p.VM, ref.Disk)
	}
	im := p.Images[i]
	return committed{point: p.ID, name: im.Disk, size: im.Size, info: imageInfo(p, im)}, nil
}

// cutFile takes VM:/NAME@POINT apart. NAME may have an @ in it, so that the point
// must be named.
func cutFile(name string) (ref catalog.Ref, file string, ok bool) {
	vm, rest, found := strings.Cut(name, ":/")
	at := strings.LastIndexByte(rest, '@')
	if !found || at < 1 {
		return ref, "", false
	}
	ref, err := catalog.ParseRef(vm + "@" + rest[at+1:])
	return ref, rest[:at], err == nil && ref.Disk == ""
}

func (x *exports) openToken(token string) (*volume.Disk, error) {
	if err := x.checkFence(token); err != nil {
		return nil, err
	}
	d, err := x.vols.OpenExport(token)
	switch {
	case errors.Is(err, volume.ErrNoSession):
		return nil, fmt.Errorf("%w: no open backup or clone has it", nbd.ErrUnknownExport)
	case errors.Is(err, volume.ErrDead), errors.Is(err, volume.ErrClosed), errors.Is(err, volume.ErrStale):
		return nil, fmt.Errorf("%w: %v", nbd.ErrRefused, err)
	}
	return d, err
}

func (x *exports) tokenInfo(token string, d *volume.Disk) nbd.Info {
	info := nbd.Info{Name: token, Description: "backup of disk " + d.Name() + " of " + d.VM()}
	if d.Clone() {
		info.Description = "clone of disk " + d.Name() + " of " + d.VM()
		if st, err := x.vols.Status(d.Session()); err == nil {
			info.Description += "@" + st.Base
		}
	}
	return info
}

// diskDevice is a session's disk as NBD sees it.
type diskDevice struct{ *volume.Disk }

func (d diskDevice) wrap(err error) error { return wrapDevice(d.VM(), d.Name(), err) }

func (d diskDevice) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.Disk.ReadAt(p, off)
	return n, d.wrap(err)
}

func (d diskDevice) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.Disk.WriteAt(p, off)
	return n, d.wrap(err)
}

func (d diskDevice) Zero(off, n int64) error { return d.wrap(d.Disk.Zero(off, n)) }

func (d diskDevice) Flush() error { return d.wrap(d.Disk.Flush()) }

func (d diskDevice) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	return d.wrap(d.Disk.Extents(off, n, yield))
}

// imageDevice is a committed image as NBD sees it.
type imageDevice struct{ *volume.Image }

func (d imageDevice) wrap(err error) error { return wrapDevice(d.VM(), d.Name(), err) }

func (d imageDevice) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.Image.ReadAt(p, off)
	return n, d.wrap(err)
}

func (d imageDevice) WriteAt([]byte, int64) (int, error) { return 0, d.wrap(syscall.EROFS) }

func (d imageDevice) Zero(int64, int64) error { return d.wrap(syscall.EROFS) }

func (d imageDevice) Flush() error { return nil }

func (d imageDevice) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	return d.wrap(d.Image.Extents(off, n, yield))
}

// wrapDevice names the VM and disk, and leaves the client one errno: ENOSPC for
// a full store, EROFS for a write to an image, else EIO.
func wrapDevice(vm, disk string, err error) error {
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return &deviceError{vm, disk, err, syscall.ENOSPC}
	case err == syscall.EROFS:
		return &deviceError{vm, disk, err, syscall.EROFS}
	}
	return &deviceError{vm, disk, err, syscall.EIO}
}
