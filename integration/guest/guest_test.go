package guest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// TestRealGuest is the whole life of a recovery: a machine that runs is backed
// up full and twice incrementally, and lost. It starts again from clones of the
// newest and of an older point. The one of the newest goes on working while the
// server is killed, twice, and while its disk moves to local storage. What was
// moved, what the clone holds and the point it becomes are the same.
func TestRealGuest(t *testing.T) {
	s := newScene(t)
	disk, err := Disk(s.ctx)
	s.must(err, Overlay(s.ctx, disk, s.path("vda.qcow2")))
	s.step("the disk is there")
	points := s.history()

	older := s.clone(points[1])
	newest := s.clone("latest")
	old := s.boot("old", Export(s.srv.NBDSocket(), older.Disks[0].Export))
	now := s.boot("new", Export(s.srv.NBDSocket(), newest.Disks[0].Export))
	old.login()
	old.has("first", 1)
	old.has("second", 2)
	old.hasNot("third")
	s.baseStays(points[1])
	s.giveUp(old, older)

	now.login()
	now.has("first", 1)
	now.has("second", 2)
	now.has("third", 3)
	now.sh(writing("in-clone", 4))
	s.killWhileWriting(now, newest)
	s.moveInVain(now, newest)
	s.move(now, newest, points[2])
}

// history runs a machine and backs it up three times; it returns the points.
// Before each, the guest writes a file; during each, it is busy.
func (s *scene) history() []string {
	s.Helper()
	m := s.boot("src", File(s.path("vda.qcow2"), "qcow2"))
	m.login()
	size := s.diskSize(s.path("vda.qcow2"))
	m.sh("(while test ! -e /root/stop; do seq 1 30000 > /root/busy; sync; done &)")
	m.sh(writing("first", 1))
	first, _ := m.backup(size, "full", qsd.AddBitmap("disk", bitmap, true), copying("full", ""))
	m.sh(writing("second", 2))
	second, i := m.backup(size, "incremental", copying("incremental", bitmap))
	if i.Mode != "incremental" || i.Parent != first || i.WrittenBytes > size/4 {
		s.Errorf("the second point: %+v", i)
	}
	m.sh(writing("third", 3))
	third, _ := m.backup(size, "incremental", copying("incremental", bitmap))
	m.sh("touch /root/stop")
	m.Kill()
	return []string{first, second, third}
}

func (s *scene) diskSize(path string) int64 {
	s.Helper()
	var size int64
	out := s.tool("qemu-img", "info", "-U", "--output=json", path)
	_, rest, _ := strings.Cut(out, `"virtual-size":`)
	_, err := fmt.Sscan(rest, &size)
	s.must(err)
	return size
}

func (s *scene) clone(point string) api.Clone {
	s.Helper()
	x, err := s.srv.CreateClone(s.ctx, vm+"@"+point)
	s.must(err)
	return x
}

// baseStays checks that a point cannot be removed beneath a clone.
func (s *scene) baseStays(point string) {
	s.Helper()
	if _, err := s.srv.Run(s.ctx, "point", "rm", vm+"@"+point); err == nil {
		s.Error("a point was removed beneath a clone")
	}
}

// giveUp writes in a clone, ends its machine as a power cut does and discards it.
func (s *scene) giveUp(m *machine, x api.Clone) {
	s.Helper()
	m.sh(writing("in-vain", 9))
	if _, err := s.srv.DiscardClone(s.ctx, x.Clone); err == nil {
		s.Error("a clone was discarded under a running machine")
	}
	m.Kill()
	s.eventually("the clone can be discarded", func() bool {
		_, err := s.srv.DiscardClone(s.ctx, x.Clone)
		return err == nil
	})
	s.step("the clone of the older point is discarded")
}

