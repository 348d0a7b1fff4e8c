package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// fileReader lets a File be compared like a disk.
type fileReader struct{ *File }

func (r fileReader) Size() int64 { return r.Status().Size }

func (d *memDisk) truncate(size int64) {
	if size < d.size {
		if in := size % dedup.BlockSize; in != 0 {
			d.write(make([]byte, dedup.BlockSize-in), size)
		}
		for i := range d.blocks {
			if i*dedup.BlockSize >= size {
				delete(d.blocks, i)
			}
		}
	}
	d.size = size
}

// writeOut is a write that lets the file grow.
func (d *memDisk) writeOut(p []byte, off int64) {
	d.size = max(d.size, off+int64(len(p)))
	d.write(p, off)
}

// fileModel is what a file should be. Names lead to it in folderModel.
type fileModel struct {
	*memDisk
	mode     uint32
	modified time.Time // as last seen
	copied   int
	handles  []*File
}

// folderModel is a session for files.
type folderModel struct {
	id    string
	names map[string]*fileModel
	loose []*fileModel // removed and open
	disks map[string]*importModel
}

type importModel struct {
	*memDisk
	disk   *Disk
	source *fileModel
	from   map[*fileModel]bool
}

// fileHistory runs random operations on a session for files and on the model.
type fileHistory struct {
	*history
	f      *folderModel
	full   map[string]string // newest point that has the disk
	images map[string]*memDisk
	files  []pointFiles
}

type pointFiles struct {
	point string
	names map[string]*memDisk
	disk  map[string]string
}

var fileNames = []string{"root.qcow2", "root.qcow2.part", "dir/data.raw", "a b/ü/x", "notes", ".fuse_hidden1"}

func (h *fileHistory) begin() {
	st, err := h.w.m.Start(StartRequest{VM: "vm", Files: true, Mode: []string{"auto", "full"}[h.rng.IntN(2)]})
	h.must(err)
	h.f = &folderModel{id: st.Session, names: map[string]*fileModel{}, disks: map[string]*importModel{}}
}

func (h *fileHistory) name() string { return fileNames[h.rng.IntN(len(fileNames))] }

// any is one of the files that somebody has open.
func (h *fileHistory) any() (*fileModel, *File) {
	var list []*fileModel
	for _, name := range slices.Sorted(maps.Keys(h.f.names)) {
		list = append(list, h.f.names[name])
	}
	list = append(list, h.f.loose...)
	list = slices.DeleteFunc(list, func(f *fileModel) bool { return len(f.handles) == 0 })
	if len(list) == 0 {
		return nil, nil
	}
	f := list[h.rng.IntN(len(list))]
	return f, f.handles[h.rng.IntN(len(f.handles))]
}

// sealed expects an operation on a file that a disk is made of to be refused.
func (h *fileHistory) sealed(f *fileModel, err error) bool {
	h.t.Helper()
	if f.copied > 0 {
		if !errors.Is(err, ErrInUse) {
			h.t.Fatalf("a file that a disk is made of was changed: %v", err)
		}
		return true
	}
	h.must(err)
	return false
}

func (h *fileHistory) change() {
	f, x := h.any()
	if f == nil {
		h.create()
		return
	}
	switch op := h.rng.IntN(100); {
	case op < 55:
		off := f.size // append
		if h.rng.IntN(2) == 0 {
			off, _ = h.place(max(f.size+2*dedup.BlockSize, 1), 1<<20)
		}
		p := h.payload(1 + h.rng.IntN(1<<19))
		if h.rng.IntN(3) == 0 {
			off = off / dedup.BlockSize * dedup.BlockSize
			p = p[:max(len(p)/dedup.BlockSize*dedup.BlockSize, 1)]
		}
		if _, err := x.WriteAt(p, off); !h.sealed(f, err) {
			f.writeOut(p, off)
		}
	case op < 65:
		off, n := h.place(max(f.size, 1)+dedup.ChunkSize, 100<<20)
		if err := x.Zero(off, n); !h.sealed(f, err) {
			f.size = max(f.size, off+n)
			h.zero(f.memDisk, off, n)
		}
	case op < 85:
		size := int64(0)
		switch h.rng.IntN(4) {
		case 0:
		case 1:
			size = h.rng.Int64N(f.size + 1)
		case 2:
			size = f.size + h.rng.Int64N(3*dedup.ChunkSize)
		case 3:
			size = f.size / dedup.BlockSize * dedup.BlockSize
		}
		if err := x.Truncate(size); !h.sealed(f, err) {
			f.truncate(size)
		}
	default:
		f.mode = uint32(h.rng.IntN(maxFileMode + 1))
		h.must(x.SetAttributes(time.Unix(int64(h.rng.IntN(1<<31)), 123), f.mode))
	}
	f.modified = x.Status().Modified
}

