package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// cloned is a clone of the base disk and a compute node's QEMU that has it open.
// Whoever writes goes through QEMU, which waits for a server that has gone.
type cloned struct {
	*scene
	api   *api.Client
	base  string // the point below
	clone api.Clone
	model []byte // what the disk should hold
}

// cloneNode is the name of the clone in QEMU, and of QEMU's export of it.
const cloneNode = "clone"

func newCloned(t *testing.T, timeout time.Duration, settings ...string) *cloned {
	t.Helper()
	t.Parallel()
	s := newSceneFor(t, timeout, settings...)
	r := s.full("vm", "b0", newGuest(s, "vda", "raw"))
	x, err := s.srv.CreateClone(s.ctx, "vm@"+r.Point)
	s.must(err)
	c := &cloned{scene: s, base: r.Point, clone: x}
	c.api, err = api.NewClient(s.srv.APISocket(), api.ClientOptions{})
	s.must(err)
	t.Cleanup(c.api.Close)
	c.model, err = os.ReadFile(base.Path)
	s.must(err)
	c.attach()
	return c
}

// attach opens the clone in QEMU and exports it.
func (c *cloned) attach() {
	c.Helper()
	c.must(c.qsd.AddTarget(c.ctx, qsd.Target{Node: cloneNode, Unix: c.srv.NBDSocket(), Export: c.clone.Disks[0].Export, ReconnectDelay: 60}),
		c.qsd.QMP.Execute(c.ctx, "block-export-add", map[string]any{
			"type": "nbd", "id": "export-clone", "node-name": cloneNode, "name": cloneNode, "writable": true,
		}, nil))
}

// detach closes the clone in QEMU, which is when it flushes.
func (c *cloned) detach() {
	c.Helper()
	c.must(c.qsd.QMP.Execute(c.ctx, "block-export-del", map[string]any{"id": "export-clone", "mode": "hard"}, nil))
	c.eventually("QEMU lets go of the clone", func() bool { return c.qsd.RemoveNode(c.ctx, cloneNode) == nil })
	c.alone()
}

// alone waits until the server has seen that nobody is connected any more.
func (c *cloned) alone() {
	c.Helper()
	c.eventually("the clone's clients are gone", func() bool { return len(c.show().Clients) == 0 })
}

func (c *cloned) show() api.CloneDisk {
	c.Helper()
	x, err := c.api.Clone(c.ctx, c.clone.Clone)
	c.must(err)
	return x.Disks[0]
}

