// Package nbdtest has what tests of nbd and of its users need: a sparse device
// in memory, a set of exports, and a conformance suite for devices.
package nbdtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/strongroom-backup/strongroom/nbd"
)

// pageSize is the granularity of holes.
const pageSize = 64 << 10

// Disk is a sparse disk in memory. Open gives devices that share it.
type Disk struct {
	size int64
	// Opened and Closed count devices; Busy is the number of operations under
	// way now; the rest count operations.
	Opened, Closed, Busy                 atomic.Int64
	Reads, Writes, Zeroes, Flushes, Exts atomic.Int64

	before atomic.Pointer[func(op string, off, n int64) error]

	mu    sync.RWMutex
	pages map[int64]*[pageSize]byte
}

// NewDisk makes an empty disk.
func NewDisk(size int64) *Disk {
	return &Disk{size: size, pages: make(map[int64]*[pageSize]byte)}
}

// Intercept makes f be called before every operation of a device ("read",
// "write", "zero", "flush", "extents"). It may block, and its error fails the
// operation.
func (d *Disk) Intercept(f func(op string, off, n int64) error) { d.before.Store(&f) }

// Open makes a device.
func (d *Disk) Open() nbd.Device {
	d.Opened.Add(1)
	return &device{disk: d}
}

// Bytes is a copy of the whole content.
func (d *Disk) Bytes() []byte {
	b := make([]byte, d.size)
	d.mu.RLock()
	defer d.mu.RUnlock()
	d.eachPage(0, d.size, func(at, off, n int64, p *[pageSize]byte) {
		if p != nil {
			copy(b[at:at+n], p[off:off+n])
		}
	})
	return b
}

// eachPage calls f for the pieces of a range that lie in one page each: at is
// the place in the range, off the place in the page.
func (d *Disk) eachPage(off, n int64, f func(at, off, n int64, p *[pageSize]byte)) {
	for at := int64(0); at < n; {
		in := (off + at) % pageSize
		k := min(pageSize-in, n-at)
		f(at, in, k, d.pages[(off+at)/pageSize])
		at += k
	}
}

// device is one opening of a Disk.
type device struct {
	disk   *Disk
	closed atomic.Bool
}

// enter starts an operation; the returned function ends it.
func (v *device) enter(op string, n *atomic.Int64, off, length int64) (func(), error) {
	d := v.disk
	if v.closed.Load() {
		panic("nbdtest: " + op + " on a closed device")
	}
	if off < 0 || length < 0 || off > d.size || length > d.size-off {
		panic(fmt.Sprintf("nbdtest: %s outside the device: offset %d, length %d", op, off, length))
	}
	n.Add(1)
	d.Busy.Add(1)
	if f := d.before.Load(); f != nil {
		if err := (*f)(op, off, length); err != nil {
			d.Busy.Add(-1)
			return nil, err
		}
	}
	return func() { d.Busy.Add(-1) }, nil
}

func (v *device) Size() int64 { return v.disk.size }

func (v *device) ReadAt(p []byte, off int64) (int, error) {
	leave, err := v.enter("read", &v.disk.Reads, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer leave()
	v.disk.mu.RLock()
	defer v.disk.mu.RUnlock()
	v.disk.eachPage(off, int64(len(p)), func(at, off, n int64, page *[pageSize]byte) {
		if page == nil {
			clear(p[at : at+n])
			return
		}
		copy(p[at:at+n], page[off:off+n])
	})
	return len(p), nil
}

func (v *device) WriteAt(p []byte, off int64) (int, error) {
	leave, err := v.enter("write", &v.disk.Writes, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer leave()
	d := v.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := 0; at < len(p); {
		page, in := (off+int64(at))/pageSize, (off+int64(at))%pageSize
		if d.pages[page] == nil {
			d.pages[page] = new([pageSize]byte)
		}
		at += copy(d.pages[page][in:], p[at:])
	}
	return len(p), nil
}

func (v *device) Zero(off, n int64) error {
	leave, err := v.enter("zero", &v.disk.Zeroes, off, n)
	if err != nil {
		return err
	}
	defer leave()
	d := v.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for n > 0 {
		page, in := off/pageSize, off%pageSize
		k := min(pageSize-in, n)
		switch {
		case k == pageSize:
			delete(d.pages, page)
		case d.pages[page] != nil:
			clear(d.pages[page][in : in+k])
		}
		off, n = off+k, n-k
	}
	return nil
}

func (v *device) Flush() error {
	leave, err := v.enter("flush", &v.disk.Flushes, 0, 0)
	if err != nil {
		return err
	}
	leave()
	return nil
}

func (v *device) Extents(off, n int64, yield func(length int64, zero bool) bool) error {
	leave, err := v.enter("extents", &v.disk.Exts, off, n)
	if err != nil {
		return err
	}
	defer leave()
	v.disk.mu.RLock()
	defer v.disk.mu.RUnlock()
	type run struct {
		n    int64
		zero bool
	}
	var runs []run
	v.disk.eachPage(off, n, func(_, _, k int64, p *[pageSize]byte) {
		if l := len(runs); l > 0 && runs[l-1].zero == (p == nil) {
			runs[l-1].n += k
			return
		}
		runs = append(runs, run{k, p == nil})
	})
	for _, r := range runs {
		if !yield(r.n, r.zero) {
			return nil
		}
	}
	return nil
}

func (v *device) Close() error {
	if v.closed.Swap(true) {
		panic("nbdtest: device closed twice")
	}
	v.disk.Closed.Add(1)
	return nil
}

// Export is one entry of Exports.
type Export struct {
	Info nbd.Info
	Disk *Disk
	// Err, when set, is the answer to Stat and Open.
	Err error
	// OpenErr, when set, is the answer to Open only.
	OpenErr error
	// Bitmaps are its metadata contexts.
	Bitmaps []*Bitmap
}

// Exports is a set of exports in memory.
type Exports struct {
	mu   sync.Mutex
	list []*Export
}

// Add adds or replaces an export.
func (x *Exports) Add(e *Export) *Exports {
	x.Remove(e.Info.Name)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, e)
	return x
}

// Remove makes a name unknown.
func (x *Exports) Remove(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, e := range x.list {
		if e.Info.Name == name {
			x.list = append(x.list[:i:i], x.list[i+1:]...)
			return
		}
	}
}

// List implements nbd.Exports.
func (x *Exports) List(context.Context) ([]nbd.Info, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var l []nbd.Info
	for _, e := range x.list {
		l = append(l, e.Info)
	}
	return l, nil
}

func (x *Exports) find(name string) (*Export, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.list {
		if e.Info.Name == name {
			return e, e.Err
		}
	}
	return nil, fmt.Errorf("export %q: %w", name, nbd.ErrUnknownExport)
}

// Stat implements nbd.Exports.
func (x *Exports) Stat(_ context.Context, name string) (nbd.Info, int64, error) {
	e, err := x.find(name)
	if err != nil {
		return nbd.Info{}, 0, err
	}
	return e.Info, e.Disk.size, nil
}

// Open implements nbd.Exports.
func (x *Exports) Open(_ context.Context, name string) (nbd.Device, nbd.Info, error) {
	e, err := x.find(name)
	if err == nil {
		err = e.OpenErr
	}
	if err != nil {
		return nil, nbd.Info{}, err
	}
	dev := e.Disk.Open()
	if len(e.Bitmaps) > 0 {
		dev = &bitmapDevice{Device: dev, bitmaps: e.Bitmaps}
	}
	return dev, e.Info, nil
}