func (h *fileHistory) create() {
	name := h.name()
	x, err := h.w.m.CreateFile(h.f.id, name, 0o640)
	if h.f.names[name] != nil {
		if !errors.Is(err, fs.ErrExist) {
			h.t.Fatalf("create a name that is taken: %v", err)
		}
		return
	}
	h.must(err)
	h.f.names[name] = &fileModel{memDisk: newMemDisk(0), mode: 0o640, modified: x.Status().Modified, handles: []*File{x}}
}

func (h *fileHistory) open() {
	name := h.name()
	x, err := h.w.m.OpenFile(h.f.id, name)
	f := h.f.names[name]
	if f == nil {
		if !errors.Is(err, fs.ErrNotExist) {
			h.t.Fatalf("open a name nobody has: %v", err)
		}
		return
	}
	h.must(err)
	f.handles = append(f.handles, x)
}

func (h *fileHistory) close() {
	f, x := h.any()
	if f == nil {
		return
	}
	h.must(x.Close())
	f.handles = slices.DeleteFunc(f.handles, func(y *File) bool { return x == y })
	if _, err := x.WriteAt([]byte{1}, 0); !errors.Is(err, fs.ErrClosed) {
		h.t.Fatalf("write after close: %v", err)
	}
	h.f.loose = slices.DeleteFunc(h.f.loose, func(f *fileModel) bool { return len(f.handles) == 0 })
}

func (h *fileHistory) links(f *fileModel) (n int) {
	for _, g := range h.f.names {
		if f == g {
			n++
		}
	}
	return n
}

// dropName takes a name from the model.
func (h *fileHistory) dropName(name string) {
	f := h.f.names[name]
	delete(h.f.names, name)
	if f != nil && h.links(f) == 0 && len(f.handles) > 0 {
		h.f.loose = append(h.f.loose, f)
	}
}

func (h *fileHistory) naming() {
	from, to := h.name(), h.name()
	f, old := h.f.names[from], h.f.names[to]
	switch h.rng.IntN(3) {
	case 0:
		err := h.w.m.RenameFile(h.f.id, from, to)
		switch {
		case f == nil:
			h.missing(err)
		case old == f:
			h.must(err)
		case old != nil && old.copied > 0 && h.links(old) == 1:
			h.sealed(old, err)
		default:
			h.must(err)
			h.dropName(to)
			h.f.names[to] = f
			delete(h.f.names, from)
		}
	case 1:
		err := h.w.m.LinkFile(h.f.id, from, to)
		switch {
		case f == nil:
			h.missing(err)
		case old != nil:
			if !errors.Is(err, fs.ErrExist) {
				h.t.Fatalf("link over a name: %v", err)
			}
		default:
			h.must(err)
			h.f.names[to] = f
		}
	case 2:
		err := h.w.m.RemoveFile(h.f.id, from)
		switch {
		case f == nil:
			h.missing(err)
		case f.copied > 0 && h.links(f) == 1:
			h.sealed(f, err)
		default:
			h.must(err)
			h.dropName(from)
		}
	}
}

func (h *fileHistory) missing(err error) {
	h.t.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatalf("a name nobody has: %v", err)
	}
}

