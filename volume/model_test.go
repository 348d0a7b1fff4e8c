package volume

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
)

// memDisk is the simplest disk there is: the blocks that are not zero.
type memDisk struct {
	size   int64
	blocks map[int64]*[dedup.BlockSize]byte
}

func newMemDisk(size int64) *memDisk {
	return &memDisk{size: size, blocks: map[int64]*[dedup.BlockSize]byte{}}
}

// fork is a disk of the given size that begins with d's content.
func (d *memDisk) fork(size int64) *memDisk {
	c := &memDisk{size: size, blocks: maps.Clone(d.blocks)}
	return c
}

func (d *memDisk) write(p []byte, off int64) {
	for len(p) > 0 {
		i, in := off/dedup.BlockSize, off%dedup.BlockSize
		b := new([dedup.BlockSize]byte)
		if old := d.blocks[i]; old != nil {
			*b = *old
		}
		n := copy(b[in:], p)
		d.blocks[i] = b
		if *b == ([dedup.BlockSize]byte{}) {
			delete(d.blocks, i)
		}
		p, off = p[n:], off+int64(n)
	}
}

func (d *memDisk) read(p []byte, off int64) {
	for len(p) > 0 {
		i, in := off/dedup.BlockSize, off%dedup.BlockSize
		n := min(len(p), int(dedup.BlockSize-in))
		if b := d.blocks[i]; b != nil {
			copy(p[:n], b[in:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// reader is what Disk and Image share.
type reader interface {
	Size() int64
	ReadAt(p []byte, off int64) (int, error)
	Extents(off, n int64, yield func(int64, bool) bool) error
}

// equal compares every byte of a disk with the model: extents first, so that
// holes cost nothing, then data.
func (d *memDisk) equal(r reader) error {
	if r.Size() != d.size {
		return fmt.Errorf("size %d, want %d", r.Size(), d.size)
	}
	var err error
	off := int64(0)
	last := -1
	e := r.Extents(0, d.size, func(n int64, zero bool) bool {
		if n <= 0 || (last >= 0 && (last == 1) == zero) {
			err = fmt.Errorf("extent %d+%d zero=%v after one of the same kind", off, n, zero)
			return false
		}
		last = 0
		if zero {
			last = 1
			err = d.allZero(off, n)
		} else {
			err = d.same(r, off, n)
		}
		off += n
		return err == nil
	})
	if e != nil || err != nil {
		return fmt.Errorf("extents: %v; %w", e, err)
	}
	if off != d.size {
		return fmt.Errorf("extents cover %d of %d", off, d.size)
	}
	return nil
}

func (d *memDisk) allZero(off, n int64) error {
	for i := range d.blocks {
		if i*dedup.BlockSize >= off && i*dedup.BlockSize < off+n {
			return fmt.Errorf("block %d is called zero and has data", i)
		}
	}
	return nil
}

func (d *memDisk) same(r reader, off, n int64) error {
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	for n > 0 {
		m := min(n, int64(len(got)))
		if _, err := r.ReadAt(got[:m], off); err != nil {
			return err
		}
		d.read(want[:m], off)
		if !bytes.Equal(got[:m], want[:m]) {
			return fmt.Errorf("bytes %d+%d differ", off, m)
		}
		off, n = off+m, n-m
	}
	return nil
}

// seedOf is STRONGROOM_SEED, or one of its own for each run.
func seedOf(t *testing.T) uint64 {
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return rand.Uint64()
}

// openBackup is a session the history works on, with what it should contain.
type openBackup struct {
	id    string
	vm    string
	disks []*openDisk
}

type openDisk struct {
	name string
	disk *Disk
	want *memDisk
}

type pointModel struct {
	id, vm string
	disks  map[string]*memDisk
}

// history runs random operations against the engine and the model.
type history struct {
	t      *testing.T
	rng    *rand.Rand
	w      *world
	open   []*openBackup
	points []pointModel
}

func (h *history) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// payload makes n bytes that look like disks do: text-like, noise, zeros, and
// blocks seen before.
func (h *history) payload(n int) []byte {
	p := make([]byte, n)
	for o := 0; o < n; {
		m := min(n-o, 1+h.rng.IntN(3*dedup.BlockSize))
		switch part := p[o : o+m]; h.rng.IntN(4) {
		case 0:
		case 1:
			fill(part, h.rng.Uint64())
		case 2:
			fill(part, uint64(h.rng.IntN(5)))
		case 3:
			b := byte(h.rng.IntN(256))
			for i := range part {
				part[i] = b + byte(i/97)
			}
		}
		o += m
	}
	return p
}

func fill(p []byte, seed uint64) {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	r.Read(p)
}

// place picks a range of at most max bytes, often at the edges of blocks,
// chunks and the disk.
func (h *history) place(size int64, max int64) (off, n int64) {
	unit := []int64{1, 512, 4096, dedup.BlockSize, dedup.ChunkSize}[h.rng.IntN(5)]
	off = h.rng.Int64N(size) / unit * unit
	n = 1 + h.rng.Int64N(min(max, size-off))
	if h.rng.IntN(3) == 0 {
		n = min(size-off, (n+dedup.BlockSize-1)/dedup.BlockSize*dedup.BlockSize)
	}
	if h.rng.IntN(8) == 0 && size-off <= max {
		n = size - off
	}
	return off, n
}

func (h *history) pick() *openDisk {
	if len(h.open) == 0 {
		return nil
	}
	b := h.open[h.rng.IntN(len(h.open))]
	return b.disks[h.rng.IntN(len(b.disks))]
}

func (h *history) step() {
	switch d, op := h.pick(), h.rng.IntN(100); {
	case d == nil || op < 4 && len(h.open) < 3:
		h.start()
	case op < 50:
		off, n := h.place(d.want.size, 1<<20)
		p := h.payload(int(n))
		_, err := d.disk.WriteAt(p, off)
		h.must(err)
		d.want.write(p, off)
	case op < 60:
		off, n := h.place(d.want.size, 300<<20)
		h.must(d.disk.Zero(off, n))
		h.zero(d.want, off, n)
	case op < 75:
		off, n := h.place(d.want.size, 1<<20)
		h.must(d.want.same(d.disk, off, n))
	case op < 80:
		h.must(d.disk.Flush())
	case op < 83:
		h.must(d.want.equal(d.disk))
	case op < 88:
		h.finish(true)
	case op < 90:
		h.finish(false)
	case op < 93:
		h.checkPoint()
	case op < 94:
		h.remove()
	case op < 96:
		h.reopen(true)
	default:
		h.reopen(false)
	}
}

func (h *history) zero(d *memDisk, off, n int64) {
	for n > 0 {
		m := min(n, dedup.BlockSize-off%dedup.BlockSize)
		if m == dedup.BlockSize {
			delete(d.blocks, off/dedup.BlockSize)
		} else {
			d.write(make([]byte, m), off)
		}
		off, n = off+m, n-m
	}
}

// latest is the newest point of a VM that has the disk.
func (h *history) latest(vm, disk string) (id string, d *memDisk) {
	for _, p := range h.points {
		if p.vm == vm && p.disks[disk] != nil {
			id, d = p.id, p.disks[disk]
		}
	}
	return id, d
}

func (h *history) start() {
	vm := []string{"vm1", "vm2"}[h.rng.IntN(2)]
	req := StartRequest{VM: vm, Mode: []string{"", "auto", "full"}[h.rng.IntN(3)]}
	for i := range 1 + h.rng.IntN(2) {
		name := fmt.Sprintf("vd%c", 'a'+i)
		size := []int64{1, 4096, 100_000, dedup.ChunkSize, 3*dedup.ChunkSize/2 + 512, 3*dedup.ChunkSize + 12345}[h.rng.IntN(6)]
		req.Disks = append(req.Disks, DiskSpec{name, size})
	}
	from := h.branch(&req)
	st, err := h.w.m.Start(req)
	if from != nil && errors.Is(err, ErrMismatch) && from.disks["vda"] != nil && from.disks["vda"].size > req.Disks[0].Size {
		return // it shrank since
	}
	h.must(err)
	b := &openBackup{id: st.Session, vm: vm}
	for i, ds := range st.Disks {
		d := &openDisk{name: ds.Disk, want: newMemDisk(ds.Size)}
		id, base := h.latest(vm, ds.Disk)
		if from != nil {
			id, base = from.id, from.disks[ds.Disk]
		}
		incremental := req.Mode != "full" && base != nil && base.size <= ds.Size
		if incremental != (ds.Mode == "incremental") || (incremental && ds.Parent != id) {
			h.t.Fatalf("%s/%s of %d bytes, mode %q: got %s on %q, newest is %q", vm, ds.Disk, ds.Size, req.Mode, ds.Mode, ds.Parent, id)
		}
		if incremental {
			d.want = base.fork(ds.Size)
		}
		d.disk, err = h.w.m.OpenExport(st.Disks[i].Token)
		h.must(err)
		b.disks = append(b.disks, d)
	}
	h.open = append(h.open, b)
}

// branch makes a request one of a VM that was set back to an older point, at
// times. Its only disk is vda.
func (h *history) branch(req *StartRequest) *pointModel {
	if req.Mode == "full" || h.rng.IntN(3) > 0 {
		return nil
	}
	for i := range h.points {
		if p := &h.points[i]; p.vm == req.VM && h.rng.IntN(3) == 0 {
			req.Parent, req.Branch, req.Disks = p.id, true, req.Disks[:1]
			return p
		}
	}
	return nil
}

// remove removes a point, unless a session is based on it.
func (h *history) remove() {
	if len(h.points) < 3 {
		return
	}
	i := h.rng.IntN(len(h.points))
	p := h.points[i]
	err := h.w.m.Remove(p.id)
	if used := len(h.w.m.InUse(p.id)) > 0; used != isInUse(err) || !used && err != nil {
		h.t.Fatalf("remove point %s, parent of an open session %v: %v", p.id, used, err)
	}
	if err == nil {
		h.points = append(h.points[:i], h.points[i+1:]...)
		if !h.w.m.Pinned(p.id) {
			h.must(h.w.cat.Forget(p.id))
		}
	}
}

func (h *history) finish(commit bool) {
	i := h.rng.IntN(len(h.open))
	b := h.open[i]
	h.open = append(h.open[:i], h.open[i+1:]...)
	if !commit {
		h.must(h.w.m.Abort(b.id))
		return
	}
	r, err := h.w.m.Commit(b.id)
	h.must(err)
	again, err := h.w.m.Commit(b.id)
	h.must(err)
	if again.Point != r.Point {
		h.t.Fatalf("second commit made point %s, the first %s", again.Point, r.Point)
	}
	p := pointModel{id: r.Point, vm: b.vm, disks: map[string]*memDisk{}}
	for _, d := range b.disks {
		p.disks[d.name] = d.want
		if _, err := d.disk.WriteAt([]byte{1}, 0); err == nil {
			h.t.Fatal("a committed session took a write")
		}
	}
	h.points = append(h.points, p)
}

func (h *history) checkPoint() {
	if len(h.points) == 0 {
		return
	}
	p := h.points[h.rng.IntN(len(h.points))]
	for name, want := range p.disks {
		im, err := h.w.m.OpenImage(p.id, name)
		h.must(err)
		if err := want.equal(im); err != nil {
			h.t.Fatalf("point %s of %s, disk %s: %v", p.id, p.vm, name, err)
		}
		h.must(im.Close())
	}
}

// reopen starts the engine again, after a proper stop or after kill -9, and
// finds every session as it was.
func (h *history) reopen(clean bool) {
	tokens := map[*openDisk]string{}
	for _, b := range h.open {
		for _, d := range b.disks {
			tokens[d] = d.disk.d.spec.Token
		}
	}
	if clean {
		h.w.stop()
		h.w.boot += "+" // a clean stop survives a restart of the host
	} else {
		h.w.kill()
	}
	h.w.start()
	for _, b := range h.open {
		for _, d := range b.disks {
			var err error
			d.disk, err = h.w.m.OpenExport(tokens[d])
			h.must(err)
			if err := d.want.equal(d.disk); err != nil {
				h.t.Fatalf("session %s disk %s after restart (clean %v): %v", b.id, d.name, clean, err)
			}
		}
	}
}

func TestRandomHistories(t *testing.T) {
	seed := seedOf(t)
	for i := range uint64(6) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Logf("replay with STRONGROOM_SEED=%d", seed)
			h := &history{t: t, rng: rand.New(rand.NewPCG(seed, i)), w: newWorld(t)}
			for range 250 {
				h.step()
			}
			for len(h.points) > 0 {
				h.checkPoint()
				h.points = h.points[:len(h.points)-1]
			}
		})
	}
}
