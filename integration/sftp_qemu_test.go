package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// createFile makes the target file of a disk on a mount as a hypervisor does:
// with the disk's exact size, and a backing file if one is named.
func (g *guest) createFile(path, format, backing string) {
	g.s.Helper()
	args := []string{"create", "-q", "-f", format}
	if backing != "" {
		args = append(args, "-b", backing, "-F", "qcow2")
	}
	g.s.tool("qemu-img", append(args, path, fmt.Sprint(g.size()))...)
}

// openFile makes a file on a mount the target node of the guest's disk.
func (g *guest) openFile(path, format string) {
	g.s.Helper()
	g.s.must(g.s.qsd.QMP.Execute(g.s.ctx, "blockdev-add", map[string]any{
		"driver": format, "node-name": target(g.node), "discard": "unmap",
		"file": map[string]any{"driver": "file", "filename": path},
	}, nil))
}

// closeFiles closes the target nodes, which flushes them.
func (s *scene) closeFiles(guests ...*guest) {
	s.Helper()
	for _, g := range guests {
		s.must(s.qsd.RemoveNode(s.ctx, target(g.node)))
	}
}

// fullToFile copies a disk into a new file on a mount; a bitmap records from
// that instant.
func (g *guest) fullToFile(path, format, bitmap string) {
	g.s.Helper()
	g.createFile(path, format, "")
	g.openFile(path, format)
	g.s.must(g.s.qsd.Transaction(g.s.ctx, qsd.AddBitmap(g.node, bitmap, g.persistent), g.copyAll()),
		g.s.qsd.Wait(g.s.ctx, job(g.node)))
	g.s.closeFiles(g)
}

// dirtyToFile copies what a bitmap marks into a new qcow2 on a mount.
func (g *guest) dirtyToFile(path, backing, bitmap string) {
	g.s.Helper()
	g.createFile(path, "qcow2", backing)
	g.openFile(path, "qcow2")
	g.s.must(g.s.qsd.Transaction(g.s.ctx, g.copyDirty(bitmap)), g.s.qsd.Wait(g.s.ctx, job(g.node)))
	g.s.closeFiles(g)
}

// zero makes a range of the disk zeros, and so its model.
func (g *guest) zero(off, n int64) {
	g.s.Helper()
	g.s.must(g.disk.Zero(off, n), zeroFile(g.model.Path, off, n))
}

// discard trims a range of the disk, which makes it zeros here.
func (g *guest) discard(off, n int64) {
	g.s.Helper()
	g.s.must(g.disk.Trim(off, n), zeroFile(g.model.Path, off, n))
}

func zeroFile(path string, off, n int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, n), off)
	return err
}

// marked is the bytes a bitmap of the disk has marked.
func (g *guest) marked(bitmap string) int64 {
	g.s.Helper()
	n, ok := g.dirty(bitmap)
	if !ok {
		g.s.Fatalf("%s has no bitmap %s", g.node, bitmap)
	}
	return n
}

// use is a while of a guest's life: files change, a range is zeroed, another
// discarded, and something is written where nothing was.
func (g *guest) use(round int) {
	g.s.Helper()
	g.edit(round, 40)
	at := int64(round) * 5 << 20
	g.zero(at, 300<<10)
	g.discard(at+1<<20, 256<<10)
	g.write(g.size()-int64(round)*512<<10, bytes.Repeat([]byte{byte(round), 0xd7}, 3000))
}

// restored checks that a point's disk is the file want, however it is read.
func (s *scene) restored(vm, disk, point, want string) {
	s.Helper()
	s.same(vm, disk, point, want)
	out := s.path("restored-" + disk + point + ".raw")
	_, err := s.srv.Run(s.ctx, "restore", vm+"/"+disk+"@"+point, "--output", out)
	s.must(err, testdisk.Equal(want, out), os.Remove(out), os.Remove(out+".restore.json"))
	dir := filepath.Join(s.restores(vm), point)
	s.must(testdisk.Equal(want, filepath.Join(dir, disk+".raw")))
	s.tool("qemu-img", "check", "-q", "-f", "qcow2", filepath.Join(dir, disk+".qcow2"))
	s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", filepath.Join(dir, disk+".qcow2"), want)
}

// TestFileFullAndIncremental is the main job over SFTP: a full into a qcow2, an
// incremental whose backing file is the restore tree's image of the full, and
// one without a backing file, in a session that was opened as incremental.
func TestFileFullAndIncremental(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	g := newGuest(s, "vda", "qcow2")
	want := []string{g.snapshot("0")}
	d := s.drop("web1")
	g.fullToFile(filepath.Join(d.mount(), "vda.qcow2"), "qcow2", "b0")
	points := []api.Receipt{d.commit("vda")}

	g.use(1)
	dirty := []int64{0, g.marked("b0")}
	want = append(want, g.snapshot("1"))
	d = s.drop("web1")
	backing := filepath.Join("restore/web1", points[0].Point, "vda.qcow2")
	g.dirtyToFile(filepath.Join(d.mount(), "vda.qcow2"), backing, "b0")
	points = append(points, d.commit("vda"))

	g.use(2)
	dirty = append(dirty, g.marked("b0"))
	want = append(want, g.snapshot("2"))
	d = s.drop("web1", "--mode", "incremental")
	g.dirtyToFile(filepath.Join(d.mount(), "vda.qcow2"), "", "b0")
	points = append(points, d.commit("vda"))

	for i, r := range points {
		m := image(s, r, "vda")
		if i == 0 && m.Mode != "full" || i > 0 && (m.Mode != "incremental" || m.Parent != points[i-1].Point) {
			t.Errorf("point %d: %+v", i, m)
		}
		if i > 0 && m.WrittenBytes+m.ZeroedBytes != dirty[i] {
			t.Errorf("point %d: %d bytes were dirty; %+v", i, dirty[i], m)
		}
		s.restored("web1", "vda", r.Point, want[i])
	}
}

