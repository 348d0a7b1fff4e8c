package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// push opens a backup of the base disk, lets fill write it, commits and checks
// the point.
func push(t *testing.T, fill func(s *scene, uri string)) {
	t.Parallel()
	s := newScene(t)
	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", fmt.Sprintf("vda=%d", base.Size))
	s.must(err)
	fill(s, b.Disks[0].UnixURI)
	r := s.commit(b)
	s.same("vm", "vda", r.Point, base.Path)
}

func TestQemuImgConvertIn(t *testing.T) {
	push(t, func(s *scene, uri string) {
		s.tool("qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", base.Path, uri)
	})
}

func TestNbdcopyIn(t *testing.T) {
	for _, flags := range [][]string{{}, {"--flush"}, {"--connections=4", "--requests=64"}} {
		t.Run(strings.Join(append(flags, "end"), " "), func(t *testing.T) {
			push(t, func(s *scene, uri string) { s.tool("nbdcopy", append(flags, base.Path, uri)...) })
		})
	}
}

// restored is a scene with the base disk as the point vm/vda@latest.
func restored(t *testing.T) (s *scene, uri, point string) {
	t.Parallel()
	s = newScene(t)
	r := s.full("vm", "b0", newGuest(s, "vda", "raw"))
	return s, s.srv.UnixURI("vm/vda@" + r.Point), r.Point
}

// TestRestores reads a point with everything that reads.
func TestRestores(t *testing.T) {
	s, uri, point := restored(t)
	same := func(how, file string) {
		if err := testdisk.Equal(base.Path, file); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	s.tool("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, s.path("convert.raw"))
	same("qemu-img convert", s.path("convert.raw"))
	s.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", s.srv.UnixURI("vm:vda@latest"), s.path("convert.qcow2"))
	s.tool("qemu-img", "compare", "-f", "qcow2", "-F", "raw", s.path("convert.qcow2"), base.Path)
	s.tool("nbdcopy", uri, s.path("nbdcopy.raw"))
	same("nbdcopy", s.path("nbdcopy.raw"))
	s.tool("bash", "-o", "pipefail", "-c", "nbdcopy '"+uri+"' - | cmp - "+base.Path)
	s.tool("qemu-img", "compare", "-f", "raw", "-F", "raw", fmt.Sprintf("nbd://%s/vm/vda@%s", s.srv.Info.NBD.Address, point), base.Path)

	_, err := s.srv.Run(s.ctx, "restore", "vm/vda@"+point, "--output", s.path("cli.raw"))
	s.must(err)
	same("strongroom restore", s.path("cli.raw"))
	_, err = s.srv.Run(s.ctx, "restore", "vm", "--disk", "vda", "--output", s.path("cli.qcow2"), "--format", "qcow2")
	s.must(err)
	s.tool("qemu-img", "check", "-q", "-f", "qcow2", s.path("cli.qcow2"))
	s.tool("qemu-img", "compare", "-f", "qcow2", "-F", "raw", s.path("cli.qcow2"), base.Path)
}

// TestOverlayBoot uses a point as the backing file of a new disk, which is how
// a VM runs from its backup.
func TestOverlayBoot(t *testing.T) {
	s, uri, _ := restored(t)
	overlay := s.path("overlay.qcow2")
	s.tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", uri, "-F", "raw", overlay)
	s.tool("qemu-io", "-c", "write -q -P 0x5a 1M 3000", "-c", "read -q -P 0x5a 1M 3000", overlay)
	s.tool("qemu-img", "rebase", "-f", "qcow2", "-b", "", overlay)
	model := s.copyOf(base, "model.raw")
	s.tool("qemu-io", "-f", "raw", "-c", "write -q -P 0x5a 1M 3000", model.Path)
	s.tool("qemu-img", "compare", "-f", "qcow2", "-F", "raw", overlay, model.Path)
}

func TestNbdinfo(t *testing.T) {
	s, uri, point := restored(t)
	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", "vda="+strconv.Itoa(baseSize))
	s.must(err)
	list := s.tool("nbdinfo", "--list", "nbd+unix://?socket="+s.srv.NBDSocket())
	if !strings.Contains(list, "vm/vda@"+point) {
		t.Errorf("the point is not listed:\n%s", list)
	}
	if strings.Contains(list, b.Disks[0].Export) {
		t.Errorf("a session's token is listed:\n%s", list)
	}
	var info struct {
		Structured bool `json:"structured"`
		Exports    []struct {
			Size     int64    `json:"export-size"`
			ReadOnly bool     `json:"is_read_only"`
			Multi    bool     `json:"can_multi_conn"`
			Contexts []string `json:"contexts"`
			Min      int      `json:"block_size_minimum"`
			Max      int      `json:"block_size_maximum"`
		}
	}
	s.must(json.Unmarshal([]byte(s.tool("nbdinfo", "--json", uri)), &info))
	if len(info.Exports) != 1 || !info.Structured {
		t.Fatalf("nbdinfo --json: %+v", info)
	}
	if e := info.Exports[0]; e.Size != baseSize || !e.ReadOnly || !e.Multi || e.Min != 1 || e.Max != 32<<20 || len(e.Contexts) != 1 {
		t.Errorf("nbdinfo --json: %+v", e)
	}
	for _, can := range []string{"flush", "fua", "trim", "zero", "fast-zero", "cache", "df", "multi-conn", "write"} {
		s.tool("nbdinfo", "--can", can, b.Disks[0].UnixURI)
	}
	if _, err := s.try("nbdinfo", "--can", "write", uri); err == nil {
		t.Error("a committed point can be written")
	}
	if _, err := s.try("nbdinfo", s.srv.UnixURI("vm/vdz@latest")); err == nil {
		t.Error("a disk that is not there was opened")
	}
}

// TestFio lets fio write a session's disk at random and verify what it reads.
func TestFio(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", "vda=64MiB")
	s.must(err)
	for _, rw := range []string{"randwrite", "randrw"} {
		s.tool("fio", "--name=v", "--ioengine=nbd", "--uri="+b.Disks[0].UnixURI, "--rw="+rw, "--randseed=7",
			"--bsrange=4k-256k", "--blockalign=4k", "--iodepth=16", "--size=48m", "--fsync=64",
			"--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0")
	}
	// The same bytes after the commit: fio's own verification of the point.
	s.tool("nbdcopy", b.Disks[0].UnixURI, s.path("session.raw"))
	r := s.commit(b)
	s.same("vm", "vda", r.Point, s.path("session.raw"))
}

// TestNbdfuse reads a point as a file. It needs FUSE, which a container may not
// have: then the tool must say so, and nothing else may be wrong.
func TestNbdfuse(t *testing.T) {
	s, uri, _ := restored(t)
	mount := s.path("mnt")
	s.must(os.Mkdir(mount, 0o700))
	if _, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		out, err := exec.Command("nbdfuse", mount, uri).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fuse") {
			t.Fatalf("nbdfuse without /dev/fuse: %v\n%s", err, out)
		}
		t.Logf("no FUSE here, nbdfuse says: %s", out)
		return
	}
	t.Cleanup(func() { exec.Command("fusermount3", "-u", mount).Run() })
	s.background(mount+"/nbd", "nbdfuse", mount, uri)
	s.must(testdisk.Equal(base.Path, mount+"/nbd"))
}

