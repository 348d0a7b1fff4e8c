package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// sceneTimeout bounds one test; none but the longest needs a tenth of it.
const sceneTimeout = 3 * time.Minute

// scene is one server and one compute node.
type scene struct {
	*testing.T
	ctx context.Context
	dir string
	srv *rig.Server
	qsd *qsd.Daemon
}

// newScene starts a server with settings (key=value) and a storage daemon. The
// directory's name is short, because unix sockets lie in it.
func newScene(t *testing.T, settings ...string) *scene {
	t.Helper()
	return newSceneFor(t, sceneTimeout, settings...)
}

func newSceneFor(t *testing.T, timeout time.Duration, settings ...string) *scene {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "sr-")
	s := &scene{T: t, ctx: ctx, dir: dir}
	s.must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.srv, err = rig.StartServer(ctx, rig.Options{Binary: binary, Data: s.path("store"), Settings: settings})
	s.must(err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", s.srv.LogTail())
		}
	})
	s.qsd, err = qsd.Start(ctx, dir)
	s.must(err)
	t.Cleanup(func() {
		if err := s.qsd.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// stop drains the server, also when the test's own time is up.
func (s *scene) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return s.srv.Stop(ctx)
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

func (s *scene) must(errs ...error) {
	s.Helper()
	if err := errors.Join(errs...); err != nil {
		s.Fatal(err)
	}
}

// tool runs a program that must exit 0 and returns its standard output.
func (s *scene) tool(name string, args ...string) string {
	s.Helper()
	out, err := s.try(name, args...)
	s.must(err)
	return out
}

// try is tool for a program that may fail; the error has all it printed.
func (s *scene) try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// start opens a backup of vm with one disk per guest.
func (s *scene) start(vm string, guests []*guest, flags ...string) api.Backup {
	s.Helper()
	b, err := s.tryStart(vm, guests, flags...)
	s.must(err)
	return b
}

func (s *scene) tryStart(vm string, guests []*guest, flags ...string) (api.Backup, error) {
	for _, g := range guests {
		flags = append(flags, "--disk", fmt.Sprintf("%s=%d", g.node, g.size()))
	}
	return s.srv.StartBackup(s.ctx, vm, flags...)
}

// connect makes each disk of a backup a target node of the daemon; target(disk)
// is its name.
func (s *scene) connect(b api.Backup) {
	s.Helper()
	for _, d := range b.Disks {
		s.must(s.qsd.AddTarget(s.ctx, qsd.Target{
			Node: target(d.Disk), Unix: s.srv.NBDSocket(), Export: d.Export, ReconnectDelay: 30,
		}))
	}
}

// disconnect closes the targets, which is when QEMU flushes.
func (s *scene) disconnect(b api.Backup) {
	s.Helper()
	for _, d := range b.Disks {
		s.must(s.qsd.RemoveNode(s.ctx, target(d.Disk)))
	}
}

func (s *scene) commit(b api.Backup) api.Receipt {
	s.Helper()
	r, err := s.srv.Commit(s.ctx, b.Session)
	s.must(err)
	if r.Point == "" || len(r.Images) != len(b.Disks) {
		s.Fatalf("receipt: %+v", r)
	}
	return r
}

// full backs guests up by recipe (a): a bitmap per disk and the copy in one
// transaction.
func (s *scene) full(vm, bitmap string, guests ...*guest) api.Receipt {
	s.Helper()
	b := s.start(vm, guests, "--mode", "full", "--checkpoint", bitmap)
	s.connect(b)
	var actions []qsd.Action
	for _, g := range guests {
		actions = append(actions, qsd.AddBitmap(g.node, bitmap, g.persistent), g.copyAll())
	}
	s.must(s.qsd.Transaction(s.ctx, actions...), s.qsd.Wait(s.ctx, jobs(guests)...))
	s.disconnect(b)
	return s.commit(b)
}

func target(disk string) string { return "to-" + disk }
func job(disk string) string    { return "job-" + disk }

func jobs(guests []*guest) (ids []string) {
	for _, g := range guests {
		ids = append(ids, job(g.node))
	}
	return ids
}

// same compares a point's disk, read by qemu-img over NBD, with a raw file.
func (s *scene) same(vm, disk, point, file string) {
	s.Helper()
	s.tool("qemu-img", "compare", "-f", "raw", "-F", "raw", s.srv.UnixURI(vm+"/"+disk+"@"+point), file)
}

// points counts a VM's points.
func (s *scene) points(vm string) int {
	s.Helper()
	l, err := s.srv.Points(s.ctx, vm)
	if e := new(rig.CLIError); errors.As(err, &e) && strings.Contains(e.Stderr, vm) {
		return 0 // a VM without a point is not known
	}
	s.must(err)
	return len(l)
}

// refused checks that a command failed and said the words.
func (s *scene) refused(err error, words ...string) {
	s.Helper()
	var e *rig.CLIError
	if !errors.As(err, &e) {
		s.Fatalf("not refused: %v", err)
	}
	for _, w := range words {
		if !strings.Contains(e.Stderr, w) {
			s.Errorf("%q is not in the refusal: %s", w, e.Stderr)
		}
	}
}

// image finds a disk's image in a receipt.
func image(s *scene, r api.Receipt, disk string) api.Image {
	s.Helper()
	for _, i := range r.Images {
		if i.Disk == disk {
			return i
		}
	}
	s.Fatalf("no image of %s in %+v", disk, r)
	return api.Image{}
}

// copyOf keeps a disk of files for one test.
func (s *scene) copyOf(d *testdisk.Disk, name string) *testdisk.Disk {
	s.Helper()
	mine := *d
	mine.Path = s.path(name)
	s.must(testdisk.Copy(d.Path, mine.Path))
	return &mine
}
