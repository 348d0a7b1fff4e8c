package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// increment changes a disk over the incremental backup of an NBD client.
func (w *world) increment(vm, disk string, content []byte, size int, change func(x *volume.Disk)) (volume.Receipt, []byte) {
	w.t.Helper()
	st, err := w.m.Start(volume.StartRequest{VM: vm, Disks: []volume.DiskSpec{{Name: disk, Size: int64(size)}}, Mode: "incremental"})
	if err != nil {
		w.t.Fatal(err)
	}
	x, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		w.t.Fatal(err)
	}
	change(x)
	now := make([]byte, size)
	if _, err := x.ReadAt(now, 0); err != nil {
		w.t.Fatal(err)
	}
	x.Close()
	r, err := w.m.Commit(st.Session)
	if err != nil {
		w.t.Fatal(err)
	}
	return r, now
}

// Every file below /restore, copied away, is what QEMU takes for the disk.
func TestRestoreChain(t *testing.T) {
	const deep = 63
	r := seeded(t)
	w := newWorld(t)
	size := 8<<20 + 3*512
	content := disk(r, size)
	points, contents := []string{w.nbd("vm", "vda", content).Point}, [][]byte{content}
	changed := make([]int, 1, deep+1)
	for i := range deep {
		blocks := 1 + r.IntN(4)
		got, now := w.increment("vm", "vda", contents[i], size, func(x *volume.Disk) {
			for range blocks {
				off := r.Int64N(int64(size)/(64<<10)) * (64 << 10)
				if r.IntN(3) == 0 {
					if err := x.Zero(off, 64<<10); err != nil {
						t.Fatal(err)
					}
				} else if _, err := x.WriteAt(noise(r, 64<<10), off); err != nil {
					t.Fatal(err)
				}
			}
		})
		points, contents, changed = append(points, got.Point), append(contents, now), append(changed, blocks)
	}
	tree := w.user(User{Name: "u", VM: "vm", Restore: true}, "c1")
	for _, n := range []int{0, 1, 2, deep} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w.within(t)
			dir := t.TempDir()
			top := "/restore/vm/" + points[n]
			if got := w.names(tree, top); !slices.Equal(got, []string{"vda.chain", "vda.qcow2", "vda.raw"}) {
				t.Fatalf("%q", got)
			}
			raw := w.fetch(tree, top+"/vda.raw", filepath.Join(dir, "vda.raw"))
			if !bytes.Equal(slurp(t, raw), contents[n]) {
				t.Fatal("the raw file is not the disk")
			}
			flat := w.fetch(tree, top+"/vda.qcow2", filepath.Join(dir, "vda.qcow2"))
			qemu(t, "qemu-img", "check", "-f", "qcow2", flat)
			qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, flat)
			names := w.names(tree, top+"/vda.chain")
			if len(names) != n+1 {
				t.Fatalf("%d files in the chain", len(names))
			}
			for i, name := range names {
				if want := fmt.Sprintf("%02d-%s.qcow2", i, points[i]); name != want {
					t.Fatalf("%s, want %s", name, want)
				}
				path := w.fetch(tree, top+"/vda.chain/"+name, filepath.Join(dir, name))
				qemu(t, "qemu-img", "check", "-f", "qcow2", path)
				if data := len(slurp(t, path)); i > 0 && data > (changed[i]+8)<<16 {
					t.Errorf("layer %d has %d bytes for %d blocks", i, data, changed[i])
				}
			}
			last := filepath.Join(dir, names[n])
			qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, last)
			if out := qemu(t, "qemu-img", "info", "--backing-chain", "-f", "qcow2", last); strings.Count("\n"+out, "\nimage: ") != n+1 {
				t.Errorf("qemu-img info:\n%s", out)
			}
			qemu(t, "qemu-img", "map", "-f", "qcow2", last)
		})
	}
	if n := len(w.s.views.views); n > 0 && w.s.views.bytes() == 0 {
		t.Error("views cost nothing")
	}
}

