package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"github.com/strongroom-backup/strongroom/server/api"
)

// sceneTimeout bounds a test, with the making of the disk; a quarter of it is
// enough on two cores.
const sceneTimeout = 12 * time.Minute

// scene is a server and the machines that use it.
type scene struct {
	*testing.T
	ctx  context.Context
	dir  string
	srv  *rig.Server
	from time.Time
}

// newScene starts a server. The directory's name is short, because unix sockets
// lie in it.
func newScene(t *testing.T) *scene {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sceneTimeout)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "sr-")
	s := &scene{T: t, ctx: ctx, dir: dir, from: time.Now()}
	s.must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := rig.Build(ctx, dir)
	s.must(err)
	s.srv, err = rig.StartServer(ctx, rig.Options{Binary: binary, Data: s.path("store")})
	s.must(err)
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.srv.Stop(end); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", s.srv.LogTail())
		}
	})
	return s
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

func (s *scene) must(errs ...error) {
	s.Helper()
	if err := errors.Join(errs...); err != nil {
		s.Fatal(err)
	}
}

// step says how far the test is, for whoever wonders where the time goes.
func (s *scene) step(format string, args ...any) {
	s.Helper()
	s.Logf("%5.1f s: "+format, append([]any{time.Since(s.from).Seconds()}, args...)...)
}

// tool runs a program that must exit 0 and returns its standard output.
func (s *scene) tool(name string, args ...string) string {
	s.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		s.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// same compares an export with a raw file, which a machine may have open.
func (s *scene) same(export, file string) {
	s.Helper()
	s.tool("qemu-img", "compare", "-U", "-f", "raw", "-F", "raw", s.srv.UnixURI(export), file)
}

// machine is one that a test drives.
type machine struct {
	*Machine
	s    *scene
	name string
}

// boot starts a machine; it is not waited for.
func (s *scene) boot(name string, disk Block) *machine {
	s.Helper()
	s.must(os.Mkdir(s.path(name), 0o700))
	m, err := Boot(s.ctx, s.path(name), disk)
	s.must(err)
	s.Cleanup(func() {
		m.Kill()
		if s.Failed() {
			s.Logf("what machine %s printed:\n%s", name, m.Output())
		}
	})
	return &machine{m, s, name}
}

// login waits for the prompt, which shows that the machine runs, and uses it.
func (m *machine) login() {
	m.s.Helper()
	if err := m.Login(m.s.ctx); err != nil {
		m.s.Fatalf("machine %s: %v", m.name, err)
	}
	m.s.step("machine %s runs, root has logged in", m.name)
}

// sh runs a command in the guest.
func (m *machine) sh(command string) string {
	m.s.Helper()
	out, err := m.Run(m.s.ctx, command)
	if err != nil {
		m.s.Fatalf("machine %s: %v", m.name, err)
	}
	return out
}

// A file in a guest holds the numbers from its first on, a line each, so that
// the test knows its hash without asking the guest.
const fileLines = 200_000

func writing(name string, first int) string {
	return fmt.Sprintf("seq %d %d > /root/%s && sync", first, first+fileLines, name)
}

func hashOf(first int) string {
	h := sha256.New()
	for i := first; i <= first+fileLines; i++ {
		fmt.Fprintln(h, i)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// has checks that a file is on the disk, not only in the guest's memory.
func (m *machine) has(name string, first int) {
	m.s.Helper()
	out := m.sh("sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum < /root/" + name)
	if got := strings.TrimSuffix(out, "  -"); got != hashOf(first) {
		m.s.Errorf("machine %s: /root/%s has the hash %q, want %s", m.name, name, got, hashOf(first))
	}
}

// hasNot checks that a file is not there.
func (m *machine) hasNot(name string) {
	m.s.Helper()
	m.sh("test ! -e /root/" + name)
}

const (
	vm     = "web"
	target = "to-vda"
	job    = "job-vda"
	bitmap = "b0"
)

// backup runs a backup of a machine's disk and returns the receipt's image.
func (m *machine) backup(size int64, mode string, actions ...qsd.Action) (string, api.Image) {
	s := m.s
	s.Helper()
	b, err := s.srv.StartBackup(s.ctx, vm, "--disk", fmt.Sprintf("vda=%d", size), "--mode", mode, "--checkpoint", bitmap)
	s.must(err)
	s.must(m.Blocks.AddTarget(s.ctx, qsd.Target{Node: target, Unix: s.srv.NBDSocket(), Export: b.Disks[0].Export, ReconnectDelay: 60}),
		m.Blocks.Transaction(s.ctx, actions...),
		m.Blocks.Wait(s.ctx, job),
		m.Blocks.RemoveNode(s.ctx, target))
	r, err := s.srv.Commit(s.ctx, b.Session)
	s.must(err)
	s.step("%s backup: %d MiB written, %d MiB stored", mode, r.Images[0].WrittenBytes>>20, r.Images[0].StoredBytes>>20)
	return r.Point, r.Images[0]
}

func copying(sync, bitmap string) qsd.Action {
	return qsd.Backup{Job: job, Device: "disk", Target: target, Sync: sync, Bitmap: bitmap}.Action()
}
