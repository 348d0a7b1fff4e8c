package qsd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
)

const diskSize = 16 << 20

// world is a daemon with a qcow2 disk "d0" and an nbdkit to back it up to.
type world struct {
	*Daemon
	ctx    context.Context
	guest  *nbdio.Client
	target string // socket
}

func newWorld(t *testing.T, nbdkit ...string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	d, err := Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{Daemon: d, ctx: ctx, target: filepath.Join(dir, "target.sock")}
	serve(t, append([]string{"--unix", w.target}, nbdkit...))
	disk := filepath.Join(dir, "d0.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, fmt.Sprint(diskSize)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.must(t, d.AddDisk(ctx, "d0", disk, "qcow2"))
	w.guest, err = nbdio.Dial(ctx, "unix", d.Socket, "d0")
	w.must(t, err)
	t.Cleanup(w.guest.Drop)
	return w
}

func serve(t *testing.T, args []string) {
	cmd := exec.Command("nbdkit", append([]string{"--foreground", "--exit-with-parent"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 1000 {
		if _, err := os.Stat(args[1]); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nbdkit did not start")
}

func (w *world) must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (w *world) write(t *testing.T, off int64, n int) {
	t.Helper()
	_, err := w.guest.WriteAt([]byte(strings.Repeat("x", n)), off)
	w.must(t, err)
}

func (w *world) dirty(t *testing.T, name string) int64 {
	t.Helper()
	all, err := w.Bitmaps(w.ctx, "d0")
	w.must(t, err)
	b, ok := all[name]
	if !ok {
		t.Fatalf("no bitmap %s in %v", name, all)
	}
	return b.Dirty
}

func TestFullThenIncremental(t *testing.T) {
	w := newWorld(t, "memory", fmt.Sprint(diskSize))
	w.write(t, 0, 3<<20)
	w.must(t,
		w.AddTarget(w.ctx, Target{Node: "tgt", Unix: w.target}),
		w.Transaction(w.ctx, AddBitmap("d0", "b", true), Backup{Job: "full", Device: "d0", Target: "tgt", Sync: "full"}.Action()),
		w.Wait(w.ctx, "full"))
	w.write(t, 8<<20, 4096)
	if got := w.dirty(t, "b"); got != Granularity {
		t.Fatalf("dirty bytes: %d", got)
	}
	w.must(t,
		w.Transaction(w.ctx, Backup{Job: "inc", Device: "d0", Target: "tgt", Sync: "incremental", Bitmap: "b"}.Action()),
		w.Wait(w.ctx, "inc"),
		w.RemoveNode(w.ctx, "tgt"))
	if got := w.dirty(t, "b"); got != 0 {
		t.Fatalf("dirty bytes after the incremental: %d", got)
	}
	out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "raw", w.DiskURI("d0"), "nbd+unix:///?socket="+w.target).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestCancelledAndFailedJobs(t *testing.T) {
	trigger := filepath.Join(t.TempDir(), "fail")
	w := newWorld(t, "--filter=error", "memory", fmt.Sprint(diskSize), "error-pwrite=EIO", "error-pwrite-rate=100%", "error-file="+trigger)
	w.write(t, 0, 4<<20)
	w.must(t,
		w.AddTarget(w.ctx, Target{Node: "tgt", Unix: w.target}),
		w.Transaction(w.ctx, AddBitmap("d0", "b", true), Backup{Job: "slow", Device: "d0", Target: "tgt", Sync: "full", Speed: 1 << 20}.Action()),
		w.Progressed(w.ctx, "slow", 1<<20),
		w.Cancel(w.ctx, "slow"))
	var failed *JobError
	if err := w.Wait(w.ctx, "slow"); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	w.must(t, os.WriteFile(trigger, nil, 0o600))
	w.must(t, w.Transaction(w.ctx, Backup{Job: "bad", Device: "d0", Target: "tgt", Sync: "full"}.Action()))
	if err := w.Wait(w.ctx, "bad"); !errors.As(err, &failed) || !strings.Contains(failed.Reason, "Input/output error") {
		t.Fatalf("job against a failing target: %v", err)
	}
}

func TestRotationAndResize(t *testing.T) {
	w := newWorld(t, "memory", fmt.Sprint(diskSize))
	w.must(t,
		w.Transaction(w.ctx, AddBitmap("d0", "e1", true)),
		w.AddTarget(w.ctx, Target{Node: "tgt", Unix: w.target}))
	w.write(t, 0, 2<<20)
	w.must(t,
		w.Transaction(w.ctx, AddBitmap("d0", "e2", true), DisableBitmap("d0", "e1"),
			Backup{Job: "rotate", Device: "d0", Target: "tgt", Sync: "bitmap", Bitmap: "e1", BitmapMode: "never"}.Action()),
		w.Wait(w.ctx, "rotate"))
	w.write(t, 4<<20, 4096)
	w.must(t, w.Transaction(w.ctx, MergeBitmap("d0", "e1", "e2"), EnableBitmap("d0", "e1"), RemoveBitmap("d0", "e2")))
	if got := w.dirty(t, "e1"); got != 2<<20+Granularity {
		t.Fatalf("dirty bytes after the epochs were merged: %d", got)
	}
	w.must(t, w.RemoveNode(w.ctx, "tgt"), w.ResizeDisk(w.ctx, "d0", 2*diskSize))
	grown, err := nbdio.Dial(w.ctx, "unix", w.Socket, "d0")
	w.must(t, err)
	defer grown.Drop()
	if got := w.dirty(t, "e1"); grown.Size() != 2*diskSize || got < 2<<20+Granularity {
		t.Fatalf("grown to %d, dirty %d", grown.Size(), got)
	}
}

func TestStartFails(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := Start(ctx, filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Fatalf("started without a directory: %v", err)
	}
}
