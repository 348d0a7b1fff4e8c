package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/server/api"
)

// restartHost ends the server as a host that goes down does, and starts it as
// on the next boot: session files then name a boot that is not this one. What
// the page cache held is still there in this test, but the server cannot know
// that and must not trust it.
func (s *scene) restartHost() {
	s.Helper()
	s.srv.Kill()
	files, err := filepath.Glob(filepath.Join(s.srv.Data, "sessions", "*", "session.json"))
	s.must(err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		s.must(err)
		var session map[string]any
		s.must(json.Unmarshal(text, &session))
		if session["boot_id"] == nil {
			s.Fatalf("%s names no boot: %s", f, text)
		}
		session["boot_id"] = "00000000-0000-4000-8000-000000000000"
		delete(session, "crc32c")
		text, err = json.Marshal(session)
		s.must(err)
		sum := crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) // of all but itself, see docs/FORMAT.md
		text = fmt.Appendf(text[:len(text)-1], `,"crc32c":"%08x"}`, sum)
		s.must(os.WriteFile(f, text, 0o600))
	}
	s.must(s.srv.Start(s.ctx))
}

// TestHostRestartWithUnflushedWrites: a session that may have lost what it had
// acknowledged is dead; a flushed one goes on.
func TestHostRestartWithUnflushedWrites(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	start := func(vm string) (api.Backup, *nbdio.Client) {
		b, err := s.srv.StartBackup(s.ctx, vm, "--disk", "vda=16MiB")
		s.must(err)
		return b, s.open(b, 0)
	}
	data := bytes.Repeat([]byte("acknowledged"), 9999)
	lost, c := start("lost")
	_, err := c.WriteAt(data, 4096)
	s.must(err)
	kept, c := start("kept")
	_, err = c.WriteAt(data, 4096)
	s.must(err, c.Flush())
	s.restartHost()

	if _, err := s.tryOpen(lost, 0); !errors.Is(err, nbdio.ErrRefused) {
		t.Errorf("the export of a session with un-flushed writes: %v", err)
	}
	st, err := s.srv.Status(s.ctx, lost.Session)
	if s.must(err); st.State != "dead" || st.Reason == "" {
		t.Errorf("the session with un-flushed writes: %+v", st)
	}
	_, err = s.srv.Commit(s.ctx, lost.Session)
	s.refused(err)
	if n := s.points("lost"); n != 0 {
		t.Errorf("%d points of a dead session", n)
	}

	c = s.open(kept, 0)
	got := make([]byte, len(data))
	if _, err := c.ReadAt(got, 4096); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the flushed session: %v", err)
	}
	s.commit(kept)
}

// TestHostRestartFailsTheJob is the same with QEMU: its job must fail although
// it reconnects, and the next backup must be right.
func TestHostRestartFailsTheJob(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "qcow2")
	b := s.start("vm", []*guest{g})
	s.must(s.qsd.AddTarget(s.ctx, qsd.Target{
		Node: target("vda"), Unix: s.srv.NBDSocket(), Export: b.Disks[0].Export, ReconnectDelay: 3,
	}))
	slow := qsd.Backup{Job: job("vda"), Device: "vda", Target: target("vda"), Sync: "full", Speed: 16 << 20}
	s.must(s.qsd.Transaction(s.ctx, qsd.AddBitmap("vda", "b0", true), slow.Action()),
		s.qsd.Progressed(s.ctx, job("vda"), 8<<20))
	s.restartHost()
	var failed *qsd.JobError
	if err := s.qsd.Wait(s.ctx, job("vda")); !errors.As(err, &failed) {
		t.Fatalf("the job ended with %v", err)
	}
	s.must(s.qsd.RemoveNode(s.ctx, target("vda")), s.qsd.Transaction(s.ctx, qsd.RemoveBitmap("vda", "b0")))
	if n := s.points("vm"); n != 0 {
		t.Errorf("%d points of a failed job", n)
	}
	s.full("vm", "b0", g)
	s.same("vm", "vda", "latest", g.model.Path)
}