func (s *scene) eventually(what string, done func() bool) {
	s.Helper()
	for !done() {
		select {
		case <-s.ctx.Done():
			s.Fatalf("%s: %v", what, s.ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *scene) kill() {
	s.Helper()
	s.srv.Kill()
	s.must(s.srv.Start(s.ctx))
}

// busyFiles are the files that a busy guest writes in turn.
const busyFiles = 8

// killWhileWriting kills the server under a guest that writes and syncs without
// a pause, and looks at every file once the guest has written more than before.
func (s *scene) killWhileWriting(m *machine, x api.Clone) {
	s.Helper()
	m.sh(fmt.Sprintf(`(i=100; while test ! -e /root/enough; do
		seq $i $((i+%d)) > /root/busy-$((i%%%d)) && sync; i=$((i+1)); done; echo $i > /root/last) > /dev/null 2>&1 &`, fileLines, busyFiles))
	s.writes(x)
	s.kill()
	s.writes(x)
	m.sh("touch /root/enough; while test ! -s /root/last; do sleep 0.1; done")
	var last int
	_, err := fmt.Sscan(m.sh("cat /root/last"), &last)
	s.must(err)
	s.step("the server was killed; the guest went on and wrote %d files", last-100)
	m.has("in-clone", 4)
	for i := max(100, last-busyFiles); i < last; i++ {
		m.has(fmt.Sprintf("busy-%d", i%busyFiles), i)
	}
}

// writes waits until a clone has got more data.
func (s *scene) writes(x api.Clone) {
	s.Helper()
	before := s.written(x)
	s.eventually("the guest writes", func() bool { return s.written(x) > before+2<<20 })
}

func (s *scene) written(x api.Clone) int64 {
	s.Helper()
	now, err := s.srv.Clone(s.ctx, x.Clone)
	s.must(err)
	return now.Disks[0].WrittenBytes
}

// mirror begins to copy a machine's disk to a local file, slowly.
func (m *machine) mirror(local string, size int64) {
	s := m.s
	s.Helper()
	s.must(os.WriteFile(local, nil, 0o600), os.Truncate(local, size))
	node := File(local, "raw")
	node["node-name"] = "local"
	s.must(m.Do(s.ctx, "blockdev-add", node),
		m.Do(s.ctx, "blockdev-mirror", map[string]any{"job-id": job, "device": "disk", "target": "local", "sync": "full",
			"auto-dismiss": false, "speed": 64 << 20}),
		m.Blocks.Progressed(s.ctx, job, 48<<20))
}

// moveInVain begins to move the disk and gives up: what the guest has written
// meanwhile is in the clone.
func (s *scene) moveInVain(m *machine, x api.Clone) {
	s.Helper()
	m.mirror(s.path("in-vain.raw"), x.Disks[0].Size)
	m.sh(writing("moving-in-vain", 7))
	s.must(m.Blocks.Cancel(s.ctx, job))
	if err := m.Blocks.Wait(s.ctx, job); err == nil {
		s.Error("a cancelled mirror has succeeded")
	}
	s.must(m.Blocks.RemoveNode(s.ctx, "local"))
	m.has("moving-in-vain", 7)
}

// move mirrors a machine's disk to a local file, with the server killed once
// more on the way, and lets the machine go on there.
func (s *scene) move(m *machine, x api.Clone, base string) {
	s.Helper()
	local := s.path("local.raw")
	m.mirror(local, x.Disks[0].Size)
	s.kill()
	s.must(m.Blocks.SetSpeed(s.ctx, job, 0))
	m.sh(writing("moving", 5))
	s.eventually("the mirror is ready", func() bool {
		j, err := m.Blocks.Job(s.ctx, job)
		s.must(err)
		if j.Status == "concluded" {
			s.Fatalf("the mirror ended: %+v", j)
		}
		return j.Status == "ready"
	})
	s.must(m.Do(s.ctx, "stop", nil),
		m.Do(s.ctx, "job-complete", map[string]any{"id": job}),
		m.Blocks.Wait(s.ctx, job),
		m.Blocks.RemoveNode(s.ctx, "disk"))
	s.step("the disk has moved")
	s.same(x.Disks[0].Export, local)
	s.sealed(x, base, local)

	s.must(m.Do(s.ctx, "cont", nil))
	m.sh(writing("moved", 6))
	m.has("moving", 5)
	s.must(m.Halt(s.ctx))
	s.must(testdisk.Check(fmt.Sprintf("%s?offset=%d", local, partition)))
	s.step("the machine has halted; its file system is clean")
}

// sealed makes the clone a point, which must be the file.
func (s *scene) sealed(x api.Clone, base, file string) {
	s.Helper()
	s.eventually("nobody is connected to the clone", func() bool {
		now, err := s.srv.Clone(s.ctx, x.Clone)
		s.must(err)
		return len(now.Disks[0].Clients) == 0
	})
	r, err := s.srv.SealClone(s.ctx, x.Clone)
	s.must(err)
	s.same(vm+"/vda@"+r.Point, file)
	if i := r.Images[0]; i.Mode != "incremental" || i.Parent != base {
		s.Errorf("the sealed point: %+v, want an incremental over %s", i, base)
	}
	if l, err := s.srv.Clones(s.ctx); err != nil || len(l) != 0 {
		s.Errorf("clones after the last was sealed: %+v, %v", l, err)
	}
	s.step("the clone is a point")
}