// importDisk makes a disk of a file: blocks of it, shifted, and something of the
// parent perhaps.
func (h *fileHistory) importDisk() {
	f, x := h.any()
	name := []string{"vda", "vdb"}[h.rng.IntN(2)]
	if f == nil || f.size == 0 || h.f.disks[name] != nil || f.copied > 0 {
		return
	}
	source := ""
	for _, n := range slices.Sorted(maps.Keys(h.f.names)) {
		if f == h.f.names[n] {
			source = n
		}
	}
	size := []int64{f.size, f.size + 100, (f.size + dedup.BlockSize) / dedup.BlockSize * dedup.BlockSize, dedup.ChunkSize + 777}[h.rng.IntN(4)]
	d, err := h.w.m.AddDisk(h.f.id, DiskImport{Disk: name, Size: size, Source: source})
	h.must(err)
	want := newMemDisk(size)
	if d.d.spec.Parent != "" {
		if d.d.spec.Parent != h.full[name] {
			h.t.Fatalf("disk %s inherits from %s, the newest is %s", name, d.d.spec.Parent, h.full[name])
		}
		want = h.images[name].fork(size)
	}
	im := &importModel{memDisk: want, disk: d, source: f, from: map[*fileModel]bool{}}
	if source == "" {
		im.source = nil
	}
	h.f.disks[name] = im
	for range 3 {
		h.copyBlocks(im, f, x)
	}
	h.must(want.equal(d))
}

func (h *fileHistory) copyBlocks(im *importModel, f *fileModel, x *File) {
	from := h.rng.Int64N(f.size) / dedup.BlockSize * dedup.BlockSize
	to := h.rng.Int64N(im.size) / dedup.BlockSize * dedup.BlockSize
	n := min(f.size-from, im.size-to)
	if h.rng.IntN(2) == 0 && n > dedup.BlockSize {
		n = n / 2 / dedup.BlockSize * dedup.BlockSize
	}
	if err := im.disk.CopyBlocks(x, from, to, n); err != nil {
		h.t.Fatalf("copy %d+%d of %d bytes to %d of %d: %v", from, n, f.size, to, im.size, err)
	}
	if !im.from[f] {
		im.from[f] = true
		f.copied++
	}
	p := make([]byte, n)
	f.read(p, from)
	im.write(p, to)
	if in := n % dedup.BlockSize; in != 0 && to+n < im.size { // a block is taken whole
		im.write(make([]byte, min(dedup.BlockSize-in, im.size-to-n)), to+n)
	}
}

func (h *fileHistory) dropDisk() {
	for _, name := range slices.Sorted(maps.Keys(h.f.disks)) {
		im := h.f.disks[name]
		h.must(h.w.m.DropDisk(h.f.id, name))
		if err := im.disk.Zero(0, 1); !errors.Is(err, ErrClosed) {
			h.t.Fatalf("a dropped disk was changed: %v", err)
		}
		h.forgetDisk(name)
		return
	}
}

func (h *fileHistory) forgetDisk(name string) {
	for f := range h.f.disks[name].from {
		f.copied--
	}
	delete(h.f.disks, name)
}

// look compares everything with the model.
func (h *fileHistory) look() {
	h.t.Helper()
	list, err := h.w.m.FileNames(h.f.id)
	h.must(err)
	if len(list) != len(h.f.names) || !slices.IsSortedFunc(list, func(a, b FileStatus) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		h.t.Fatalf("%d names, want %d: %+v", len(list), len(h.f.names), list)
	}
	ids := map[uint64]*fileModel{}
	for _, st := range list {
		f := h.f.names[st.Name]
		if f == nil || st.Size != f.size || st.Mode != f.mode || st.Links != h.links(f) || !st.Modified.Equal(f.modified) || st.Lost != "" {
			h.t.Fatalf("file %q is %+v, want %+v", st.Name, st, f)
		}
		if old := ids[st.ID]; old != nil && old != f {
			h.t.Fatalf("two files have id %d", st.ID)
		}
		ids[st.ID] = f
		x, err := h.w.m.OpenFile(h.f.id, st.Name)
		h.must(err)
		if err := f.equal(fileReader{x}); err != nil {
			h.t.Fatalf("file %q: %v", st.Name, err)
		}
		h.must(x.Close())
	}
	for _, f := range h.f.loose {
		if err := f.equal(fileReader{f.handles[0]}); err != nil {
			h.t.Fatalf("a removed file: %v", err)
		}
	}
}

func (h *fileHistory) restart(clean bool) {
	for _, f := range h.f.names { // what the model says of the time is what the journal says after a flush
		f.handles = nil
	}
	if !clean {
		for name := range h.f.names {
			x, err := h.w.m.OpenFile(h.f.id, name)
			h.must(err)
			h.must(x.d().logModified())
			h.must(x.Close())
		}
	}
	h.f.loose = nil
	for name := range h.f.disks {
		h.forgetDisk(name)
	}
	if clean {
		h.w.stop()
		h.w.boot += "+"
	} else {
		h.w.kill()
	}
	h.w.start()
	st, err := h.w.m.Status(h.f.id)
	h.must(err)
	if st.State != Open || len(st.Disks) > 0 {
		h.t.Fatalf("after a restart: %+v", st)
	}
	if n := h.w.journals(h.f.id); n != h.distinct() {
		h.t.Fatalf("%d journals for %d files", n, h.distinct())
	}
}

