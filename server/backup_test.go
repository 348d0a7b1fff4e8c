package server

import (
	"bytes"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/server/api"
)

const mib = 1 << 20

func TestFullAndIncremental(t *testing.T) {
	w := start(t)
	content := random(1, 3*mib)
	copy(content[mib:], make([]byte, mib)) // a hole
	full := w.backup("vm1", "vda", content)
	if im := full.Images[0]; im.Mode != "full" || im.Parent != "" || im.WrittenBytes != 3*mib || im.NewBytes != 2*mib || len(im.Root) != 64 {
		t.Errorf("full: %+v", im)
	}

	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: 4 * mib}) // grown
	if d := b.Disks[0]; d.Mode != "incremental" || d.Parent != full.Point || !strings.HasPrefix(d.URI, "nbd://127.0.0.1:") ||
		!strings.HasSuffix(d.UnixURI, "/data/nbd.sock") || !strings.Contains(d.UnixURI, d.Export) {
		t.Errorf("incremental: %+v", d)
	}
	want := append(bytes.Clone(content), make([]byte, mib)...)
	if got := w.read(b.Disks[0].Export); !bytes.Equal(got, want) {
		t.Error("the incremental's export does not show the parent")
	}
	c := w.write(b.Disks[0].Export)
	change := random(2, 1000)
	if _, err := c.WriteAt(change, 5000); err != nil {
		t.Fatal(err)
	}
	c.Close()
	copy(want[5000:], change)
	inc := w.commit(b.Session)

	for name, content := range map[string][]byte{
		"vm1/vda@" + full.Point: content, "vm1:vda@" + inc.Point: want, "vm1/vda": want, "vm1/vda@latest~1": content,
	} {
		if !bytes.Equal(w.read(name), content) {
			t.Errorf("export %s differs", name)
		}
	}
	points, err := w.client.Points(t.Context(), "vm1")
	if err != nil || len(points) != 2 || points[1].Images[0].Parent != full.Point {
		t.Errorf("points %+v, %v", points, err)
	}
}