func (s *scene) eventually(what string, done func() bool) {
	s.Helper()
	for !done() {
		select {
		case <-s.ctx.Done():
			s.Fatalf("%s: %v", what, s.ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *cloned) kill() {
	c.Helper()
	c.srv.Kill()
	c.must(c.srv.Start(c.ctx))
}

// fio writes to the clone and verifies what it reads, while the server is killed
// as often as wanted, each time once the clone has got more data.
func (c *cloned) fio(seed int64, kills int) {
	c.Helper()
	cmd := exec.CommandContext(c.ctx, "fio", "--name=v", "--ioengine=nbd", "--uri="+c.qsd.DiskURI(cloneNode), "--rw=randrw",
		fmt.Sprint("--randseed=", seed), "--bssplit=512/20:4k/60:64k/20", "--blockalign=512", "--iodepth=16", "--size=32m", "--fsync=32",
		"--rate=,16m", "--verify=crc32c", "--verify_interval=512", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	c.must(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	killed := 0
	for seen := c.show().WrittenBytes; killed < kills && len(done) == 0; {
		if c.show().WrittenBytes == seen {
			time.Sleep(time.Millisecond)
			continue
		}
		c.kill()
		killed++
		seen = c.show().WrittenBytes
	}
	if err := <-done; err != nil {
		c.Fatalf("fio: %v\n%s", err, out.String())
	}
	c.Logf("the server was killed %d times under fio", killed)
	if killed == 0 {
		c.Error("fio ended before the server was killed")
	}
}

// use writes as a guest does, in as many parts as the server is killed after.
// A mirror passes over what is trimmed; then there is nothing to be trimmed.
func (c *cloned) use(rng *rand.Rand, kills int, trim bool) {
	c.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(c.ctx, "qemu-io", "-t", "none", "-d", "unmap", "-f", "raw", c.qsd.DiskURI(cloneNode))
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	c.must(err, cmd.Start())
	for range kills {
		_, err := io.WriteString(in, c.guestWrites(rng, 150, trim))
		c.must(err)
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond) // anywhere in what it does
		c.kill()
	}
	_, err = io.WriteString(in, c.guestWrites(rng, 50, trim))
	c.must(err, in.Close())
	if err := cmd.Wait(); err != nil || strings.Contains(out.String(), "failed") {
		c.Fatalf("qemu-io: %v\n%s", err, out.String())
	}
}

// isModel compares the disk, through QEMU, with the model.
func (c *cloned) isModel() {
	c.Helper()
	c.put(c.path("clone.model"), c.model)
	c.tool("qemu-img", "compare", "-f", "raw", "-F", "raw", c.qsd.DiskURI(cloneNode), c.path("clone.model"))
}

// TestKillUnderAClone lets fio write to a clone and verify what it reads, and
// then writes as a guest does (sectors, pages, FUA, zeros, discards), while the
// server is killed. Nothing that was answered is lost: the clone, and the point
// it becomes, are what was written; the point below is as it was.
func TestKillUnderAClone(t *testing.T) {
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	kills := int(environment(t, "STRONGROOM_KILLS", 4))
	t.Logf("seed: STRONGROOM_SEED=%d STRONGROOM_KILLS=%d", seed, kills)
	c := newCloned(t, sceneTimeout+time.Duration(kills)*10*time.Second)
	c.fio(seed, kills)
	c.tool("nbdcopy", c.qsd.DiskURI(cloneNode), c.path("after-fio.raw"))
	var err error
	c.model, err = os.ReadFile(c.path("after-fio.raw"))
	c.must(err)

	c.use(rand.New(rand.NewPCG(uint64(seed), 6)), kills, true)
	c.isModel()
	c.detach()
	c.same("vm", "vda", c.base, base.Path)

	r, err := c.srv.SealClone(c.ctx, c.clone.Clone)
	c.must(err)
	c.same("vm", "vda", r.Point, c.path("clone.model"))
	if i := image(c.scene, r, "vda"); i.Mode != "incremental" || i.Parent != c.base {
		t.Errorf("the sealed image: %+v", i)
	}
	if again, err := c.srv.SealClone(c.ctx, c.clone.Clone); err != nil || again.Point != r.Point {
		t.Errorf("sealed again: %+v, %v", again, err)
	}
}

// guestWrites makes commands for qemu-io, and the model what they come to.
func (c *cloned) guestWrites(rng *rand.Rand, n int, trim bool) string {
	var script strings.Builder
	discard := "discard -q"
	if !trim {
		discard = "write -q -z -u"
	}
	for range n {
		size := int64([]int{512, 512, 4096, 4096, 4096, 65536, 512 * (1 + rng.IntN(300))}[rng.IntN(7)])
		off := 512 * rng.Int64N((int64(len(c.model))-size)/512+1)
		switch part := c.model[off : off+size]; rng.IntN(10) {
		case 0:
			fmt.Fprintf(&script, "write -q -z %d %d\n", off, size)
			clear(part)
		case 1:
			fmt.Fprintf(&script, "write -q -z -u %d %d\n", off, size)
			clear(part)
		case 2:
			fmt.Fprintf(&script, "%s %d %d\n", discard, off, size)
			clear(part)
		case 3:
			fmt.Fprintln(&script, "flush")
		default:
			fill, fua := byte(rng.IntN(256)), []string{"", "-f "}[rng.IntN(2)]
			fmt.Fprintf(&script, "write -q %s-P %d %d %d\n", fua, fill, off, size)
			copy(part, bytes.Repeat([]byte{fill}, len(part)))
		}
	}
	return script.String()
}

// TestClonesKeepTheirPoint: what a clone is over stays; what was written to it
// is given back when it is discarded.
func TestClonesKeepTheirPoint(t *testing.T) {
	c := newCloned(t, sceneTimeout, "gc.grace=0s")
	_, err := c.srv.Run(c.ctx, "point", "rm", "--now", c.base)
	c.refused(err, c.clone.Clone)
	_, err = c.srv.Run(c.ctx, "gc", "--wait")
	c.must(err)
	c.isModel()

	before := packBytes(c.scene)
	disk, err := nbdio.Dial(c.ctx, "unix", c.qsd.Socket, cloneNode)
	c.must(err)
	const written = 24 << 20
	for off := int64(0); off < written; off += 1 << 20 {
		_, err := disk.WriteAt(noise(uint64(off>>20), 1<<20), off)
		c.must(err)
	}
	c.must(disk.Close())
	if grown := packBytes(c.scene) - before; grown < written/2 {
		t.Errorf("%d bytes were written, the packs have grown by %d", written, grown)
	}
	_, err = c.srv.DiscardClone(c.ctx, c.clone.Clone)
	c.refused(err, c.clone.Clone)
	c.detach()
	_, err = c.srv.DiscardClone(c.ctx, c.clone.Clone)
	c.must(err)
	if _, err := nbdio.Dial(c.ctx, "unix", c.srv.NBDSocket(), c.clone.Disks[0].Export); !errors.Is(err, nbdio.ErrRefused) {
		t.Errorf("the export of a discarded clone: %v", err)
	}
	c.eventually("the space of the clone is back", func() bool {
		_, err := c.srv.Run(c.ctx, "gc", "--wait", "--dead-ratio", "0.02")
		c.must(err)
		return packBytes(c.scene) < before+written/4
	})
	c.same("vm", "vda", c.base, base.Path)
	_, err = c.srv.Run(c.ctx, "point", "rm", "--now", c.base)
	c.must(err)
}

// TestStaleClone: a clone whose host went down over unflushed writes is refused
// under its old name, and comes back as it was when it was flushed last.
func TestStaleClone(t *testing.T) {
	c := newCloned(t, sceneTimeout)
	c.detach()
	disk, err := nbdio.Dial(c.ctx, "unix", c.srv.NBDSocket(), c.clone.Disks[0].Export)
	c.must(err)
	write := func(off int64, data []byte) {
		_, err := disk.WriteAt(data, off)
		c.must(err)
	}
	write(4096, noise(1, 300<<10))
	copy(c.model[4096:], noise(1, 300<<10))
	c.must(disk.Flush())
	write(100<<10+512, noise(2, 100<<10))
	c.must(disk.Zero(8192, 20<<10))
	disk.Drop()
	c.restartHost()

	stale, err := c.srv.Clone(c.ctx, c.clone.Clone)
	if c.must(err); stale.State != api.CloneStale || stale.Reason == "" {
		t.Fatalf("after the host's restart: %+v", stale)
	}
	if _, err := nbdio.Dial(c.ctx, "unix", c.srv.NBDSocket(), c.clone.Disks[0].Export); !errors.Is(err, nbdio.ErrRefused) {
		t.Errorf("the old name of a stale clone: %v", err)
	}
	_, err = c.srv.SealClone(c.ctx, c.clone.Clone)
	c.refused(err, c.clone.Clone)
	old := c.clone.Disks[0].Export
	c.clone, err = c.srv.ResumeClone(c.ctx, c.clone.Clone)
	c.must(err)
	if c.clone.Disks[0].Export == old {
		t.Error("a stale clone came back under its old name")
	}
	c.attach()
	c.isModel()
	c.tool("qemu-io", "-f", "raw", "-c", "write -q -P 5 1M 5000", c.qsd.DiskURI(cloneNode))
	copy(c.model[1<<20:], bytes.Repeat([]byte{5}, 5000))
	c.kill()
	c.isModel()
	c.detach()
	r, err := c.srv.SealClone(c.ctx, c.clone.Clone)
	c.must(err)
	c.same("vm", "vda", r.Point, c.path("clone.model"))
}

// TestCloneIsMovedAway mirrors a clone to a local disk while it is written, and
// block-streams another into an overlay: the two ways for a VM to leave.
func TestCloneIsMovedAway(t *testing.T) {
	c := newCloned(t, sceneTimeout)
	local := c.path("local.raw")
	c.must(os.WriteFile(local, nil, 0o600), os.Truncate(local, int64(len(c.model))),
		c.qsd.QMP.Execute(c.ctx, "blockdev-add", map[string]any{"driver": "raw", "node-name": "local",
			"file": map[string]any{"driver": "file", "filename": local}}, nil),
		c.qsd.QMP.Execute(c.ctx, "blockdev-mirror", map[string]any{"job-id": "move", "device": cloneNode, "target": "local",
			"sync": "full", "auto-dismiss": false, "speed": 32 << 20}, nil))
	c.use(rand.New(rand.NewPCG(3, 4)), 1, false)
	c.must(c.qsd.SetSpeed(c.ctx, "move", 0))
	c.eventually("the mirror is ready", func() bool {
		j, err := c.qsd.Job(c.ctx, "move")
		c.must(err)
		if j.Error != "" {
			t.Fatalf("the mirror failed: %+v", j)
		}
		return j.Status == "ready"
	})
	c.isModel()
	c.must(c.qsd.QMP.Execute(c.ctx, "job-complete", map[string]any{"id": "move"}, nil), c.qsd.Wait(c.ctx, "move"))
	c.must(testdisk.Equal(c.path("clone.model"), local))
	c.detach()
	c.same("vm", "vda", c.base, base.Path)

	overlay := c.path("overlay.qcow2")
	c.tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", c.srv.UnixURI(c.clone.Disks[0].Export), "-F", "raw", overlay)
	c.tool("qemu-img", "rebase", "-f", "qcow2", "-b", "", overlay)
	c.equals("qcow2", overlay, c.path("clone.model"))
	c.alone()
	_, err := c.srv.DiscardClone(c.ctx, c.clone.Clone)
	c.must(err)
}
