package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/sshfs"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// TestCommitWhileWriting: a file that somebody writes is not committed, and he is
// not disturbed; one whose connection broke is not either. Closed, they are.
func TestCommitWhileWriting(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	ctx, cut := context.WithCancel(s.ctx)
	m, err := d.client.Mount(ctx, s.path("cut"), sshfs.Recommended...)
	s.must(err)
	want := noise(3, 6<<20)
	f, err := os.Create(filepath.Join(m.Dir, "vda.raw"))
	s.must(err)
	refused := func(why string) {
		t.Helper()
		r, err := s.srv.Commit(s.ctx, d.Session)
		if err == nil || !strings.Contains(err.Error(), "vda.raw") || !strings.Contains(err.Error(), why) {
			t.Fatalf("commit: %+v, %v; want %q", r, err, why)
		}
	}
	_, err = f.Write(want[:2<<20])
	s.must(err)
	refused("still open for writing")
	_, err = f.Write(want[2<<20 : 4<<20])
	s.must(err)
	s.must(f.Sync())
	cut() // as a hypervisor goes
	<-m.Exited()
	f.Close()
	s.must(m.Unmount())
	refused("ended before the file was closed")
	st, err := s.srv.Status(s.ctx, d.Session)
	if s.must(err); len(st.Files) != 1 || st.Files[0].Unfinished == "" {
		t.Errorf("the status does not tell why: %+v", st.Files)
	}
	f, err = os.OpenFile(filepath.Join(d.mount(), "vda.raw"), os.O_WRONLY|os.O_APPEND, 0)
	s.must(err)
	_, err = f.Write(want[4<<20:])
	s.must(err, f.Close())
	r := d.commit("vda")
	s.sameFile(filepath.Join(s.restores("vm"), r.Point, "vda.raw"), want)
}

// TestClosedThenKilled kills the server right after programs have closed what
// they wrote, without an fsync: whatever is missing then is not committed.
func TestClosedThenKilled(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	want := noise(4, 5<<20)
	whole := 0
	for i := range 6 {
		d := s.drop(fmt.Sprint("vm", i))
		s.must(os.WriteFile(filepath.Join(d.mount(), "vda.raw"), want, 0o600))
		if i%2 == 1 { // the CLOSE comes a moment after close has returned
			time.Sleep(200 * time.Millisecond)
		}
		s.srv.Kill()
		s.must(s.srv.Start(s.ctx))
		r, err := s.srv.Commit(s.ctx, d.Session)
		if err != nil {
			if !strings.Contains(err.Error(), "vda.raw") || !strings.Contains(err.Error(), "send it again") && !strings.Contains(err.Error(), "0 bytes") {
				t.Errorf("commit: %v", err)
			}
			continue
		}
		whole++
		s.sameFile(filepath.Join(s.restores(fmt.Sprint("vm", i)), r.Point, "vda.raw"), want)
	}
	t.Logf("%d of 6 uploads were whole", whole)
}

