package restore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

// loop makes a block device of size bytes, full of something.
func loop(t *testing.T, size int64, fill byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(file, bytes.Repeat([]byte{fill}, int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v\n%s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v\n%s", dev, err, out)
		}
	})
	return dev
}

func TestDevice(t *testing.T) {
	path, content := makeDisk(t)
	target := serve(t, "file", path)
	const more = 1 << 20
	dev := loop(t, diskSize+more, 0xee)
	d := Disk{Target: target, Size: diskSize, Output: dev, Format: Raw, Verify: true}
	if _, err := d.Run(t.Context()); !errors.Is(err, ErrUsed) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a device that is used: %v", err)
	}
	d.Force = true
	r, err := d.Run(t.Context())
	if err != nil || !equalHash(r.Hash, reference(content)) {
		t.Fatal("restore: ", err)
	}
	got, err := os.ReadFile(dev)
	if err != nil || !bytes.Equal(got[:diskSize], content) {
		t.Errorf("the device differs: %v", err)
	}
	if !bytes.Equal(got[diskSize:], bytes.Repeat([]byte{0xee}, more)) {
		t.Error("what is behind the disk was changed")
	}

	d.Format = QCOW2
	if _, err := d.Run(t.Context()); err == nil {
		t.Error("a qcow2 file on a device")
	}
	d.Format, d.Size = Raw, diskSize+more+512
	if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "make it larger") {
		t.Errorf("a disk larger than the device: %v", err)
	}
}

// Where the kernel does not zero, zeros are written.
func TestDeviceWithoutHoles(t *testing.T) {
	dev := loop(t, 4<<20, 0xee)
	d, err := openDevice(dev, 4<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	d.noHole = true
	if err := errors.Join(d.begin(), d.Zero(512<<10, 3<<20+512), d.complete(), d.Finish()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dev)
	if err != nil || len(bytes.Trim(got[:3584<<10+512], "\x00")) > 0 || got[3584<<10+512] != 0xee {
		t.Errorf("not zeroed: %v", err)
	}
}

// TestDeviceInterrupted leaves nothing that looks like a disk.
func TestDeviceInterrupted(t *testing.T) {
	path, _ := makeDisk(t)
	dev := loop(t, diskSize, 0xee)
	ctx, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	d := Disk{Target: serve(t, "file", path), Size: diskSize, Output: dev, Format: Raw, Force: true}
	d.Events.Progress = func(int64) { stop(enough) }
	if _, err := d.Run(ctx); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	if err := CheckDevice(dev, diskSize, false); err != nil {
		t.Errorf("the device seems to be used: %v", err)
	}
}

func TestDeviceMounted(t *testing.T) {
	dev := loop(t, 4<<20, 0)
	dir := t.TempDir()
	for _, args := range [][]string{{"mke2fs", "-q", "-F", dev}, {"mount", dev, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	d := Disk{Target: nbdclient.Target{}, Size: 4 << 20, Output: dev, Format: Raw, Force: true}
	if _, err := d.Run(t.Context()); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("a mounted device: %v", err)
	}
}

// TestFull restores to a file system without room.
func TestFull(t *testing.T) {
	path, _ := makeDisk(t)
	target := serve(t, "file", path)
	dir := t.TempDir()
	if err := syscall.Mount("restore-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	for _, format := range []Format{Raw, QCOW2} {
		d := Disk{Target: target, Size: diskSize, Output: filepath.Join(dir, "out"), Format: format}
		if _, err := d.Run(t.Context()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), d.Output) {
			t.Errorf("%s: %v", format, err)
		}
	}
	a := Archive{Disks: []ArchiveDisk{{"vda", target, diskSize}}, Output: filepath.Join(dir, "out")}
	if _, err := a.Run(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("archive: %v", err)
	}
	c := Chain{Layers: []Layer{{"p", target, diskSize}}, Dir: filepath.Join(dir, "chain")}
	if _, err := c.Run(t.Context()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "chain/00-p.qcow2") {
		t.Errorf("chain: %v", err)
	}
	onlyNames(t, dir)
}