// TestFileRawAndTwoDisks backs two disks up at one instant, one into a raw file
// and one into a qcow2, while the guest goes on writing.
func TestFileRawAndTwoDisks(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	guests := []*guest{newGuest(s, "vda", "qcow2"), newGuest(s, "vdb", "raw")}
	guests[1].edit(7, 9)
	formats := []string{"raw", "qcow2"}
	d := s.drop("db")
	dir := d.mount()
	var want []string
	var actions []qsd.Action
	for i, g := range guests {
		path := filepath.Join(dir, g.node+"."+formats[i])
		g.createFile(path, formats[i], "")
		g.openFile(path, formats[i])
		want = append(want, g.snapshot("0"))
		actions = append(actions, g.copyAll())
	}
	s.must(s.qsd.Transaction(s.ctx, actions...))
	for i := range int64(50) {
		guests[i%2].write(i<<20, []byte("written while the job runs"))
	}
	s.must(s.qsd.Wait(s.ctx, jobs(guests)...))
	s.closeFiles(guests...)
	r := d.commit("vda", "vdb")
	for i, g := range guests {
		s.restored("db", g.node, r.Point, want[i])
	}
}

// TestFileManifest names disks and files freely. What the manifest does not
// name is kept as a file.
func TestFileManifest(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	g := newGuest(s, "vda", "qcow2")
	d := s.drop("vm")
	dir := d.mount()
	s.must(os.Mkdir(filepath.Join(dir, "images"), 0o700))
	g.fullToFile(filepath.Join(dir, "images", "root-disk.img2"), "qcow2", "b0")
	s.put(filepath.Join(dir, "domain.xml"), []byte("<domain/>"))
	s.put(filepath.Join(dir, "manifest.json"), []byte(`{"disks":[{"file":"images/root-disk.img2","disk":"root","format":"qcow2","mode":"full"}]}`))
	first := d.commit("root")

	g.use(1)
	d = s.drop("vm")
	dir = d.mount()
	g.dirtyToFile(filepath.Join(dir, "inc.qcow2"), "", "b0")
	s.put(filepath.Join(dir, "manifest.json"), []byte(`{"disks":[{"file":"inc.qcow2","disk":"root","format":"qcow2","mode":"incremental"}]}`))
	second := d.commit("root")
	if i := image(s, second, "root"); i.Mode != "incremental" || i.Parent != first.Point {
		t.Errorf("the incremental: %+v", i)
	}
	s.restored("vm", "root", second.Point, g.model.Path)
	text, err := os.ReadFile(filepath.Join(s.restores("vm"), first.Point, "files", "domain.xml"))
	if err != nil || string(text) != "<domain/>" {
		t.Errorf("a file that is no disk: %q, %v", text, err)
	}
}

// TestFileGrownDisk makes the disk larger between two points.
func TestFileGrownDisk(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	g := newGuest(s, "vda", "qcow2")
	d := s.drop("vm")
	g.fullToFile(filepath.Join(d.mount(), "vda.qcow2"), "qcow2", "b0")
	first, small := d.commit("vda"), g.snapshot("small")
	g.grow(baseSize + 64<<20 + 512)
	g.write(baseSize+1<<20, []byte("in the new tail"))
	g.write(4096, []byte("and in the old part"))
	d = s.drop("vm", "--mode", "incremental")
	g.dirtyToFile(filepath.Join(d.mount(), "vda.qcow2"), "", "b0")
	second := d.commit("vda")
	s.restored("vm", "vda", second.Point, g.model.Path)
	s.restored("vm", "vda", first.Point, small)
}

// TestFileRefusals commits what cannot be an image. Each is refused with the
// file's name, changes nothing, and the session can still be put right.
func TestFileRefusals(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	g := newGuest(s, "vda", "qcow2")
	d := s.drop("vm")
	dir := d.mount()
	file := filepath.Join(dir, "vda.qcow2")
	refused := func(what string, words ...string) {
		t.Helper()
		_, err := s.srv.Commit(s.ctx, d.Session)
		if err == nil {
			t.Fatalf("%s was committed", what)
		}
		s.refused(err, words...)
		if n := s.points("vm"); n != 0 {
			t.Errorf("%s: %d points", what, n)
		}
	}
	s.put(file, []byte("QFI\xfbnonsense"))
	refused("a broken qcow2", "vda.qcow2")
	s.tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "somewhere.qcow2", "-F", "qcow2", file, fmt.Sprint(g.size()))
	refused("a qcow2 with an unknown backing file", "vda.qcow2", "somewhere.qcow2")
	s.must(os.Remove(file))
	s.put(filepath.Join(dir, "vdb.raw.part"), make([]byte, 4096))
	refused("an unfinished upload", "vdb.raw.part")
	s.must(os.Remove(filepath.Join(dir, "vdb.raw.part")))
	s.put(filepath.Join(dir, "vda.raw"), make([]byte, 4096))
	g.createFile(file, "qcow2", "")
	refused("two files for one disk", "vda")
	s.must(os.Remove(filepath.Join(dir, "vda.raw")), os.Remove(file))
	s.put(filepath.Join(dir, "manifest.json"), []byte(`{"disks":[{"file":"missing.qcow2","disk":"vda","format":"qcow2"}]}`))
	refused("a manifest of a missing file", "missing.qcow2")
	s.must(os.Remove(filepath.Join(dir, "manifest.json")))
	want := g.snapshot("0")
	g.fullToFile(file, "qcow2", "b0")
	s.restored("vm", "vda", d.commit("vda").Point, want)
}
