package restore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const diskSize = 24<<20 + 512

// makeDisk makes a raw disk with data in some places.
func makeDisk(t *testing.T) (path string, content []byte) {
	content = make([]byte, diskSize)
	rng := rand.NewChaCha8([32]byte{4})
	path = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 5<<20 + 4096, 20 << 20} {
		rng.Read(content[at:][:3<<20])
		f.WriteAt(content[at:][:3<<20], at)
	}
	if err := f.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// serve runs nbdkit and waits until it answers.
func serve(t *testing.T, args ...string) nbdclient.Target {
	t.Helper()
	target := nbdclient.Target{Network: "unix", Address: filepath.Join(t.TempDir(), "s"), Export: "x"}
	cmd := exec.Command("nbdkit", append([]string{"--foreground", "--exit-with-parent", "-r", "-U", target.Address}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", target.Address)
		if err == nil {
			c.Close()
			return target
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestRestore(t *testing.T) {
	path, content := makeDisk(t)
	target := serve(t, "file", path)
	dir := t.TempDir()
	for _, format := range []Format{Raw, QCOW2} {
		var begun, progress atomic.Int64
		d := Disk{
			Target: target, Size: diskSize, Output: filepath.Join(dir, string(format)), Format: format,
			Events: Events{Begin: func(_ string, n int64) { begun.Store(n) }, Progress: func(n int64) { progress.Add(n) }},
		}
		r, err := d.Run(t.Context())
		if err != nil {
			t.Fatal(format, err)
		}
		data := r.Data
		if !equalHash(r.Hash, reference(content)) {
			t.Errorf("%s: the content hash is wrong", format)
		}
		if data < 9<<20 || data > 10<<20 || begun.Load() != data || progress.Load() != data {
			t.Errorf("%s: %d bytes of data read, %d begun, %d progress", format, data, begun.Load(), progress.Load())
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "raw"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the raw file differs: %v", err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, "raw"), &st); err != nil || st.Blocks*512 > 10<<20 {
		t.Errorf("the raw file takes %d bytes: not sparse", st.Blocks*512)
	}
	for _, args := range [][]string{
		{"check", "-f", "qcow2", filepath.Join(dir, "qcow2")},
		{"compare", "-f", "raw", "-F", "qcow2", path, filepath.Join(dir, "qcow2")},
	} {
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %v\n%s", args, err, out)
		}
	}
	onlyNames(t, dir, "qcow2", "raw")
}

// onlyNames checks that nothing else is in a directory.
func onlyNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if len(got) != len(want) {
		t.Errorf("directory holds %v, want %v", got, want)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	path, _ := makeDisk(t)
	good := serve(t, "file", path)
	damaged := serve(t, "--filter=error", "file", path, "error-pread=EIO", "error-pread-rate=90%")
	stopped, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	for _, x := range []struct {
		name   string
		ctx    context.Context
		change func(*Disk)
		check  func(error) bool
	}{
		{"damage", t.Context(), func(d *Disk) { d.Target = damaged }, func(err error) bool {
			var e *DamageError
			return errors.As(err, &e)
		}},
		{"wrong size", t.Context(), func(d *Disk) { d.Size-- }, func(err error) bool { return err != nil }},
		{"no server", t.Context(), func(d *Disk) { d.Target.Address += "x" }, func(err error) bool { return err != nil }},
		{"stopped", stopped, func(d *Disk) { d.Events.Begin = func(string, int64) { stop(enough) } }, func(err error) bool { return errors.Is(err, enough) }},
		{"directory", t.Context(), func(d *Disk) { d.Output = filepath.Dir(d.Output) }, func(err error) bool { return err != nil }},
		{"no directory", t.Context(), func(d *Disk) { d.Output += "/x" }, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			d := Disk{Target: good, Size: diskSize, Output: filepath.Join(dir, "out"), Format: Raw}
			x.change(&d)
			if _, err := d.Run(x.ctx); !x.check(err) {
				t.Errorf("error %v", err)
			}
			onlyNames(t, dir)
		})
	}
}

func TestExistingOutput(t *testing.T) {
	dir := t.TempDir()
	full, empty := filepath.Join(dir, "full"), filepath.Join(dir, "empty")
	os.WriteFile(full, []byte("old"), 0o600)
	os.WriteFile(empty, nil, 0o600)
	if err := WriteFile(full, []byte("new"), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwrite: %v", err)
	}
	if err := errors.Join(WriteFile(full, []byte("new"), true), WriteFile(empty, []byte("new"), false)); err != nil {
		t.Error(err)
	}
	for _, path := range []string{full, empty} {
		if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
	}
	if err := CheckOutput("/dev/null", true); err == nil {
		t.Error("a device is accepted")
	}
	onlyNames(t, dir, "full", "empty")
}
