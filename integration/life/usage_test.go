package life

import (
	"errors"
	"fmt"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
)

// census is every image there is, counted without the accounts.
type census struct {
	images []counted
	chunks map[catalog.ChunkNo]*catalog.Chunk
	named  map[catalog.ChunkNo]int // by how many images
	slots  map[dedup.Addr]int      // by how many chunks, each time
	stored map[dedup.Addr]int64
}

type counted struct {
	vm, point, disk string
	of              string // the disk a file was understood as
	info            catalog.Image
	list            []catalog.ChunkNo
}

// takeCensus reads the whole catalog.
func (r *run) takeCensus() (*census, error) {
	c := &census{chunks: map[catalog.ChunkNo]*catalog.Chunk{}, named: map[catalog.ChunkNo]int{},
		slots: map[dedup.Addr]int{}, stored: map[dedup.Addr]int64{}}
	points, err := r.w.cat.Points("")
	if err != nil {
		return nil, err
	}
	trash, err := r.w.cat.TrashList()
	if err != nil {
		return nil, err
	}
	for _, p := range append(points, trash...) {
		for _, im := range p.Images {
			list, err := r.w.cat.ChunkList(p.ID, im.Disk)
			if err != nil {
				return nil, err
			}
			c.images = append(c.images, counted{vm: p.VM, point: p.ID, disk: im.Disk, info: im, list: list})
			if err := c.count(r.w, list); err != nil {
				return nil, err
			}
		}
		for _, f := range p.Files {
			list, err := r.w.cat.ChunkList(p.ID, catalog.FileKey(f.Name))
			if err != nil {
				return nil, err
			}
			x := counted{vm: p.VM, point: p.ID, disk: catalog.FileKey(f.Name), of: f.Disk, info: catalog.Image{NewBytes: f.NewBytes}, list: list}
			if f.Disk == "" { // else it is counted as that disk
				x.info.Size, x.info.WrittenBytes = f.Size, f.WrittenBytes
			}
			c.images = append(c.images, x)
			if err := c.count(r.w, list); err != nil {
				return nil, err
			}
		}
	}
	return c, c.weigh(r.w)
}

// count adds the chunks an image names.
func (c *census) count(w *world, list []catalog.ChunkNo) error {
	for _, no := range list {
		if no == 0 {
			continue
		}
		c.named[no]++
		if c.chunks[no] != nil {
			continue
		}
		k, err := w.cat.Chunk(no)
		if err != nil {
			return err
		}
		c.chunks[no] = k
		for a := range slotsOf(k) {
			c.slots[a]++
		}
	}
	return nil
}

// slotsOf yields a chunk's addresses, each as often as it has it.
func slotsOf(k *catalog.Chunk) func(yield func(dedup.Addr) bool) {
	return func(yield func(dedup.Addr) bool) {
		for _, r := range k.Runs {
			for i := range r.Count {
				if !yield(r.Addr + dedup.Addr(i)) {
					return
				}
			}
		}
	}
}

// weigh asks what each block takes.
func (c *census) weigh(w *world) error {
	var addrs []dedup.Addr
	for a := range c.slots {
		addrs = append(addrs, a)
	}
	out := make([]uint32, len(addrs))
	if err := w.store.StoredBytes(addrs, out); err != nil {
		return err
	}
	for i, a := range addrs {
		if out[i] == 0 {
			return fmt.Errorf("block %v takes nothing", a)
		}
		c.stored[a] = int64(out[i])
	}
	return nil
}

// usage counts what the images take for which in is true.
func (c *census) usage(in func(*counted) bool) (u catalog.Usage) {
	names := map[catalog.ChunkNo]int{}
	for i := range c.images {
		if x := &c.images[i]; in(x) {
			u.Logical += x.info.Size
			u.Transferred += x.info.WrittenBytes
			u.New += x.info.NewBytes
			for _, no := range x.list {
				if no != 0 {
					names[no]++
				}
			}
		}
	}
	own, all := map[dedup.Addr]int{}, map[dedup.Addr]bool{}
	for no, n := range names {
		for a := range slotsOf(c.chunks[no]) {
			all[a] = true
			if n == c.named[no] {
				own[a]++
			}
		}
	}
	for a := range all {
		if own[a] == c.slots[a] {
			u.Unique += dedup.BlockSize
			u.UniqueStored += c.stored[a]
		} else {
			u.Shared += dedup.BlockSize
			u.SharedStored += c.stored[a]
		}
	}
	u.Stored = u.UniqueStored + u.SharedStored
	return u
}