func TestDisksAndBlobsTogether(t *testing.T) {
	w := start(t)
	b, err := w.client.StartBackup(t.Context(), api.BackupRequest{
		VM: "vm1", Disks: []api.DiskRequest{{Disk: "vdb", Size: mib}, {Disk: "vda", Size: 2 * mib}}, Checkpoint: "cp1",
		Labels: map[string]string{"job": "nightly"}, Blobs: []api.Blob{{Name: "domain.xml", Data: []byte("<domain/>")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := w.commit(b.Session)
	if len(r.Images) != 2 || r.Images[0].Disk != "vda" || r.Images[0].Checkpoint != "cp1" {
		t.Errorf("receipt %+v", r)
	}
	p, err := w.client.Point(t.Context(), "vm1@latest")
	if err != nil || p.Labels["job"] != "nightly" || len(p.Blobs) != 1 || p.Blobs[0].Size != 9 {
		t.Errorf("point %+v, %v", p, err)
	}
	if data, err := w.client.Blob(t.Context(), p.Point, "domain.xml"); err != nil || string(data) != "<domain/>" {
		t.Errorf("blob %q, %v", data, err)
	}
	_, err = w.client.Blob(t.Context(), p.Point, "nvram")
	wantRefusal(t, err, http.StatusNotFound, "nvram")
}

// A commit disconnects who still writes, refuses the token from then on, and
// gives the same receipt again.
func TestCommitFencesClients(t *testing.T) {
	w := start(t)
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	token := b.Disks[0].Export
	c := w.write(token)
	if _, err := c.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	first := w.commit(b.Session)
	if _, err := c.WriteAt([]byte("y"), 0); err == nil {
		t.Error("a write after the commit was answered")
	}
	if _, err := w.dial(token); !errors.Is(err, nbdclient.ErrRefused) {
		t.Errorf("the committed session's export: %v", err)
	}
	if again := w.commit(b.Session); !reflect.DeepEqual(first, again) {
		t.Errorf("receipts differ:\n%+v\n%+v", first, again)
	}
	_, err := w.client.Abort(t.Context(), b.Session)
	wantRefusal(t, err, http.StatusGone, first.Point)
	st, err := w.client.Backup(t.Context(), b.Session)
	if err != nil || st.State != "committed" || st.Point != first.Point || st.Disks[0].Export != "" || st.Disks[0].URI != "" {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestAbort(t *testing.T) {
	w := start(t)
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	c := w.write(b.Disks[0].Export)
	for range 2 {
		if st, err := w.client.Abort(t.Context(), b.Session); err != nil || st.State != "aborted" {
			t.Fatal(st, err)
		}
	}
	if err := c.Flush(); err == nil {
		t.Error("a flush after the abort was answered")
	}
	_, err := w.client.Commit(t.Context(), b.Session)
	wantRefusal(t, err, http.StatusGone, "aborted")
	if points, err := w.client.Points(t.Context(), ""); err != nil || len(points) != 0 {
		t.Errorf("points %v, %v", points, err)
	}
	if _, err := nbdio.Dial(t.Context(), "unix", w.info.NBD.Socket, b.Disks[0].Export); !errors.Is(err, nbdio.ErrRefused) {
		t.Errorf("the aborted session's export: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	w := start(t)
	b, err := w.client.StartBackup(t.Context(), api.BackupRequest{VM: "vm1", Disks: []api.DiskRequest{{Disk: "vda", Size: mib}}, TTLSeconds: 60})
	if err != nil {
		t.Fatal(err)
	}
	c := w.write(b.Disks[0].Export)
	w.expire(b.Expires)
	if err := c.Flush(); err != nil {
		t.Errorf("at its last moment the backup is gone: %v", err)
	}
	w.expire(b.Expires.Add(time.Second))
	if err := c.Flush(); err == nil {
		t.Error("an expired session goes on")
	}
	st, err := w.client.Backup(t.Context(), b.Session)
	if err != nil || st.State != "expired" {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, err := w.dial(b.Disks[0].Export); !errors.Is(err, nbdclient.ErrRefused) {
		t.Errorf("the expired session's export: %v", err)
	}
}

func TestBadBackups(t *testing.T) {
	w := start(t)
	r := w.backup("vm1", "vda", random(3, mib))
	disk := []api.DiskRequest{{Disk: "vda", Size: mib}}
	for _, x := range []struct {
		name   string
		q      api.BackupRequest
		status int
		word   string
	}{
		{"no name", api.BackupRequest{Disks: disk}, 400, "VM name"},
		{"bad name", api.BackupRequest{VM: "../x", Disks: disk}, 400, "VM name"},
		{"no disk", api.BackupRequest{VM: "vm1"}, 400, "disks"},
		{"size 0", api.BackupRequest{VM: "vm1", Disks: []api.DiskRequest{{Disk: "vda"}}}, 400, "vda"},
		{"disk twice", api.BackupRequest{VM: "vm1", Disks: append(disk, disk...)}, 400, "twice"},
		{"mode", api.BackupRequest{VM: "vm1", Disks: disk, Mode: "partial"}, 400, "partial"},
		{"long ttl", api.BackupRequest{VM: "vm1", Disks: disk, TTLSeconds: 1 << 40}, 400, "backup.max-ttl"},
		{"negative ttl", api.BackupRequest{VM: "vm1", Disks: disk, TTLSeconds: -1}, 400, "ttl_seconds"},
		{"wrong parent", api.BackupRequest{VM: "vm1", Disks: disk, Parent: "0123456789abcdef"}, 409, r.Point},
		{"wrong checkpoint", api.BackupRequest{VM: "vm1", Disks: disk, ParentCheckpoint: "cp9"}, 409, r.Point},
		{"nothing to increment", api.BackupRequest{VM: "vm2", Disks: disk, Mode: "incremental"}, 409, "vda"},
		{"shrunk", api.BackupRequest{VM: "vm1", Disks: []api.DiskRequest{{Disk: "vda", Size: 1}}, Mode: "incremental"}, 409, "shrank"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := w.client.StartBackup(t.Context(), x.q)
			wantRefusal(t, err, x.status, x.word)
		})
	}
	if l, err := w.client.Backups(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("sessions %+v, %v", l, err)
	}
	for _, f := range []func(string) error{
		func(s string) error { _, err := w.client.Backup(t.Context(), s); return err },
		func(s string) error { _, err := w.client.Commit(t.Context(), s); return err },
		func(s string) error { _, err := w.client.Abort(t.Context(), s); return err },
	} {
		wantRefusal(t, f("nosuch"), 404, "nosuch")
		wantRefusal(t, f("../../etc"), 404, "etc")
	}
}

func TestPoints(t *testing.T) {
	w := start(t)
	a := w.backup("vm1", "vda", random(4, mib))
	b := w.backup("vm1", "vda", random(5, mib))
	w.backup("vm2", "sda", random(4, mib)) // the same data
	vms, err := w.client.VMs(t.Context())
	if err != nil || len(vms) != 2 || vms[0].VM != "vm1" || vms[0].Points != 2 || vms[0].Latest != b.Point || vms[1].Disks[0].Disk != "sda" {
		t.Errorf("VMs %+v, %v", vms, err)
	}
	for ref, want := range map[string]string{"vm1": b.Point, "vm1@latest~1": a.Point, "vm1/vda": b.Point, "vm1:vda@" + a.Point: a.Point, a.Point: a.Point} {
		if p, err := w.client.Point(t.Context(), ref); err != nil || p.Point != want {
			t.Errorf("%s is %+v, %v; want %s", ref, p, err, want)
		}
	}
	for ref, status := range map[string]int{"vm3": 404, "vm1/vdb": 404, "vm1@latest~2": 404, "vm1@nonsense!": 400, "": 404, "vm1@": 400} {
		_, err := w.client.Point(t.Context(), ref)
		wantRefusal(t, err, status, "")
	}
	_, err = w.client.Points(t.Context(), "vm3")
	wantRefusal(t, err, 404, "vm3")

	for _, ref := range []string{"vm1@latest", "vm1"} {
		_, err = w.client.RemovePoint(t.Context(), ref, true)
		wantRefusal(t, err, 400, ref)
	}
	inc := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	_, err = w.client.RemovePoint(t.Context(), b.Point, true)
	wantRefusal(t, err, 409, inc.Session)
	if _, err := w.client.Abort(t.Context(), inc.Session); err != nil {
		t.Error(err)
	}
	if r, err := w.client.RemovePoint(t.Context(), a.Point, true); err != nil || r.VM != "vm1" {
		t.Errorf("remove: %+v, %v", r, err)
	}
	_, err = w.client.RemovePoint(t.Context(), a.Point, true)
	wantRefusal(t, err, 404, a.Point)
	if !bytes.Equal(w.read("vm1/vda"), random(5, mib)) {
		t.Error("removing a point changed another")
	}
	s, err := w.client.Stats(t.Context())
	if err != nil || s.VMs != 2 || s.Points != 2 || s.LogicalBytes != 2*mib || s.Packs == 0 || s.StoredBytes < 2*mib || s.FreeBytes <= 0 || s.Sessions["committed"] != 3 || s.NewBytes != 2*mib {
		t.Errorf("stats %+v, %v", s, err)
	}
}
