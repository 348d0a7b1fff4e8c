package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/inplace"
	"github.com/strongroom-backup/strongroom/internal/nbdio"
	"github.com/strongroom-backup/strongroom/internal/qsd"
	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server"
	"github.com/strongroom-backup/strongroom/server/api"
)

// inPlaceWorld is a server, and a QEMU block layer with a qcow2 disk d0.
type inPlaceWorld struct {
	t      *testing.T
	ctx    context.Context
	dir    string
	client *api.Client
	qemu   *qsd.Daemon
	rng    *rand.Rand
}

const inPlaceSize = 64 << 20

func newInPlaceWorld(t *testing.T) *inPlaceWorld {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "sr") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := server.NewConfig()
	c.Data, c.NBD.Listen, c.HTTP.Listen, c.Store.Reserve = filepath.Join(dir, "data"), "127.0.0.1:0", "127.0.0.1:0", units.MiB
	s, err := server.Open(server.Options{Config: c, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	life, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(life) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w := &inPlaceWorld{t: t, ctx: ctx, dir: dir, rng: rand.New(rand.NewPCG(1, 1))}
	w.client, err = api.NewClient(s.APISocket(), api.ClientOptions{})
	w.must(err)
	t.Cleanup(w.client.Close)
	w.qemu, err = qsd.Start(ctx, dir)
	w.must(err)
	t.Cleanup(func() { w.qemu.Close() })
	disk := filepath.Join(dir, "d0.qcow2")
	w.must(exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, fmt.Sprint(inPlaceSize)).Run())
	w.must(w.qemu.AddDisk(ctx, "d0", disk, "qcow2"))
	return w
}

func (w *inPlaceWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write is a guest at work: n writes of up to most bytes.
func (w *inPlaceWorld) write(n, most int) {
	w.t.Helper()
	guest, err := nbdio.Dial(w.ctx, "unix", w.qemu.Socket, "d0")
	w.must(err)
	defer guest.Close()
	for range n {
		off := w.rng.Int64N(inPlaceSize/4096-int64(most)/4096) * 4096
		p := make([]byte, 4096*(1+w.rng.IntN(most/4096)))
		if w.rng.IntN(4) == 0 {
			w.must(guest.Zero(off, int64(len(p))))
			continue
		}
		for i := range p {
			p[i] = byte(w.rng.Uint32())
		}
		_, err := guest.WriteAt(p, off)
		w.must(err)
	}
	w.must(guest.Flush())
}

// backup backs d0 up as a transaction of the job and what else begins with it.
func (w *inPlaceWorld) backup(job qsd.Backup, also ...qsd.Action) string {
	w.t.Helper()
	mode := "full"
	if job.Sync != "full" {
		mode = "incremental"
	}
	b, err := w.client.StartBackup(w.ctx, api.BackupRequest{VM: "web1", Mode: mode, Disks: []api.DiskRequest{{Disk: "vda", Size: inPlaceSize}}})
	w.must(err)
	w.must(w.qemu.AddTarget(w.ctx, qsd.Target{Node: "target", Unix: filepath.Join(w.dir, "data", "nbd.sock"), Export: b.Disks[0].Export}))
	job.Job, job.Device, job.Target = "backup", "d0", "target"
	w.must(w.qemu.Transaction(w.ctx, append(also, job.Action())...))
	w.must(w.qemu.Wait(w.ctx, "backup"))
	w.must(w.qemu.RemoveNode(w.ctx, "target"))
	r, err := w.client.Commit(w.ctx, b.Session)
	w.must(err)
	return r.Point
}

// restore runs the command and returns its answer.
func (w *inPlaceWorld) restore(ref string, flags ...string) (r inplace.Result) {
	w.t.Helper()
	args := append([]string{"strongroom", "restore", ref, "--json", "--data", filepath.Join(w.dir, "data")}, flags...)
	var stdout, stderr bytes.Buffer
	if code := run(w.ctx, args, nil, &stdout, &stderr); code != 0 {
		w.t.Fatalf("%v exited with %d:\n%s", args, code, &stderr)
	}
	w.must(json.Unmarshal(stdout.Bytes(), &r))
	return r
}

func (w *inPlaceWorld) same(export, point string) {
	w.t.Helper()
	image := fmt.Sprintf("nbd+unix:///web1:vda@%s?socket=%s", point, filepath.Join(w.dir, "data", "nbd.sock"))
	if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "raw", w.qemu.DiskURI(export), image).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
}

// The bitmap that QEMU keeps since the last backup, and the server's difference
// between that backup and another point, say together where to look.
func TestInPlaceByBitmap(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	w := newInPlaceWorld(t)
	w.write(400, 128<<10)
	first := w.backup(qsd.Backup{Sync: "full"}, qsd.AddBitmap("d0", "b1", true))
	w.write(8, 64<<10)
	second := w.backup(qsd.Backup{Sync: "bitmap", Bitmap: "b1", BitmapMode: "never"}, qsd.AddBitmap("d0", "b2", true), qsd.DisableBitmap("d0", "b1"))
	w.write(5, 32<<10)
	w.must(w.qemu.QMP.Execute(w.ctx, "block-export-add", map[string]any{
		"type": "nbd", "id": "map", "node-name": "d0", "name": "map", "writable": true, "bitmaps": []string{"b2"},
	}, nil))

	few := func(r inplace.Result) {
		t.Helper()
		t.Logf("%.1f %% was looked at, %.2f %% written", float64(r.Compared)*100/inPlaceSize, float64(r.Written+r.Zeroed)*100/inPlaceSize)
		if !r.Mapped || r.Compared > inPlaceSize*5/100 || r.Fetched > r.Compared || r.Compared+r.Skipped != inPlaceSize {
			t.Errorf("%+v", r)
		}
	}
	// Into one export, told by another.
	few(w.restore("web1@"+first, "--in-place", w.qemu.DiskURI("d0"), "--dirty-bitmap", w.qemu.DiskURI("map"), "--bitmap", "b2"))
	w.same("d0", first)
	// QEMU has recorded what was written, so the bitmap is true again.
	w.write(5, 32<<10)
	few(w.restore("web1@"+second, "--in-place", w.qemu.DiskURI("map"), "--bitmap", "b2", "--verify"))
	w.same("d0", second)
	w.write(5, 32<<10)
	few(w.restore("web1/vda", "--in-place", w.qemu.DiskURI("map"), "--bitmap", "b2"))
	w.same("d0", second)
}
