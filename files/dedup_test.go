package files

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// A disk that came over NBD and comes again as a qcow2 file adds next to nothing,
// and its image has the same chunks.
func TestFileAddsNothing(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	w := newWorld(t)
	content := disk(r, 96<<20)
	first := w.nbd("vm", "vda", content)
	raw := local(t, dir, "disk.raw", content)
	path := filepath.Join(dir, "disk.qcow2")
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
	got := w.backup("vm", map[string][]byte{"/vda.qcow2": slurp(t, path)})
	if root(first, "vda") != root(got, "vda") {
		t.Error("another root")
	}
	a, err := w.cat.ChunkList(first.Point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.cat.ChunkList(got.Point, "vda")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a, b) {
		t.Error("other chunks")
	}
	was, more := first.Images[0].StoredBytes, got.Files[0].StoredBytes+got.Images[0].StoredBytes
	if more*100 > was {
		t.Errorf("%d bytes more, %.2f %% of %d", more, float64(more)*100/float64(was), was)
	}
	t.Logf("%d bytes more, %.2f %% of %d", more, float64(more)*100/float64(was), was)
}

// The layers of a chain and views come and go under many readers, points too.
func TestRestoreConcurrently(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	const size = 4 << 20
	content := disk(r, size)
	points, contents := []string{w.nbd("vm", "vda", content).Point}, [][]byte{content}
	for i := range 6 {
		got, now := w.increment("vm", "vda", contents[i], size, func(x *volume.Disk) { x.WriteAt(noise(r, 100_000), r.Int64N(size-100_000)) })
		points, contents = append(points, got.Point), append(contents, now)
	}
	w.s.views = newViewCache(2*(viewBytes+viewChunkBytes), maxViewBytes) // so that they are evicted
	var wg sync.WaitGroup
	for i := range 4 {
		tree := w.user(User{Name: "u", VM: "vm", Restore: true}, fmt.Sprint("c", i))
		r := seeded(t)
		wg.Go(func() {
			for range 30 {
				k := 3 + r.IntN(4) // those before go meanwhile
				top := "/restore/vm/" + points[k]
				if _, err := tree.ReadDir(top+"/vda.chain", "", 100); err != nil {
					t.Errorf("list: %v", err)
				}
				for _, name := range []string{"/vda.raw", "/vda.qcow2"} {
					f, err := tree.Open(top+name, readOnly, 0)
					if err != nil {
						t.Error(err)
						continue
					}
					a, _ := f.Stat()
					p := make([]byte, a.Size)
					if _, err := f.ReadAt(p, 0); err != nil {
						t.Error(err)
					}
					if name == "/vda.raw" && !bytes.Equal(p, contents[k]) {
						t.Errorf("point %d reads differently", k)
					}
					f.Close()
				}
			}
		})
	}
	for _, p := range points[:3] {
		if err := w.m.Remove(p); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond) // lets readers come between; nothing depends on it
	}
	wg.Wait()
	for _, p := range points {
		if w.m.Pinned(p) {
			t.Errorf("point %s is still held", p)
		}
	}
}

// A restart of the host takes what was not synced: such a file is not committed.
func TestLostFile(t *testing.T) {
	crash := crashfs.New()
	w := &world{t: t, fs: crash, dir: "data", boot: "boot-1", clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.start()
	session, tree := w.job("vm")
	f := w.open(tree, "/kept", create)
	f.WriteAt([]byte("kept"), 0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w.send(tree, "/lost", bytes.Repeat([]byte("lost"), 50_000))
	after := crash.Kill()
	w.stop()
	w.fs, w.boot = after, "boot-2"
	w.start()
	defer w.stop()
	tree = w.tree(session, "c1")
	if got := w.get(tree, "/kept"); string(got) != "kept" {
		t.Errorf("%q", got)
	}
	refused := func() {
		t.Helper()
		if _, err := w.s.Commit(t.Context(), session, CommitOptions{}); !errors.Is(err, volume.ErrUnfinished) || !strings.Contains(err.Error(), "lost") {
			t.Errorf("commit: %v", err)
		}
	}
	if a, err := tree.Stat("/lost"); err != nil || a.Size != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	refused()
	f = w.open(tree, "/lost", sftp.OpenFlags{Write: true})
	f.WriteAt([]byte("the rest"), 190_000)
	f.Close()
	refused() // what lies before it is not there
	w.send(tree, "/lost", []byte("again"))
	w.commit(session)
}

// A store on the real file system works as one in memory.
func TestOnDisk(t *testing.T) {
	w := newWorldOn(t, vfs.Default, t.TempDir())
	data := disk(seeded(t), 3<<20)
	got := w.backup("vm", map[string][]byte{"/vda.raw": data})
	if !bytes.Equal(w.image(got.Point, "vda"), data) {
		t.Error("the disk differs")
	}
	if _, err := os.Stat(w.dir); err != nil || len(data)%dedup.BlockSize != 0 {
		t.Error(err)
	}
}

// Open views are bounded; the next one is refused, and the server goes on.
func TestViewsBounded(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	content := disk(r, 1<<20)
	first, second := w.nbd("vm", "vda", content), w.nbd("vm", "vda", content[:1<<19])
	w.s.views = newViewCache(0, viewBytes+viewChunkBytes)
	tree := w.user(User{Name: "u", VM: "vm", Restore: true}, "c1")
	f := w.open(tree, "/restore/vm/"+first.Point+"/vda.qcow2", readOnly)
	path := "/restore/vm/" + second.Point + "/vda.qcow2"
	if _, err := tree.Open(path, readOnly, 0); !errors.Is(err, volume.ErrLimit) {
		t.Errorf("%v", err)
	}
	f.Close()
	if got := w.s.views.bytes(); got != 0 {
		t.Errorf("%d bytes are still used", got)
	}
	w.get(tree, path)
}