// TestFilePointsLive takes points that came as files through what happens to
// points: verification, the loss of both databases, deletion and collection.
func TestFilePointsLive(t *testing.T) {
	t.Parallel()
	s := newFileScene(t, "gc.grace=0s", "gc.dead-ratio=0.02")
	g := newGuest(s, "vda", "qcow2")
	note := noise(9, 300_000)
	d := s.drop("vm")
	dir := d.mount()
	g.fullToFile(filepath.Join(dir, "vda.qcow2"), "qcow2", "b0")
	s.put(filepath.Join(dir, "note.bin"), note)
	first, before := d.commit("vda"), g.snapshot("0")
	g.use(1)
	d = s.drop("vm", "--mode", "incremental")
	g.dirtyToFile(filepath.Join(d.mount(), "vda.qcow2"), "", "b0")
	second := d.commit("vda")

	check := func(when string) {
		t.Helper()
		at := filepath.Join(s.restores("vm"), first.Point)
		s.sameFile(filepath.Join(at, "files", "note.bin"), note)
		s.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", filepath.Join(at, "files", "vda.qcow2"), before)
		s.must(testdisk.Equal(before, filepath.Join(at, "vda.raw")))
		s.restored("vm", "vda", second.Point, g.model.Path)
		_, err := s.srv.Run(s.ctx, "verify", "--all")
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("as committed")
	_, err := s.srv.Run(s.ctx, "compress", "--wait")
	s.must(err)
	check("compressed")
	s.must(s.stop(), os.RemoveAll(s.path("store/catalog")), os.RemoveAll(s.path("store/index")), s.srv.Start(s.ctx))
	check("rebuilt")

	_, err = s.srv.Run(s.ctx, "point", "rm", "--now", first.Point)
	s.must(err)
	s.collected()
	s.restored("vm", "vda", second.Point, g.model.Path)
	for _, b := range s.openBackups() {
		_, err := s.srv.Abort(s.ctx, b)
		s.must(err)
	}
	_, err = s.srv.Run(s.ctx, "point", "rm", "--now", second.Point)
	s.must(err)
	s.collected()
	st, err := s.srv.Stats(s.ctx)
	s.must(err)
	if st.StoredBytes > 1<<20 {
		t.Errorf("%d bytes are stored for no points", st.StoredBytes)
	}
}

func (s *scene) openBackups() (sessions []string) {
	s.Helper()
	var all []struct{ Session, State string }
	s.must(s.srv.JSON(s.ctx, &all, "backup", "status"))
	for _, b := range all {
		if b.State == "open" {
			sessions = append(sessions, b.Session)
		}
	}
	return sessions
}

// collected runs garbage collections until one has found nothing to do after a
// deletion: the first may have begun before it.
func (s *scene) collected() {
	s.Helper()
	for range 2 {
		for done := false; !done; {
			var err error
			done, err = gc(s)
			s.must(err)
		}
	}
}

// TestRestoreOutlivesDeletion reads a file of a point that is deleted meanwhile,
// and whose space is collected.
func TestRestoreOutlivesDeletion(t *testing.T) {
	t.Parallel()
	s := newFileScene(t, "gc.grace=0s", "gc.dead-ratio=0.02")
	r := s.full("vm", "b0", newGuest(s, "vda", "raw"))
	s.full("vm", "b1", newGuestOf(s, "vdb", "raw", s.copyOf(base, "other")))
	dir := filepath.Join(s.restores("vm"), r.Point)
	f, err := os.Open(filepath.Join(dir, "vda.raw"))
	s.must(err)
	defer f.Close()
	want, err := os.ReadFile(base.Path)
	s.must(err)
	half := make([]byte, len(want)/2)
	_, err = io.ReadFull(f, half)
	s.must(err)
	_, err = s.srv.Run(s.ctx, "point", "rm", "--now", r.Point)
	s.must(err)
	s.collected()
	rest, err := io.ReadAll(f)
	if got := append(half, rest...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a deleted point's file that was open: %d bytes, not the %d there were; %v", len(got), len(want), err)
	}
	s.absent(filepath.Join(dir, "vda.qcow2"))
}

// TestFileFullDisk fills the store through a mount: the writer gets an error, df
// has said so, what was committed can be read, and after a deletion there is
// room again.
func TestFileFullDisk(t *testing.T) {
	s := &scene{T: t, ctx: t.Context()}
	var err error
	s.dir, err = os.MkdirTemp("", "sr-")
	s.must(err)
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	reserve := s.smallStore()
	s.srv, err = rig.StartServer(s.ctx, rig.Options{Binary: binary, Data: s.path("small/store"),
		Settings: []string{fmt.Sprintf("store.reserve=%d", reserve), "gc.grace=0s", "sftp.listen=127.0.0.1:0"}})
	s.must(err)
	t.Cleanup(func() { s.must(s.stop()) })

	d := s.drop("vm")
	kept := noise(1, 60<<20)
	s.put(filepath.Join(d.mount(), "kept.bin"), kept)
	first := d.commit()
	d = s.drop("vm")
	dir := d.mount()
	room := s.avail(dir)
	f, err := os.Create(filepath.Join(dir, "big.bin"))
	s.must(err)
	written := int64(0)
	for chunk := uint64(0); err == nil && written < 2*room; chunk++ {
		if _, err = f.Write(noise(1000+chunk, 1<<20)); err == nil {
			err = f.Sync()
		}
		if err == nil {
			written += 1 << 20
		}
	}
	f.Close()
	// Version 3 of SFTP has no code for a full disk; sshfs makes EPERM of "failure".
	if err == nil {
		t.Errorf("writing %d bytes where df said there is room for %d: %v", written, room, err)
	}
	t.Logf("df: %d MiB; %d MiB could be written, then %v; df: %d MiB", room>>20, written>>20, err, s.avail(dir)>>20)
	if written < room-room/8 || written > room+room/8 {
		t.Errorf("df said that %d bytes are free, %d could be written", room, written)
	}
	s.sameFile(filepath.Join(dir, "restore", "vm", first.Point, "files", "kept.bin"), kept)
	d.abort()
	s.collected()
	d = s.drop("vm")
	again := noise(2, 60<<20)
	s.put(filepath.Join(d.mount(), "again.bin"), again)
	d.keptAs("again.bin", again)
}

// avail is what df says is free below a folder, in bytes.
func (s *scene) avail(dir string) int64 {
	s.Helper()
	var df unix.Statfs_t
	s.must(unix.Statfs(dir, &df))
	return int64(df.Bavail) * df.Frsize
}

// TestManyFiles makes more files than a listing answers at once.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	const count = 150
	s := newFileScene(t)
	d := s.drop("vm")
	c := d.sftpClient()
	s.must(c.Mkdir("many"))
	for i := range count {
		f, err := c.Create(fmt.Sprintf("many/%04d", i))
		s.must(err)
		_, err = f.Write(fmt.Appendf(nil, "%d", i))
		s.must(err, f.Close())
	}
	if list, err := c.ReadDir("many"); err != nil || len(list) != count {
		t.Errorf("%d of %d files are listed; %v", len(list), count, err)
	}
	r := d.commit()
	if len(r.Files) != count {
		t.Errorf("the receipt has %d of %d files", len(r.Files), count)
	}
	dir := filepath.Join(s.restores("vm"), r.Point, "files", "many")
	if names := s.names(dir); len(names) != count {
		t.Errorf("the point has %d of %d files", len(names), count)
	}
	s.sameFile(filepath.Join(dir, "0123"), []byte("123"))
}

