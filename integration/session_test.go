package integration

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/server/api"
)

// open connects the plain client to a disk of a backup.
func (s *scene) open(b api.Backup, disk int) *nbdio.Client {
	s.Helper()
	c, err := s.tryOpen(b, disk)
	s.must(err)
	s.Cleanup(c.Drop)
	return c
}

func (s *scene) tryOpen(b api.Backup, disk int) (*nbdio.Client, error) {
	return nbdio.Dial(s.ctx, "unix", s.srv.NBDSocket(), b.Disks[disk].Export)
}

// TestWrongParentIsRefused: an orchestrator that believes in another parent or
// checkpoint is told what there is.
func TestWrongParentIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "raw")
	guests := []*guest{g}
	_, err := s.tryStart("vm", guests, "--mode", "incremental")
	s.refused(err, "vm")
	first := s.full("vm", "c1", g)
	second := s.full("vm", "c2", g)
	_, err = s.tryStart("vm", guests, "--mode", "incremental", "--parent", first.Point)
	s.refused(err, second.Point)
	_, err = s.tryStart("vm", guests, "--mode", "incremental", "--parent-checkpoint", "c1")
	s.refused(err, "c2")
	b := s.start("vm", guests, "--mode", "incremental", "--parent", second.Point, "--parent-checkpoint", "c2")
	if d := b.Disks[0]; d.Mode != "incremental" || d.Parent != second.Point {
		t.Errorf("with the right parent: %+v", d)
	}
}

// TestBackupExpires: a backup whose time has passed is aborted and its export
// refused.
func TestBackupExpires(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", "vda=16MiB", "--ttl", "1s")
	s.must(err)
	c := s.open(b, 0)
	_, err = c.WriteAt(make([]byte, 4096), 0)
	s.must(err)
	for {
		st, err := s.srv.Status(s.ctx, b.Session)
		s.must(err)
		if st.State == "expired" {
			break
		}
		if st.State != "open" {
			t.Fatalf("state %q", st.State)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := s.tryOpen(b, 0); !errors.Is(err, nbdio.ErrRefused) {
		t.Errorf("the export of an expired backup: %v", err)
	}
	if _, err := c.WriteAt(make([]byte, 4096), 0); err == nil {
		t.Error("an expired backup took a write")
	}
	_, err = s.srv.Commit(s.ctx, b.Session)
	s.refused(err)
}

// TestBlobsAndLabels: what describes the VM is part of the point.
func TestBlobsAndLabels(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	xml := []byte("<domain type='kvm'><name>vm</name></domain>\n")
	s.must(os.WriteFile(s.path("vm.xml"), xml, 0o600))
	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", "vda=1MiB", "--blob", "domain.xml="+s.path("vm.xml"), "--label", "site=b2")
	s.must(err)
	r := s.commit(b)
	var p api.Point
	s.must(s.srv.JSON(s.ctx, &p, "point", "show", "vm@"+r.Point))
	if p.Labels["site"] != "b2" || len(p.Blobs) != 1 || p.Blobs[0].Size != int64(len(xml)) {
		t.Errorf("point: %+v", p)
	}
	client, err := api.NewClient(s.srv.APISocket(), api.ClientOptions{})
	s.must(err)
	defer client.Close()
	if got, err := client.Blob(s.ctx, r.Point, "domain.xml"); err != nil || !bytes.Equal(got, xml) {
		t.Errorf("blob: %q, %v", got, err)
	}
}

// TestRemovedPoint: a removed point is gone, the ones after it are whole.
func TestRemovedPoint(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "raw")
	first := s.full("vm", "b0", g)
	g.edit(1, 20)
	second := s.full("vm", "b1", g)
	_, err := s.srv.Run(s.ctx, "point", "rm", "vm@"+first.Point)
	s.must(err)
	if n := s.points("vm"); n != 1 {
		t.Errorf("%d points", n)
	}
	_, err = nbdio.Dial(s.ctx, "unix", s.srv.NBDSocket(), "vm/vda@"+first.Point)
	if !errors.Is(err, nbdio.ErrRefused) {
		t.Errorf("the export of a removed point: %v", err)
	}
	s.same("vm", "vda", second.Point, g.model.Path)
}

// TestCleanRestart: SIGTERM while a client is connected, then the same session
// goes on in a new process. Un-flushed writes are kept by the drain.
func TestCleanRestart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	b, err := s.srv.StartBackup(s.ctx, "vm", "--disk", "vda=16MiB")
	s.must(err)
	c := s.open(b, 0)
	data := bytes.Repeat([]byte("before the restart "), 5000)
	_, err = c.WriteAt(data, 12345)
	s.must(err, s.srv.Stop(s.ctx), s.srv.Start(s.ctx))
	c = s.open(b, 0)
	got := make([]byte, len(data))
	if _, err := c.ReadAt(got, 12345); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("after the restart: %v", err)
	}
	s.must(c.Close())
	s.commit(b)
}

// TestRestartsDuringABackup restarts the server in good order while a job runs:
// an upgrade costs a running backup nothing.
func TestRestartsDuringABackup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := newGuest(s, "vda", "raw")
	b := s.start("vm", []*guest{g})
	s.connect(b)
	slow := qsd.Backup{Job: job("vda"), Device: "vda", Target: target("vda"), Sync: "full", Speed: 16 << 20}
	s.must(s.qsd.Transaction(s.ctx, slow.Action()))
	for _, copied := range []int64{4 << 20, 16 << 20} {
		s.must(s.qsd.Progressed(s.ctx, job("vda"), copied), s.srv.Stop(s.ctx), s.srv.Start(s.ctx))
	}
	s.must(s.qsd.SetSpeed(s.ctx, job("vda"), 0), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	s.same("vm", "vda", s.commit(b).Point, g.model.Path)
}

// TestSecondServerIsRefused: one data directory, one server.
func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	out, err := s.try(binary, "serve", "--data", s.srv.Data, "--nbd-listen", "none")
	if err == nil || ctx.Err() != nil {
		t.Fatalf("a second server ran: %s", out)
	}
	if _, err := s.srv.Stats(s.ctx); err != nil {
		t.Errorf("the first server after it: %v", err)
	}
}