// Disks that grow, and points that go, leave chains that QEMU reads right.
func TestRestoreGrownAndRemoved(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	dir := t.TempDir()
	content := disk(r, 3<<20+512)
	first := w.nbd("vm", "vda", content)
	second, grown := w.increment("vm", "vda", content, 5<<20, func(x *volume.Disk) {
		x.WriteAt(noise(r, 1000), 4<<20)
	})
	third, last := w.increment("vm", "vda", grown, 5<<20, func(x *volume.Disk) {
		x.WriteAt(noise(r, 1000), 100)
		x.Zero(4<<20, 64<<10)
	})
	tree := w.user(User{Name: "u", VM: "vm", Restore: true}, "c1")
	chain := "/restore/vm/latest/vda.chain"
	check := func(points ...string) {
		t.Helper()
		names := w.names(tree, chain)
		if len(names) != len(points) {
			t.Fatalf("%q", names)
		}
		for i, name := range names {
			if !strings.Contains(name, points[i]) {
				t.Fatalf("%q", names)
			}
			w.fetch(tree, chain+"/"+name, filepath.Join(dir, name))
		}
		raw := local(t, dir, "raw", last)
		qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, filepath.Join(dir, names[len(names)-1]))
	}
	check(first.Point, second.Point, third.Point)

	x := w.open(tree, "/restore/vm/"+second.Point+"/vda.raw", readOnly)
	if err := w.m.Trash(second.Point, w.now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	check(first.Point, third.Point) // passed over
	if err := w.m.Remove(second.Point); err != nil {
		t.Fatal(err)
	}
	check(first.Point, third.Point)
	if _, err := tree.Stat("/restore/vm/" + second.Point); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed point: %v", err)
	}
	got := make([]byte, len(grown)) // who reads goes on
	if _, err := x.ReadAt(got, 0); err != nil || !bytes.Equal(got, grown) {
		t.Errorf("read of a removed point: %v", err)
	}
	x.Close()
	if w.m.Pinned(second.Point) {
		t.Error("the removed point is held though nobody reads it")
	}
	if err := w.m.Remove(first.Point); err != nil {
		t.Fatal(err)
	}
	check(third.Point)
}

// Merges change what a point's files show, though they keep their names.
func TestRestoreAfterMerge(t *testing.T) {
	r := seeded(t)
	w := newWorld(t)
	dir := t.TempDir()
	const block, size = 64 << 10, 2 << 20
	content := noise(r, size)
	clear(content[5*block : 9*block])
	points, contents := []string{w.nbd("vm", "vda", content).Point}, [][]byte{content}
	for i := range 3 {
		got, now := w.increment("vm", "vda", contents[i], size, func(x *volume.Disk) {
			x.WriteAt(noise(r, block), int64(5+i)*block)
			x.Zero(int64(i)*block, block)
			switch i { // there and back again
			case 0:
				x.WriteAt(noise(r, block), 10*block)
			case 1:
				x.WriteAt(content[10*block:11*block], 10*block)
			}
		})
		points, contents = append(points, got.Point), append(contents, now)
	}
	tree := w.user(User{Name: "u", VM: "vm", Restore: true}, "c1")
	check := func(k int) {
		t.Helper()
		raw := local(t, dir, "raw", contents[k])
		top := "/restore/vm/" + points[k]
		if !bytes.Equal(w.get(tree, top+"/vda.raw"), contents[k]) {
			t.Errorf("raw of point %d", k)
		}
		qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, w.fetch(tree, top+"/vda.qcow2", filepath.Join(dir, "flat")))
		names := w.names(tree, top+"/vda.chain")
		for _, name := range names {
			w.fetch(tree, top+"/vda.chain/"+name, filepath.Join(dir, name))
		}
		qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, filepath.Join(dir, names[len(names)-1]))
	}
	merge := func(from, into int) {
		t.Helper()
		if _, err := w.m.Merge(catalog.MergeRequest{VM: "vm", Disk: "vda", From: points[from], Into: points[into]},
			func() ([]string, error) { return []string{points[from], points[into]}, nil }); err != nil {
			t.Fatal(err)
		}
		contents[into] = contents[from]
	}
	check(0)
	check(3)
	if err := w.m.Trash(points[1], w.now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	check(2) // over the first
	if err := w.cat.Undelete(points[1]); err != nil {
		t.Fatal(err)
	}
	merge(1, 0)
	check(0) // has another content
	check(2) // lies over another content
	merge(3, 2)
	check(2)
}

