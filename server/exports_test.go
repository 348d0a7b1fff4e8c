package server

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func TestListShowsImagesOnly(t *testing.T) {
	w := start(t)
	a := w.backup("vm1", "vda", random(1, mib))
	b := w.backup("vm2", "vda", random(2, mib))
	open := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	list, err := w.exports.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
		if !i.ReadOnly || strings.Contains(i.Description, open.Disks[0].Export) {
			t.Errorf("listed: %+v", i)
		}
	}
	if want := []string{"vm2/vda@" + b.Point, "vm1/vda@" + a.Point}; !slices.Equal(names, want) {
		t.Errorf("listed %v, want %v", names, want)
	}
}

// Every spelling of an image names the same export.
func TestExportNames(t *testing.T) {
	w := start(t)
	r := w.backup("vm1", "vda", random(1, mib))
	canonical := "vm1/vda@" + r.Point
	for _, name := range []string{canonical, "vm1:vda@" + r.Point, "vm1/vda@latest", "vm1/vda", "vm1:vda@latest~0", "vm1/vda@" + r.Time.Format("2006-01-02T15:04:05Z07:00")} {
		info, size, err := w.exports.Stat(t.Context(), name)
		if err != nil || info.Name != canonical || size != mib || !info.ReadOnly {
			t.Errorf("%s: %+v, %d, %v", name, info, size, err)
		}
	}
	for _, name := range []string{"", "x", "vm1", "vm1@latest", "/", ":", "vm1/", "vm1/vda@", "vm1/vdb", "vm2/vda", "vm1/vda@latest~1", "../vm1/vda",
		"vm1/vda/x", r.Point, strings.Repeat("a", 26), strings.Repeat("/", 4096), "vm1/vda@\x00"} {
		if _, err := w.dial(name); !errors.Is(err, nbdclient.ErrRefused) {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

func TestImagesAreReadOnly(t *testing.T) {
	w := start(t)
	w.backup("vm1", "vda", random(1, mib))
	c := w.write("vm1/vda")
	for what, err := range map[string]error{"write": second(c.WriteAt([]byte("x"), 0)), "zero": c.Zero(0, 512), "trim": c.Trim(0, 512)} {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s: %v, want EPERM", what, err)
		}
	}
	if !bytes.Equal(w.read("vm1/vda"), random(1, mib)) {
		t.Error("the image changed")
	}
}

func second[T any](_ T, err error) error { return err }

// fullDisk is a file system that says how much space it has.
type fullDisk struct {
	vfs.FS
	free *atomic.Uint64
}

func (f fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{TotalBytes: 1 << 40, AvailBytes: f.free.Load()}, nil
}

// On a full store writes get ENOSPC, new backups 507; reading, committing and
// removing go on.
func TestFullStore(t *testing.T) {
	free := new(atomic.Uint64)
	free.Store(1 << 40)
	w := start(t, func(o *Options) { o.FS = fullDisk{vfs.Default, free}; o.Config.Store.Reserve = units.GiB })
	old := w.backup("vm1", "vda", random(1, mib))
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: 256 * mib})
	c := w.write(b.Disks[0].Export)
	free.Store(1 << 30)
	var err error
	rng := rand.NewChaCha8([32]byte{9})
	fresh := make([]byte, 65536)
	eventually(t, "a write of new data fails", func() bool { // the store looks at its disk once a second
		rng.Read(fresh)
		_, err = c.WriteAt(fresh, mib)
		return err != nil
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v, want ENOSPC", err)
	}
	if l := w.log.String(); !strings.Contains(l, "disk vda of VM vm1") || strings.Contains(l, b.Disks[0].Export) {
		t.Errorf("the log names no VM and disk, or the token:\n%s", l)
	}
	_, err = w.client.StartBackup(t.Context(), api.BackupRequest{VM: "vm2", Disks: []api.DiskRequest{{Disk: "vda", Size: mib}}})
	wantRefusal(t, err, 507, "full")
	if err := errors.Join(c.Zero(0, mib), c.Flush()); err != nil {
		t.Errorf("zero and flush: %v", err)
	}
	w.commit(b.Session)
	if !bytes.Equal(w.read("vm1/vda@"+old.Point), random(1, mib)) {
		t.Error("the old point does not read")
	}
	if _, err := w.client.RemovePoint(t.Context(), old.Point, true); err != nil {
		t.Error(err)
	}
	if j := w.finish(w.client.GC(t.Context(), api.GCRequest{})); j.State != api.JobDone {
		t.Errorf("no collection on a full disk: %+v", j)
	}
	if h, err := w.client.Health(t.Context()); err != nil || !strings.Contains(strings.Join(h.Warnings, ""), "the store is full") {
		t.Errorf("health %+v, %v", h, err)
	}
}

// Damaged data is not served: the client gets EIO and a text, the log VM, disk
// and pack.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w := startOn(t, dir)
	w.backup("vm1", "vda", random(1, mib))
	w.shut()
	damaged := 0
	err := filepath.WalkDir(filepath.Join(dir, "tier0", "packs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".pack" {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		damaged++
		_, err = f.WriteAt([]byte{0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0}, 500_000)
		return err
	})
	if err != nil || damaged == 0 {
		t.Fatal(damaged, err)
	}
	w = startOn(t, dir)
	c, err := w.dial("vm1/vda")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.ReadAt(make([]byte, mib), 0)
	var e *nbdclient.ServerError
	if !errors.As(err, &e) || e.Errno != syscall.EIO || !strings.Contains(e.Text, "vda of VM vm1") {
		t.Errorf("read of damaged data: %v", err)
	}
	if l := w.log.String(); !strings.Contains(l, "damaged") || !strings.Contains(l, "disk vda of VM vm1") {
		t.Errorf("the log:\n%s", l)
	}
	if _, err := c.ReadAt(make([]byte, 65536), 0); err != nil {
		t.Errorf("what is whole is not read: %v", err)
	}
}

// While a session is committed or aborted its export refuses for now, not for
// ever.
func TestFence(t *testing.T) {
	w := start(t)
	b := w.open("vm1", api.DiskRequest{Disk: "vda", Size: mib})
	token := b.Disks[0].Export
	release, err := w.leave(b.Session, errCommitting)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.dial(token); !errors.Is(err, nbdclient.ErrRefused) {
		t.Errorf("fenced: %v", err)
	}
	release()
	if c, err := w.dial(token); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}