// TestReconnectTellsTheTruth kills the server under a mount that reconnects: a
// file that was open fails, it does not go on with a hole in it.
func TestReconnectTellsTheTruth(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	dir := d.mount(append(sshfs.Recommended, "reconnect", "ServerAliveInterval=1")...)
	path := filepath.Join(dir, "file.bin")
	f, err := os.Create(path)
	s.must(err)
	data := noise(1, 8<<20)
	_, err = f.Write(data[:4<<20])
	s.must(err)
	s.srv.Kill()
	s.must(s.srv.Start(s.ctx))
	_, err = f.WriteAt(data[4<<20:], 4<<20)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		t.Error("a file outlived the server that had it open")
	}
	// The mount comes back, and the file can be sent again.
	for err = os.ErrClosed; err != nil; {
		s.must(s.ctx.Err())
		if err = os.WriteFile(path, data, 0o600); err != nil {
			time.Sleep(20 * time.Millisecond)
		}
	}
	s.sameFile(path, data)
	d.keptAs("file.bin", data)
}

// TestUploadsBesideCollections uploads, commits and deletes while garbage is
// collected and packs are compressed without a pause: the blocks an image takes
// over from a file are nobody's but the file's until the commit.
func TestUploadsBesideCollections(t *testing.T) {
	t.Parallel()
	s := newFileScene(t, "gc.grace=0s", "gc.dead-ratio=0.02")
	var stop atomic.Bool
	var g errgroup.Group
	for _, command := range [][]string{{"gc", "--wait"}, {"compress", "--wait"}} {
		g.Go(func() error {
			for !stop.Load() {
				_, err := s.srv.Run(s.ctx, command...)
				if e := new(rig.CLIError); err != nil && (!errors.As(err, &e) || !strings.Contains(e.Stderr, "running")) {
					return err
				}
			}
			return nil
		})
	}
	var lanes sync.WaitGroup
	for i := range 2 {
		lanes.Go(func() { s.uploadAndDelete(fmt.Sprint("vm", i), 4) })
	}
	lanes.Wait()
	stop.Store(true)
	s.must(g.Wait())
	_, err := s.srv.Run(s.ctx, "verify", "--all")
	s.must(err)
}

// uploadAndDelete makes points of a disk that changes, as qcow2 and as raw in
// turn, and keeps the latest two. It runs in a goroutine of its own and stops at
// the first thing that is wrong.
func (s *scene) uploadAndDelete(vm string, rounds int) {
	disk := *base
	disk.Path = s.path(vm + ".model")
	var points []string
	err := testdisk.Copy(base.Path, disk.Path)
	for round := 0; round < rounds && err == nil; round++ {
		var point string
		if point, err = s.uploadEdited(vm, &disk, round); err == nil && len(points) > 1 {
			_, err = s.srv.Run(s.ctx, "point", "rm", "--now", points[len(points)-2])
		}
		points = append(points, point)
	}
	if err != nil {
		s.Errorf("%s: %v", vm, err)
	}
}

// uploadEdited changes a disk, makes a point of it through a mount of its own,
// and compares.
func (s *scene) uploadEdited(vm string, disk *testdisk.Disk, round int) (point string, err error) {
	if _, err := disk.Edit(round, 7); err != nil {
		return "", err
	}
	d, err := s.tryDrop(vm)
	if err != nil {
		return "", err
	}
	m, err := d.client.Mount(s.ctx, s.path(fmt.Sprint("mnt-", vm, round)), sshfs.Recommended...)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Unmount()) }()
	format := []string{"qcow2", "raw"}[round%2]
	if _, err := s.try("qemu-img", "convert", "-f", "raw", "-O", format, disk.Path, filepath.Join(m.Dir, "vda."+format)); err != nil {
		return "", err
	}
	r, err := s.srv.Commit(s.ctx, d.Session)
	if err != nil {
		return "", err
	}
	_, err = s.try("qemu-img", "compare", "-f", "raw", "-F", "raw", s.srv.UnixURI(vm+"/vda@"+r.Point), disk.Path)
	return r.Point, err
}