func (x *File) d() *disk { return x.f.d }

func (h *fileHistory) distinct() int {
	set := map[*fileModel]bool{}
	for _, f := range h.f.names {
		set[f] = true
	}
	return len(set)
}

// journals counts a session's.
func (w *world) journals(id string) (n int) {
	names, err := w.fs.List(w.m.sessionDir(id))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		if name != "session.json" {
			n++
		}
	}
	return n
}

func (h *fileHistory) commit() {
	if len(h.f.names)+len(h.f.disks) == 0 {
		_, err := h.w.m.Commit(h.f.id)
		if !errors.Is(err, ErrBadRequest) {
			h.t.Fatalf("commit of nothing: %v", err)
		}
		return
	}
	for name, im := range h.f.disks {
		if im.source != nil && h.links(im.source) == 0 {
			h.t.Fatalf("disk %s's source is gone", name)
		}
	}
	r, err := h.w.m.Commit(h.f.id)
	h.must(err)
	pf := pointFiles{point: r.Point, names: map[string]*memDisk{}, disk: map[string]string{}}
	for name, f := range h.f.names {
		pf.names[name] = f.memDisk
		for disk, im := range h.f.disks {
			if im.source == f {
				pf.disk[name] = disk
			}
		}
	}
	h.files = append(h.files, pf)
	p := pointModel{id: r.Point, vm: "vm", disks: map[string]*memDisk{}}
	for name, im := range h.f.disks {
		p.disks[name], h.full[name], h.images[name] = im.memDisk, r.Point, im.memDisk
	}
	h.points = append(h.points, p)
	for _, f := range h.f.names {
		for _, x := range f.handles {
			if _, err := x.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
				h.t.Fatalf("read after the commit: %v", err)
			}
			h.must(x.Close())
		}
		f.handles = nil // it may have other names
	}
	h.begin()
}

func (h *fileHistory) checkFiles() {
	h.t.Helper()
	for _, pf := range h.files {
		p, err := h.w.cat.Point(pf.point)
		h.must(err)
		if len(p.Files) != len(pf.names) {
			h.t.Fatalf("point %s has %d files, want %d", p.ID, len(p.Files), len(pf.names))
		}
		for _, f := range p.Files {
			if f.Disk != pf.disk[f.Name] {
				h.t.Fatalf("file %q was understood as %q, want %q", f.Name, f.Disk, pf.disk[f.Name])
			}
			im, err := h.w.m.OpenImage(p.ID, catalog.FileKey(f.Name))
			h.must(err)
			if err := pf.names[f.Name].equal(im); err != nil {
				h.t.Fatalf("point %s, file %q: %v", p.ID, f.Name, err)
			}
			h.must(im.Close())
		}
	}
	for range h.points {
		h.checkPoint()
	}
}

func (h *fileHistory) step() {
	switch op := h.rng.IntN(100); {
	case op < 60:
		h.change()
	case op < 65:
		h.create()
	case op < 70:
		h.open()
	case op < 73:
		h.close()
	case op < 83:
		h.naming()
	case op < 87:
		if _, x := h.any(); x != nil {
			h.must(x.Flush())
		}
	case op < 91:
		h.importDisk()
	case op < 93:
		h.dropDisk()
	case op < 95:
		h.look()
	case op < 97:
		h.restart(op == 96)
		h.look()
	default:
		h.commit()
	}
}

func TestFileHistories(t *testing.T) {
	seed := seedOf(t)
	for i := range uint64(8) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Logf("replay with STRONGROOM_SEED=%d", seed)
			h := &fileHistory{history: &history{t: t, rng: rand.New(rand.NewPCG(seed, i)), w: newWorld(t)},
				full: map[string]string{}, images: map[string]*memDisk{}}
			h.begin()
			for range 150 {
				h.step()
			}
			h.look()
			h.commit()
			h.checkFiles()
		})
	}
}
