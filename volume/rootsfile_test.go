package volume

import (
	"errors"
	"sync"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
)

// TestRootsWhileCopying: a disk is added and made of a file when Roots has looked
// which disks there are. What the disk has is marked all the same, since from
// then on nobody can take it out of the file.
func TestRootsWhileCopying(t *testing.T) {
	const size = 20 * dedup.BlockSize
	w := newWorld(t)
	st, err := w.m.Start(StartRequest{VM: "vm", Files: true, Disks: oneDisk(1 << 20)})
	w.must(err)
	first, err := w.m.OpenExport(st.Disks[0].Token)
	w.must(err)
	w.write(first, 0, 65536, 99)
	x := w.putFile(st.Session, "a", size, 1)
	set, once := map[dedup.Addr]bool{}, sync.Once{}
	w.must(w.m.Roots(func(a dedup.Addr, n int) {
		once.Do(func() { // Roots is at the first disk
			late, err := w.m.AddDisk(st.Session, DiskImport{Disk: "late", Size: size, Source: "a"})
			w.must(err)
			w.must(late.CopyBlocks(x, 0, 0, size))
			if err := x.Truncate(0); !errors.Is(err, ErrInUse) {
				t.Errorf("truncate: %v", err)
			}
			if err := w.m.RemoveFile(st.Session, "a"); !errors.Is(err, ErrInUse) {
				t.Errorf("remove: %v", err)
			}
		})
		for i := range n {
			set[a+dedup.Addr(i)] = true
		}
	}))
	w.must(x.Close())
	r := w.commit(st.Session)
	for _, im := range r.Images {
		all := w.addresses(r.Point, im.Disk)
		for a := range all {
			if !set[a] {
				t.Errorf("block %v of disk %s is not marked", a, im.Disk)
			}
		}
		if len(all) == 0 {
			t.Errorf("disk %s has no blocks", im.Disk)
		}
	}
}

// TestRootsBesideImports adds disks, makes them of files and drops them, changes
// the files and removes them, while collections ask for roots. It is for the race
// detector, and for what no order of things may bring: an error.
func TestRootsBesideImports(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	var all, asking sync.WaitGroup
	stop := make(chan struct{})
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			w.m.Barrier()
			if err := w.m.Roots(func(dedup.Addr, int) {}); err != nil {
				t.Error(err)
			}
		}
	})
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			p := make([]byte, 7*dedup.BlockSize+33)
			for i := range 12 {
				fill(p, uint64(i%4))
				x, err := w.m.CreateFile(id, name, 0o600)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = x.WriteAt(p, 0)
				d, err2 := w.m.AddDisk(id, DiskImport{Disk: name, Size: int64(len(p)), Source: name})
				if err := errors.Join(err, err2); err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(d.CopyBlocks(x, 0, 0, int64(len(p))), w.m.DropDisk(id, name), x.Truncate(100), w.m.RemoveFile(id, name), x.Close())
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	asking.Wait()
	if n := w.journals(id); n != 0 {
		t.Errorf("%d journals are left", n)
	}
}