// checkUsage holds the accounts' answers against a census.
func (r *run) checkUsage() error {
	if removed, err := r.w.cat.Removed(); err != nil || len(removed) > 0 {
		return err // they count too, but cannot be looked at
	}
	r.note("compare the accounts with a census")
	c, err := r.takeCensus()
	if err != nil {
		return fmt.Errorf("census: %w", err)
	}
	got, err := r.w.cat.StoreUsage()
	if want := c.usage(func(*counted) bool { return true }); err != nil || got != want {
		return fmt.Errorf("usage of the store: %+v, %v; want %+v", got, err, want)
	}
	for _, h := range r.hs {
		if err := r.checkUsageOf(c, h); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) checkUsageOf(c *census, h *history) error {
	if len(h.points) == 0 {
		return nil
	}
	got, err := r.w.cat.VMUsage(h.vm)
	if want := c.usage(func(x *counted) bool { return x.vm == h.vm }); err != nil || got != want {
		return fmt.Errorf("usage of %s: %+v, %v; want %+v", h.vm, got, err, want)
	}
	set := map[string]bool{}
	var ids []string
	for range 3 {
		p := h.anyPoint()
		set[p.id] = true
		ids = append(ids, p.id)
	}
	got, err = r.w.cat.Usage(ids...)
	if want := c.usage(func(x *counted) bool { return set[x.point] }); err != nil || got != want {
		return fmt.Errorf("usage of %v: %+v, %v; want %+v", ids, got, err, want)
	}
	for _, disk := range []string{"vdb", "vdc"} {
		if err := h.checkTree(disk); err != nil {
			return err
		}
		if err := r.checkChain(c, h.vm, disk); err != nil {
			return err
		}
	}
	return nil
}

// checkTree compares the tree that operators are shown with the model.
func (h *history) checkTree(disk string) error {
	t, err := h.w.maint.Chain(h.vm, disk)
	if h.points.latest(disk) == nil && errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var want []string
	for _, p := range h.points.live() {
		im, ok := p.images[disk]
		if !ok {
			continue
		}
		parent := h.points.find(im.parent)
		for parent != nil && parent.trashed {
			parent = h.points.find(parent.images[disk].parent)
		}
		line := p.id
		if parent != nil {
			line += " on " + parent.id
		}
		want = append(want, line)
	}
	var got []string
	for _, x := range t.Images {
		line := x.Point
		if x.Parent != "" {
			line += " on " + x.Parent
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the tree of %s is %v, want %v", disk, got, want)
	}
	return nil
}

func (r *run) checkChain(c *census, vm, disk string) error {
	got, err := r.w.cat.DiskUsage(vm, disk)
	if err != nil {
		return nil // no image of it is left
	}
	if want := c.usage(func(x *counted) bool { return x.vm == vm && (x.disk == disk || x.of == disk) }); got != want {
		return fmt.Errorf("usage of disk %s of %s: %+v, want %+v", disk, vm, got, want)
	}
	each, err := r.w.cat.ChainUsage(vm, disk)
	if err != nil {
		return err
	}
	n := 0
	for i := range c.images {
		if x := &c.images[i]; x.vm == vm && x.disk == disk {
			n++
			if want := c.usage(func(y *counted) bool { return x == y }); each[x.point] != want {
				return fmt.Errorf("usage of disk %s at %s: %+v, want %+v", disk, x.point, each[x.point], want)
			}
		}
	}
	if n != len(each) {
		return fmt.Errorf("usage of %d images of disk %s of %s, want %d", len(each), disk, vm, n)
	}
	return nil
}