// TestNaiveClient reads a point with a client that is made of go-nbd's message
// layouts, knows simple replies only and asks for one thing at a time.
func TestNaiveClient(t *testing.T) {
	s, _, point := restored(t)
	c, err := nbdio.Dial(s.ctx, "unix", s.srv.NBDSocket(), "vm:vda@"+point)
	s.must(err)
	s.Cleanup(c.Drop)
	out, err := os.Create(s.path("naive.raw"))
	s.must(err)
	defer out.Close()
	_, err = io.CopyBuffer(out, io.NewSectionReader(c, 0, c.Size()), make([]byte, 1<<20))
	s.must(err, testdisk.Equal(base.Path, out.Name()))
	if _, err := c.WriteAt(make([]byte, 512), 0); err == nil {
		t.Error("a committed point took a write")
	}
}

// TestMetrics: the figures agree with what a client did.
func TestMetrics(t *testing.T) {
	s, _, _ := restored(t)
	m, err := s.srv.Metrics(s.ctx)
	s.must(err)
	for _, name := range []string{"strongroom_build_info", "strongroom_nbd_requests_total"} {
		found := false
		for sample := range m {
			found = found || strings.HasPrefix(sample, name)
		}
		if !found {
			t.Errorf("no sample of %s", name)
		}
	}
	var st api.Stats
	s.must(s.srv.JSON(s.ctx, &st, "stats"))
	if st.VMs != 1 || st.Points != 1 || st.LogicalBytes != baseSize || st.StoredBytes == 0 {
		t.Errorf("stats: %+v", st)
	}
}
