package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/sshfs"
	"github.com/strongroom-backup/strongroom/server/api"
)

// newFileScene is a scene whose server takes files over SFTP. It listens on the
// same port again after a restart.
func newFileScene(t *testing.T, settings ...string) *scene {
	t.Helper()
	return newScene(t, append(settings, "sftp.listen="+freeAddress(t))...)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// drop is an open backup that takes files, with its login.
type drop struct {
	api.Backup
	SFTP sshfs.Login `json:"sftp"`

	s      *scene
	client *sshfs.Client
	mounts int
}

// drop opens a backup of vm that takes files.
func (s *scene) drop(vm string, flags ...string) *drop {
	s.Helper()
	d, err := s.tryDrop(vm, flags...)
	s.must(err)
	return d
}

// tryDrop is drop for goroutines of a test's own.
func (s *scene) tryDrop(vm string, flags ...string) (*drop, error) {
	d := &drop{s: s}
	err := s.srv.JSON(s.ctx, d, append([]string{"backup", "start", vm, "--sftp"}, flags...)...)
	if err != nil {
		return nil, err
	}
	d.client, err = sshfs.NewClient(s.path("login-"+d.Session), d.SFTP)
	return d, err
}

// mount mounts the drop as a backup job would and returns the folder.
func (d *drop) mount(options ...string) string {
	d.s.Helper()
	if options == nil {
		options = sshfs.Recommended
	}
	m := d.mountWith(options...)
	return m.Dir
}

func (d *drop) mountWith(options ...string) *sshfs.Mount {
	d.s.Helper()
	d.mounts++
	m, err := d.client.Mount(d.s.ctx, d.s.path(fmt.Sprintf("mnt-%s-%d", d.Session, d.mounts)), options...)
	d.s.must(err)
	d.s.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			d.s.Error(err)
		}
	})
	return m
}

// commit publishes what was dropped and returns the receipt, which has an image
// of each of the disks.
func (d *drop) commit(disks ...string) api.Receipt {
	d.s.Helper()
	r, err := d.s.srv.Commit(d.s.ctx, d.Session)
	d.s.must(err)
	if r.Point == "" || len(r.Images) != len(disks) {
		d.s.Fatalf("want images of %v: %+v", disks, r)
	}
	for _, disk := range disks {
		image(d.s, r, disk)
	}
	return r
}

// abort gives the drop up.
func (d *drop) abort() {
	d.s.Helper()
	_, err := d.s.srv.Abort(d.s.ctx, d.Session)
	d.s.must(err)
}

// restores mounts the points of a VM and returns the folder that has one folder
// for each. The job it takes for that is never committed.
func (s *scene) restores(vm string, options ...string) string {
	s.Helper()
	return filepath.Join(s.drop(vm).mount(options...), "restore", vm)
}

// names lists a folder.
func (s *scene) names(dir string) (list []string) {
	s.Helper()
	entries, err := os.ReadDir(dir)
	s.must(err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// put writes a whole file through a mount.
func (s *scene) put(path string, data []byte) {
	s.Helper()
	s.must(os.WriteFile(path, data, 0o600))
}

// putSynced is put for what must outlive the server's death: close(2) returns
// before sshfs has sent CLOSE.
func (s *scene) putSynced(path string, data []byte) {
	s.Helper()
	f, err := os.Create(path)
	s.must(err)
	_, err = f.Write(data)
	s.must(err, f.Sync(), f.Close())
}

// closed waits until the server has closed what programs have.
func (s *scene) closed() {
	s.Helper()
	for {
		var list []api.SFTPConnection
		s.must(s.srv.JSON(s.ctx, &list, "sftp", "connections"))
		open := 0
		for _, c := range list {
			open += c.Handles
		}
		if open == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// absent checks that a name is not there.
func (s *scene) absent(path string) {
	s.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("%s is there (%v)", path, err)
	}
}
