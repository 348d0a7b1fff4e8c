package inplace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// server is a program that serves NBD.
type server struct {
	*exec.Cmd
	exited chan struct{}
}

// serve starts a server and waits until it listens.
func serve(t *testing.T, socket string, args ...string) *server {
	t.Helper()
	s := &server{Cmd: exec.Command(args[0], args[1:]...), exited: make(chan struct{})}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.Wait(); close(s.exited) }()
	t.Cleanup(s.stop)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err != nil {
			continue
		}
		// qemu-nbd listens before it has opened the image, and greets after.
		c.SetReadDeadline(end)
		_, err = io.ReadFull(c, make([]byte, 8))
		c.Close()
		if err == nil {
			return s
		}
	}
	t.Fatalf("%s did not start", args[0])
	return nil
}

// stop ends a server as a user would, so that it writes its figures. qemu-nbd
// forgets a signal that comes while it starts.
func (s *server) stop() {
	for {
		s.Process.Signal(os.Interrupt)
		select {
		case <-s.exited:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// loop makes a block device of a file. Only root may.
func loop(t *testing.T, path string) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Fatalf("loop devices are for root, and needed: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	backing, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer backing.Close()
	for range 100 { // others may be faster
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		device, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			t.Fatalf("loop devices are needed: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_FD, int(backing.Fd()))
		device.Close()
		if err == unix.EBUSY {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			device, err := os.Open(name)
			if err == nil {
				err = unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0)
				device.Close()
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		return name
	}
	t.Fatal("no loop device is free")
	return ""
}

// sectorsWritten is the kernel's count for a block device, in bytes.
func sectorsWritten(t *testing.T, device string) int64 {
	t.Helper()
	text, err := os.ReadFile("/sys/block/" + filepath.Base(device) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(text))[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * 512
}

const kindsSize = 32 << 20

// changedBlocks is a disk, and the disk with one block in a hundred changed: some
// as a whole, some in a few bytes, some to zeros.
func changedBlocks(rng *rand.Rand) (have, want []byte) {
	want = newContent(rng, kindsSize)
	have = bytes.Clone(want)
	blocks := rng.Perm(kindsSize / block)[:kindsSize/block/100]
	// One of them is to become zeros.
	clear(want[blocks[0]*block:][:block])
	for i, b := range blocks {
		p := have[b*block:][:block]
		switch i % 3 {
		case 0:
			fill(rng, p)
		case 1:
			fill(rng, p[rng.IntN(block):])
		case 2:
			if isZero(p) {
				fill(rng, p)
			} else {
				clear(p)
			}
		}
	}
	return have, want
}

// The figure, counted at the target.
func mostWritten(t *testing.T, n int64) {
	t.Helper()
	t.Logf("%d bytes were written, %.2f %% of the disk", n, float64(n)*100/kindsSize)
	if n > kindsSize*12/1000 {
		t.Errorf("%d bytes were written: more than 1.2 %% of %d", n, kindsSize)
	}
}

func TestOnePercentOfFile(t *testing.T) {
	have, want := changedBlocks(rand.New(rand.NewPCG(seed(t), 30)))
	c := &counted{Target: open(t, writeFile(t, have))}
	mustRun(t, job(t, &point{content: want}, c))
	mustHold(t, c, want)
	mostWritten(t, c.written.Load()+c.zeroed.Load())
}

func TestOnePercentOfDevice(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	have, want := changedBlocks(rand.New(rand.NewPCG(seed(t), 31)))
	device := loop(t, writeFile(t, have))
	before := sectorsWritten(t, device)
	target := open(t, device)
	if other, err := Open(t.Context(), device); !errors.Is(err, ErrBusy) {
		other.Close()
		t.Errorf("opened twice: %v", err)
	}
	r := job(t, &point{content: want}, target)
	r.Verify = true
	if target.Kind() != Device || !strings.HasPrefix(r.Journal, os.Getenv("XDG_STATE_HOME")+"/strongroom/inplace-") {
		t.Errorf("%v with the journal %s", target.Kind(), r.Journal)
	}
	res := mustRun(t, r)
	mustHold(t, target, want)
	mostWritten(t, sectorsWritten(t, device)-before)
	if res.Zeroed == 0 {
		t.Error("nothing was zeroed")
	}
	r.Source, r.Resize = &point{content: want[:kindsSize-block]}, true
	if _, err := r.Run(t.Context()); !errors.Is(err, ErrSize) {
		t.Errorf("another size: %v", err)
	}
}

// nbdkit counts what a client writes.
func TestOnePercentOfNBD(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	have, want := changedBlocks(rand.New(rand.NewPCG(seed(t), 32)))
	path, dir := writeFile(t, have), t.TempDir()
	socket, stats := filepath.Join(dir, "s"), filepath.Join(dir, "stats")
	server := serve(t, socket, "nbdkit", "--foreground", "--unix", socket, "--filter=stats", "file", path, "statsfile="+stats)
	uri := "nbd+unix:///?socket=" + socket
	target := open(t, uri)
	r := job(t, &point{content: want}, target)
	mustRun(t, r)
	mustHold(t, target, want)
	target.Close()
	server.stop()
	text, err := os.ReadFile(stats)
	if err != nil {
		t.Fatal(err)
	}
	written := int64(0)
	for _, kind := range []string{"write", "zero", "trim"} {
		written += statBytes(t, string(text), kind)
	}
	mostWritten(t, written)
	if statBytes(t, string(text), "flush") < 0 {
		t.Errorf("no flush:\n%s", text)
	}
}

// statBytes reads nbdkit's figures: "write: 3 ops, 0.1 s, 1.50 MiB, …".
func statBytes(t *testing.T, text, kind string) int64 {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + kind + `: (\d+) ops,.*$`).FindString(text)
	m := regexp.MustCompile(`([\d.]+) (bytes|KiB|MiB|GiB)\b`).FindStringSubmatch(line)
	if m == nil {
		if kind == "flush" && line == "" {
			return -1
		}
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(n * float64(map[string]int64{"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[m[2]]))
}

// A restore into an NBD export is broken off by its server, and resumed.
func TestNBDBreaksOff(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	rng := rand.New(rand.NewPCG(seed(t), 33))
	p := &point{content: newContent(rng, 8<<20)}
	path := writeFile(t, newContent(rng, 8<<20))
	socket := filepath.Join(t.TempDir(), "s")
	qemu := []string{"qemu-nbd", "-t", "-f", "raw", "-e", "4", "-x", "disk", "-k", socket, path}
	server := serve(t, socket, qemu...)
	c := &counted{Target: open(t, "nbd+unix:///disk?socket="+socket), onWrite: func(n int64) {
		if n == 20 {
			server.Process.Kill()
		}
	}}
	r := job(t, p, c)
	_, err := r.Run(t.Context())
	var mixed *MixedError
	if !errors.As(err, &mixed) {
		t.Fatal(err)
	}
	<-server.exited
	os.Remove(socket)
	serve(t, socket, qemu...)
	target := open(t, "nbd+unix:///disk?socket="+socket)
	r = job(t, p, target)
	if res := mustRun(t, r); res.Found == nil {
		t.Error("the journal was not found")
	}
	mustHold(t, target, p.content)
}

func TestReadOnlyExport(t *testing.T) {
	path := writeFile(t, make([]byte, 1<<20))
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, socket, "qemu-nbd", "-t", "-r", "-f", "raw", "-k", socket, path)
	if _, err := Open(t.Context(), "nbd+unix:///?socket="+socket); !errors.Is(err, ErrTarget) {
		t.Error(err)
	}
}

// A file that a QEMU process has open is refused, and none can open it while it is
// being restored.
func TestKeepsClearOfQEMU(t *testing.T) {
	path := writeFile(t, make([]byte, 1<<20))
	for _, mode := range []string{"rw", "ro"} {
		socket := filepath.Join(t.TempDir(), "s")
		args := []string{"qemu-nbd", "-t", "-f", "raw", "-k", socket, path}
		if mode == "ro" {
			args = append(args, "-r")
		}
		server := serve(t, socket, args...)
		if target, err := Open(t.Context(), path); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "shut the VM down") {
			target.Close()
			t.Errorf("%s: %v", mode, err)
		}
		server.stop()
	}
	target := open(t, path)
	for _, args := range [][]string{{"qemu-io", "-f", "raw", "-c", "write 0 512", path}, {"qemu-io", "-r", "-f", "raw", "-c", "read 0 512", path}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(out), "lock") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	target.Close()
	if out, err := exec.Command("qemu-io", "-f", "raw", "-c", "write 0 512", path).CombinedOutput(); err != nil {
		t.Errorf("afterwards: %v: %s", err, out)
	}
}