// What is beside the disks, and how points are named.
func TestRestoreNames(t *testing.T) {
	w := newWorld(t)
	content := bytes.Repeat([]byte("x"), 65536)
	blob := func(q *volume.StartRequest) {
		q.Blobs = []catalog.Blob{{Name: "domain.xml", Data: []byte("<domain/>")}, {Name: "vda.raw", Data: []byte("hidden")}, {Name: "files", Data: []byte("hidden")}}
	}
	var points []string
	for range 7 {
		points = append(points, w.backup("vm", map[string][]byte{"/vda.raw": content, "/notes.txt": []byte("hi")}, blob).Point)
	}
	w.backup("other", map[string][]byte{"/vda.raw": content})
	tree := w.user(User{Name: "u", VMs: []string{"v*", "new"}, Restore: true}, "c1")

	if got := w.names(tree, "/"); !slices.Equal(got, []string{"new", "restore", "vm"}) {
		t.Errorf("/: %q", got)
	}
	if got := w.names(tree, "/restore"); !slices.Equal(got, []string{"new", "vm"}) {
		t.Errorf("/restore: %q", got)
	}
	slices.Sort(points)
	if got := w.names(tree, "/restore/vm"); !slices.Equal(got, points) {
		t.Errorf("points: %q, want %q", got, points)
	}
	p, err := w.cat.Resolve(catalog.Ref{VM: "vm", Point: "latest~2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{p.ID, "latest~2", p.Time.Format(time.RFC3339Nano)} {
		top := "/restore/vm/" + name
		a, err := tree.Stat(top)
		if err != nil || !a.Mode.IsDir() || !a.ModTime.Equal(p.Time) {
			t.Fatalf("%s: %+v, %v", top, a, err)
		}
		if got := w.names(tree, top); !slices.Equal(got, []string{"domain.xml", "files", "vda.chain", "vda.qcow2", "vda.raw"}) {
			t.Errorf("%s: %q", top, got)
		}
		if got := w.get(tree, top+"/domain.xml"); string(got) != "<domain/>" {
			t.Errorf("%q", got)
		}
		if got := w.names(tree, top+"/files"); !slices.Equal(got, []string{"notes.txt", "vda.raw"}) {
			t.Errorf("%q", got)
		}
		if got := w.get(tree, top+"/files/notes.txt"); string(got) != "hi" {
			t.Errorf("%q", got)
		}
		for _, name := range []string{"/vda.raw", "/vda.qcow2", "/files/notes.txt", "/vda.chain"} {
			a, err := tree.Stat(top + name)
			if err != nil || a.Mode.Perm()&0o222 != 0 {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
			if name == "/vda.raw" && !a.ModTime.Equal(p.Time) {
				t.Errorf("time %v", a.ModTime)
			}
		}
	}
	for _, name := range []string{"/restore/other", "/other", "/restore/vm/nothing", "/restore/vm/" + points[0] + "/vdb.raw", "/restore/vm/latest~9",
		"/restore/vm/latest/files/none", "/restore/vm/latest/vda.chain/00-x.qcow2", "/restore/restore", "/restore/vm/" + points[0][:8]} {
		if _, err := tree.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	top := "/restore/vm/latest"
	for what, err := range map[string]error{
		"create": second(tree.Open(top+"/x", create, 0o600)),
		"write":  second(tree.Open(top+"/vda.raw", sftp.OpenFlags{Write: true}, 0)),
		"mkdir":  tree.Mkdir(top+"/d", 0o700), "remove": tree.Remove(top + "/vda.raw"), "rmdir": tree.Rmdir(top),
		"rename": tree.Rename(top+"/vda.raw", "/vm/x", true), "link": tree.Link(top+"/vda.raw", "/vm/x"),
		"into": tree.Rename("/vm/x", top+"/x", true), "attr": tree.SetAttr(top+"/vda.raw", sftp.Changes{}),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s below /restore: %v", what, err)
		}
	}
	if _, err := tree.Open(top, readOnly, 0); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("open of a folder: %v", err)
	}
	if _, err := tree.Stat(top + "/vda.raw/x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
