package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strongroom-backup/strongroom/integration/rig"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

const (
	vm   = "web1"
	disk = "vda"
)

// demo is one run. Each point has a copy of the disk as it was.
type demo struct {
	options
	work   string
	model  *testdisk.Disk
	srv    *rig.Server
	qsd    *qsd.Daemon
	guest  *nbdio.Client
	points []point
	rows   []row
}

type point struct{ id, was string }

func newDemo(o options) (*demo, error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	o.binary = binary
	var fs unix.Statfs_t
	if err := unix.Statfs(o.dir, &fs); err != nil {
		return nil, fmt.Errorf("%s: %w", o.dir, err)
	}
	if free, want := int64(fs.Bavail)*fs.Bsize, 5*o.content+1<<30; free < want {
		return nil, fmt.Errorf("%s has %s free, the demo wants %s: name another directory with -dir (make demo DEMO_DIR=…)",
			o.dir, units.Human(free), units.Human(want))
	}
	work, err := os.MkdirTemp(o.dir, "sr-demo-")
	return &demo{options: o, work: work}, err
}

func (d *demo) path(name string) string { return filepath.Join(d.work, name) }

func (d *demo) close() error {
	var errs []error
	if d.qsd != nil {
		errs = append(errs, d.qsd.Close())
	}
	if d.srv != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, d.srv.Stop(ctx))
	}
	if d.keep {
		say("kept in %s", d.work)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(d.work))...)
}

// makeDisk fills an ext4 with files of this machine.
func (d *demo) makeDisk(ctx context.Context) (err error) {
	defer step("make an ext4 disk of this machine's files")(&err)
	size := (d.content + d.content/4 + 256<<20) &^ (1<<20 - 1)
	d.model, err = testdisk.NewExt4(d.path("disk.raw"), size, d.content, roots()...)
	if errors.Is(err, testdisk.ErrTooFewFiles) {
		note("this machine has less; unpacking some Debian packages as well")
		if err := tool(ctx, ".ci/files", d.path("unpacked")); err != nil {
			return err
		}
		d.model, err = testdisk.NewExt4(d.path("disk.raw"), size, d.content, append(roots(), d.path("unpacked"))...)
	}
	if err == nil {
		note("%d files, %s, on a disk of %s", len(d.model.Files), units.Human(d.model.Bytes), units.Human(d.model.Size))
	}
	return err
}

// roots are the directories that files are taken from: on a bare system /usr
// alone may not hold enough.
func roots() []string {
	dirs := []string{"/usr", "/var/lib", "/opt"}
	for _, name := range []string{"GOMODCACHE", "GOCACHE"} {
		out, err := exec.Command("go", "env", name).Output()
		if dir := filepath.Clean(string(bytes.TrimSpace(out))); err == nil && filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// serve starts the server, with no configuration but where its data lies.
func (d *demo) serve(ctx context.Context) (err error) {
	defer step("start strongroom serve")(&err)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d.srv, err = rig.StartServer(ctx, rig.Options{Binary: d.binary, Data: d.path("store")})
	return err
}

// attach makes a qcow2 of the disk, because qcow2 keeps dirty bitmaps, and opens
// it in qemu-storage-daemon. The demo then writes to it as a guest would.
func (d *demo) attach(ctx context.Context) (err error) {
	defer step("open it in qemu-storage-daemon")(&err)
	if err := tool(ctx, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", d.model.Path, d.path("disk.qcow2")); err != nil {
		return err
	}
	if d.qsd, err = qsd.Start(ctx, d.work); err != nil {
		return err
	}
	if err := d.qsd.AddDisk(ctx, disk, d.path("disk.qcow2"), "qcow2"); err != nil {
		return err
	}
	d.guest, err = nbdio.Dial(ctx, "unix", d.qsd.Socket, disk)
	return err
}

// full copies the disk and starts a dirty bitmap at the same instant.
func (d *demo) full(ctx context.Context) (err error) {
	defer step("full backup over NBD, with a dirty bitmap from the same instant")(&err)
	return d.backup(ctx, "full", "--mode", "full", "--checkpoint", "epoch1")(
		qsd.AddBitmap(disk, "epoch1", true),
		qsd.Backup{Job: "full", Device: disk, Target: "target", Sync: "full"}.Action())
}

// change edits files on the disk.
func (d *demo) change(context.Context) (err error) {
	defer step("change files on the disk")(&err)
	before := d.points[0].was
	changed, err := d.model.Edit(1, 60)
	if err != nil {
		return err
	}
	var written int64
	err = testdisk.Diff(before, d.model.Path, func(off int64, data []byte) error {
		written += int64(len(data))
		_, err := d.guest.WriteAt(data, off)
		return err
	})
	note("%d files rewritten, %s of the disk changed", changed, units.Human(written))
	return errors.Join(err, d.guest.Flush(), testdisk.Check(d.model.Path))
}

// incremental copies what the bitmap marks, while a new one begins.
func (d *demo) incremental(ctx context.Context) (err error) {
	defer step("incremental backup of what the bitmap marks")(&err)
	err = d.backup(ctx, "incremental", "--mode", "incremental", "--parent-checkpoint", "epoch1", "--checkpoint", "epoch2")(
		qsd.AddBitmap(disk, "epoch2", true),
		qsd.DisableBitmap(disk, "epoch1"),
		qsd.Backup{Job: "incremental", Device: disk, Target: "target", Sync: "bitmap", Bitmap: "epoch1", BitmapMode: "never"}.Action())
	if err != nil {
		return err
	}
	return d.qsd.Transaction(ctx, qsd.RemoveBitmap(disk, "epoch1"))
}

// backup returns a function that runs a session around a transaction: start,
// copy, commit. The job has the session's name.
func (d *demo) backup(ctx context.Context, job string, flags ...string) func(...qsd.Action) error {
	return func(actions ...qsd.Action) error {
		was := d.path(job + ".was")
		if err := testdisk.Copy(d.model.Path, was); err != nil {
			return err
		}
		began := time.Now()
		b, err := d.srv.StartBackup(ctx, vm, append(flags, "--disk", fmt.Sprintf("%s=%d", disk, d.model.Size))...)
		if err != nil {
			return err
		}
		err = d.qsd.AddTarget(ctx, qsd.Target{
			Node: "target", Unix: d.srv.NBDSocket(), Export: b.Disks[0].Export, ReconnectDelay: 30,
		})
		if err != nil {
			return err
		}
		if err := d.qsd.Transaction(ctx, actions...); err != nil {
			return err
		}
		if err := errors.Join(d.qsd.Wait(ctx, job), d.qsd.RemoveNode(ctx, "target")); err != nil {
			return err
		}
		r, err := d.srv.Commit(ctx, b.Session)
		if err != nil {
			return err
		}
		d.committed(job, was, r, time.Since(began))
		return nil
	}
}

func (d *demo) committed(job, was string, r api.Receipt, took time.Duration) {
	i := r.Images[0]
	d.points = append(d.points, point{r.Point, was})
	d.rows = append(d.rows, row{"backup, " + job, i.WrittenBytes, i.NewBytes, i.StoredBytes, took})
	note("point %s: %s sent, %s zeroed, %s new, %s stored", r.Point,
		units.Human(i.WrittenBytes), units.Human(i.ZeroedBytes), units.Human(i.NewBytes), units.Human(i.StoredBytes))
}
