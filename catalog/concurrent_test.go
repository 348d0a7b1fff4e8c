package catalog

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestConcurrentUse commits, removes and reads from many goroutines, and closes
// in the middle of it.
func TestConcurrentUse(t *testing.T) {
	o := testOptions(newFS())
	o.Clock = nil
	o.CacheBytes = 3000
	c := mustOpen(t, o)
	var all sync.WaitGroup
	worker := func(do func(i int) error) {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := 0; ; i++ {
				if err := do(i); errors.Is(err, ErrClosed) {
					return
				} else if err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
					return
				}
			}
		}()
	}
	for w := range 3 {
		worker(func(i int) error {
			id := w*1_000_000 + i
			if _, err := c.Commit(onePoint(id, fmt.Sprintf("vm%d", w), ChunkRef{New: testChunk(uint64(i % 50))}, ChunkRef{})); err != nil {
				return err
			}
			if i >= 20 {
				return c.Remove(testID(id - 20))
			}
			return nil
		})
		worker(func(i int) error {
			p, err := c.Resolve(Ref{VM: fmt.Sprintf("vm%d", w), Disk: "vda", Point: "latest~1"})
			if err != nil {
				return err
			}
			list, err := c.ChunkList(p.ID, "vda")
			if err != nil {
				return err
			}
			_, err = c.Chunk(list[0])
			return err
		})
	}
	worker(func(int) error {
		s := c.Stats()
		if s.Pebble == nil {
			return ErrClosed
		}
		vms, err := c.VMs()
		if len(vms) > 3 {
			return fmt.Errorf("%d VMs", len(vms))
		}
		return err
	})
	// Two VMs may have their points before the third has its first.
	for start := time.Now(); time.Since(start) < 20*time.Second; {
		if s := c.Stats(); s.Points >= 40 && s.VMs == 3 {
			break
		}
		if _, err := c.Points(""); err != nil {
			t.Error(err)
		}
	}
	mustClose(t, c)
	all.Wait()
	c = mustOpen(t, o)
	defer mustClose(t, c)
	if s := c.Stats(); s.VMs != 3 || s.Points < 40 || s.Chunks > 50 {
		t.Errorf("%+v", s)
	}
}

// TestReadersBesideTheTrash: a point that goes to the trash and comes back is
// there at any moment, as is what it holds.
func TestReadersBesideTheTrash(t *testing.T) {
	o := testOptions(newFS())
	o.Clock = nil
	c := mustOpen(t, o)
	defer mustClose(t, c)
	n := onePoint(1, "vm", ChunkRef{New: testChunk(1)})
	n.Blobs = []Blob{{"x", []byte("abc")}}
	mustCommit(t, c, n)
	mustCommit(t, c, onePoint(2, "vm", ChunkRef{}))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, read := range []func() error{
		func() error { _, err := c.Point(testID(1)); return err },
		func() error { _, err := c.Blob(testID(1), "x"); return err },
		func() error { _, err := c.ChunkList(testID(1), "vda"); return err },
		func() error { _, err := c.Resolve(Ref{VM: "vm"}); return err },
		func() error {
			live, trashed := c.Stats().Points, 0
			list, err := c.TrashList()
			if trashed = len(list); err == nil && (live < 1 || trashed > 1) {
				err = fmt.Errorf("%d live, %d in the trash", live, trashed)
			}
			return err
		},
	} {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 300 {
		mustDo(t, c.Trash(testID(1), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)), c.Undelete(testID(1)))
	}
	close(stop)
	all.Wait()
}
