package files

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/volume"
)

// TestUnfinished: a file whose writer went without closing it is not committed,
// after a restart either, until somebody has gone on and closed it.
func TestUnfinished(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	refused := func(why string) {
		t.Helper()
		_, err := w.s.Commit(t.Context(), session, CommitOptions{atOnce: true})
		if !errors.Is(err, volume.ErrUnfinished) || !strings.Contains(err.Error(), "vda.raw") || !strings.Contains(err.Error(), why) {
			t.Errorf("commit: %v, want %q", err, why)
		}
	}
	data := disk(seeded(t), 2<<20)
	f := w.open(tree, "/vda.raw", create)
	refused("still open for writing, on connection")
	half := data[:len(data)/2]
	if _, err := f.WriteAt(half, 0); err != nil {
		t.Fatal(err)
	}
	refused("still open for writing")
	if err := f.Abandon(); err != nil {
		t.Fatal(err)
	}
	refused("ended before the file was closed")
	for range 2 { // opening is not writing
		if err := w.open(tree, "/vda.raw", sftp.OpenFlags{Read: true, Write: true}).Close(); err != nil {
			t.Fatal(err)
		}
		refused("ended before the file was closed")
	}
	f = w.open(tree, "/vda.raw", sftp.OpenFlags{Write: true})
	if _, err := f.WriteAt(data[len(half):], int64(len(half))); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.commit(session); string(w.image(got.Point, "vda")) != string(data) {
		t.Error("the disk is not what was sent")
	}
}

// TestUnfinishedRestart: a server that is stopped in the middle of an upload has
// all it had taken, and the client can go on.
func TestUnfinishedRestart(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	data := disk(seeded(t), 2<<20)
	w.send(tree, "/closed", []byte("closed"))
	f := w.open(tree, "/vda.raw", create)
	f.WriteAt(data[:1<<20], 0)
	f.Abandon()
	w.stop()
	w.start()
	_, err := w.s.Commit(t.Context(), session, CommitOptions{})
	if !errors.Is(err, volume.ErrUnfinished) || strings.Contains(err.Error(), "file closed") {
		t.Fatalf("commit: %v", err)
	}
	f = w.open(w.tree(session, "c2"), "/vda.raw", sftp.OpenFlags{Write: true})
	f.WriteAt(data[1<<20:], 1<<20)
	f.Close()
	if got := w.commit(session); string(w.image(got.Point, "vda")) != string(data) {
		t.Error("the disk is not what was sent")
	}
}

// TestUnfinishedKill: the server was killed before CLOSE came. What was synced is
// there, what was gathered may not be: only a new upload makes the file whole.
func TestUnfinishedKill(t *testing.T) {
	crash := crashfs.New()
	w := &world{t: t, fs: crash, dir: "data", boot: "boot-1", clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.start()
	session, tree := w.job("vm")
	data := disk(seeded(t), 1<<20)
	f := w.open(tree, "/vda.raw", create)
	f.WriteAt(data, 0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	after := crash.Kill()
	w.stop()
	w.fs = after
	w.start()
	defer w.stop()
	tree = w.tree(session, "c2")
	if got := w.get(tree, "/vda.raw"); string(got) != string(data) {
		t.Error("what was synced is not there")
	}
	refused := func() {
		t.Helper()
		if _, err := w.s.Commit(t.Context(), session, CommitOptions{}); !errors.Is(err, volume.ErrUnfinished) {
			t.Fatalf("commit: %v", err)
		}
	}
	refused()
	f = w.open(tree, "/vda.raw", sftp.OpenFlags{Write: true})
	f.WriteAt(data, 1<<20)
	f.Close()
	refused()
	w.send(tree, "/vda.raw", data)
	w.commit(session)
}

// TestCommitWaits: a CLOSE that is under way is waited for.
func TestCommitWaits(t *testing.T) {
	w := newWorld(t)
	session, tree := w.job("vm")
	f := w.open(tree, "/vda.raw", create)
	f.WriteAt(make([]byte, 1<<20), 0)
	time.AfterFunc(50*time.Millisecond, func() { f.Close() })
	w.commit(session)
}
