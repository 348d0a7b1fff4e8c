package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/server/api"
)

const (
	smallDisk    = 320 << 20 // the store's file system
	smallReserve = 48 << 20
)

// TestFullDisk fills the store's disk with backups until it takes no more. Then
// clients get ENOSPC and nothing else, what is stored can be read, a backup
// that has all its data can be committed, points can be deleted and their space
// comes back, and backups go on.
func TestFullDisk(t *testing.T) {
	s := &scene{T: t, ctx: t.Context()}
	var err error
	s.dir, err = os.MkdirTemp("", "sr-")
	s.must(err)
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	reserve := s.smallStore()
	s.srv, err = rig.StartServer(s.ctx, rig.Options{Binary: binary, Data: s.path("small/store"),
		Settings: []string{fmt.Sprintf("store.reserve=%d", reserve), "gc.grace=0s"}})
	s.must(err)
	t.Cleanup(func() { s.must(s.stop()) })

	old := s.writer("old", 1)
	s.must(old.write(96))
	first := old.commit()
	waiting := s.writer("waiting", 2)
	s.must(waiting.write(8))
	late := s.writer("late", 3)
	if err := late.write(1 << 20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("writing to a full store: %v, want ENOSPC", err)
	}
	t.Logf("full after %d MiB more; %d MiB are free", late.written, freeMiB(s))

	second := waiting.commit() // it has all its data
	old.check(first)
	waiting.check(second)
	if _, err := s.srv.Run(s.ctx, "point", "rm", "--now", first.Point); err != nil {
		t.Fatalf("deleting on a full disk: %v", err)
	}
	_, err = s.srv.Abort(s.ctx, late.session)
	s.must(err)
	for done := false; !done; {
		done, err = gc(s)
		s.must(err)
	}
	t.Logf("%d MiB are free after the delete and a collection", freeMiB(s))
	if free := freeMiB(s) - int64(reserve>>20); free < 96 {
		t.Errorf("%d MiB above the reserve are free, want the 96 of the deleted point at least", free)
	}
	again := s.writer("again", 4)
	s.must(again.write(96))
	again.check(again.commit())
	waiting.check(second)
}

// smallStore makes a small file system for the store and returns what is to be
// held back on it. Where nothing may be mounted, as in a container, all but a
// part of the disk there is is held back.
func (s *scene) smallStore() (reserve uint64) {
	s.Helper()
	dir := s.path("small")
	s.must(os.Mkdir(dir, 0o700))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk)); err != nil {
		s.Logf("no mount here (%v): most of the disk is held back instead", err)
		return uint64(freeMiB(s))<<20 - smallDisk + smallReserve
	}
	s.Cleanup(func() { s.must(exec.Command("umount", dir).Run()) })
	return smallReserve
}

// freeMiB is what is free on the store's file system.
func freeMiB(s *scene) int64 {
	s.Helper()
	var fs unix.Statfs_t
	s.must(unix.Statfs(s.path("small"), &fs))
	return int64(fs.Bavail) * fs.Bsize >> 20
}

// writer is a client that writes data nobody has, MiB by MiB, as one disk.
type writer struct {
	s       *scene
	vm      string
	session string
	seed    uint64
	disk    *nbdio.Client
	written int // MiB
}

func (s *scene) writer(vm string, seed uint64) *writer {
	s.Helper()
	b, err := s.srv.StartBackup(s.ctx, vm, "--disk", "vda=1GiB", "--mode", "full")
	s.must(err)
	w := &writer{s: s, vm: vm, session: b.Session, seed: seed}
	w.disk, err = nbdio.Dial(s.ctx, "unix", s.srv.NBDSocket(), b.Disks[0].Export)
	s.must(err)
	s.Cleanup(w.disk.Drop)
	return w
}

// content is the n-th MiB.
func (w *writer) content(n int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(w.seed), byte(n), byte(n >> 8)})
	p := make([]byte, 1<<20)
	_, _ = rng.Read(p)
	return p
}

// write writes up to n MiB, as many as the disk has, and flushes.
func (w *writer) write(n int) error {
	for range min(n, 1024) {
		if _, err := w.disk.WriteAt(w.content(w.written), int64(w.written)<<20); err != nil {
			return err
		}
		w.written++
	}
	return w.disk.Flush()
}

func (w *writer) commit() api.Receipt {
	w.s.Helper()
	r, err := w.s.srv.Commit(w.s.ctx, w.session)
	w.s.must(err)
	return r
}

// check reads a point back.
func (w *writer) check(r api.Receipt) {
	w.s.Helper()
	c, err := nbdio.Dial(w.s.ctx, "unix", w.s.srv.NBDSocket(), w.vm+"/vda@"+r.Point)
	w.s.must(err)
	defer c.Close()
	for n := range w.written {
		w.s.must(same(c, w.content(n), int64(n)<<20))
	}
}
