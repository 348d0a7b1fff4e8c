package integration

import (
	"os"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// guest is a disk of the storage daemon that somebody uses: what is written
// goes to the daemon's node and to the model, a raw file.
type guest struct {
	s          *scene
	node       string
	persistent bool // its bitmaps live in the image file
	model      *testdisk.Disk
	disk       *nbdio.Client
}

// newGuest opens a copy of the base disk, as raw or qcow2, as a node.
func newGuest(s *scene, node, format string) *guest {
	s.Helper()
	return newGuestOf(s, node, format, s.copyOf(base, node+".model"))
}

// newGuestOf opens a disk with the model's content as a node.
func newGuestOf(s *scene, node, format string, model *testdisk.Disk) *guest {
	s.Helper()
	g := &guest{s: s, node: node, persistent: format == "qcow2", model: model}
	file := s.path(node + "." + format)
	s.tool("qemu-img", "convert", "-f", "raw", "-O", format, g.model.Path, file)
	s.must(s.qsd.AddDisk(s.ctx, node, file, format))
	g.connect()
	return g
}

func (g *guest) connect() {
	g.s.Helper()
	var err error
	g.disk, err = nbdio.Dial(g.s.ctx, "unix", g.s.qsd.Socket, g.node)
	g.s.must(err)
	g.s.Cleanup(g.disk.Drop)
}

func (g *guest) size() int64 { return g.model.Size }

// write puts data on the disk.
func (g *guest) write(off int64, data []byte) {
	g.s.Helper()
	g.s.must(g.tryWrite(off, data))
}

// tryWrite is write for goroutines of a test's own.
func (g *guest) tryWrite(off int64, data []byte) error {
	f, err := os.OpenFile(g.model.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		return err
	}
	_, err = g.disk.WriteAt(data, off)
	return err
}

// edit changes every step-th file on the disk, as using it would.
func (g *guest) edit(round, step int) {
	g.s.Helper()
	before := g.snapshot("edit")
	_, err := g.model.Edit(round, step)
	g.s.must(err, testdisk.Diff(before, g.model.Path, func(off int64, data []byte) error {
		_, err := g.disk.WriteAt(data, off)
		return err
	}))
}

// grow makes the disk larger; the new tail is zeros.
func (g *guest) grow(size int64) {
	g.s.Helper()
	g.disk.Drop()
	g.s.must(g.s.qsd.ResizeDisk(g.s.ctx, g.node, size), os.Truncate(g.model.Path, size))
	g.model.Size = size
	g.connect()
}

// snapshot keeps what the disk holds now in a raw file.
func (g *guest) snapshot(name string) string {
	g.s.Helper()
	path := g.s.path(g.node + "." + name)
	g.s.must(testdisk.Copy(g.model.Path, path))
	return path
}

// dirty is the bytes a bitmap of the disk has marked, and whether it is there.
func (g *guest) dirty(bitmap string) (int64, bool) {
	g.s.Helper()
	all, err := g.s.qsd.Bitmaps(g.s.ctx, g.node)
	g.s.must(err)
	b, ok := all[bitmap]
	return b.Dirty, ok
}

// copyAll is the step of a transaction that copies the whole disk.
func (g *guest) copyAll() qsd.Action {
	return qsd.Backup{Job: job(g.node), Device: g.node, Target: target(g.node), Sync: "full"}.Action()
}

// copyDirty copies what the bitmap marks and lets QEMU clear it (recipe b).
func (g *guest) copyDirty(bitmap string) qsd.Action {
	return qsd.Backup{Job: job(g.node), Device: g.node, Target: target(g.node), Sync: "incremental", Bitmap: bitmap}.Action()
}

// rotate is recipe (g): next begins to record at the instant from which old is
// copied; neither is cleared by QEMU.
func (g *guest) rotate(old, next string) []qsd.Action {
	return []qsd.Action{
		qsd.AddBitmap(g.node, next, g.persistent),
		qsd.DisableBitmap(g.node, old),
		qsd.Backup{Job: job(g.node), Device: g.node, Target: target(g.node), Sync: "bitmap", Bitmap: old, BitmapMode: "never"}.Action(),
	}
}

// rotateBack undoes a rotation whose point was not committed.
func (g *guest) rotateBack(old, next string) []qsd.Action {
	return []qsd.Action{qsd.MergeBitmap(g.node, old, next), qsd.EnableBitmap(g.node, old), qsd.RemoveBitmap(g.node, next)}
}
