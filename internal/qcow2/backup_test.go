package qcow2

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qsd"
)

// job is a disk in a qemu-storage-daemon that is backed up into qcow2 files.
type job struct {
	t    *testing.T
	ctx  context.Context
	d    *qsd.Daemon
	dir  string
	disk string // the raw file
}

func newJob(t *testing.T, size int64) *job {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	d, err := qsd.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	j := &job{t, ctx, d, dir, filepath.Join(dir, "disk")}
	create(t, j.disk, size)
	if err := d.AddDisk(ctx, "disk", j.disk, "raw"); err != nil {
		t.Fatal(err)
	}
	return j
}

// write has the guest change the disk.
func (j *job) write(commands []string) {
	j.t.Helper()
	args := []string{"-f", "raw", "-d", "unmap"}
	for _, c := range append(commands, "flush") {
		args = append(args, "-c", c)
	}
	if out, err := exec.Command("qemu-io", append(args, j.d.DiskURI("disk"))...).CombinedOutput(); err != nil {
		j.t.Fatalf("qemu-io: %v\n%s", err, out)
	}
}

// backup runs a backup into a new file, and returns its path.
func (j *job) backup(name, options string, arguments map[string]any, more ...qsd.Action) string {
	j.t.Helper()
	path := filepath.Join(j.dir, name)
	newImage(j.t, path, options, int64(len(readFile(j.t, j.disk))))
	err := j.d.QMP.Execute(j.ctx, "blockdev-add", map[string]any{
		"driver": "qcow2", "node-name": name, "discard": "unmap", "file": map[string]any{"driver": "file", "filename": path},
	}, nil)
	if err != nil {
		j.t.Fatal(err)
	}
	arguments["job-id"], arguments["device"], arguments["target"], arguments["auto-dismiss"] = name, "disk", name, false
	if err := j.d.Transaction(j.ctx, append(more, qsd.Action{Type: "blockdev-backup", Data: arguments})...); err != nil {
		j.t.Fatal(err)
	}
	if err := j.d.Wait(j.ctx, name); err != nil {
		j.t.Fatal(err)
	}
	if err := j.d.RemoveNode(j.ctx, name); err != nil {
		j.t.Fatal(err)
	}
	return path
}

// apply makes content, the disk as of the point before, what the file says.
func apply(t *testing.T, path string, content []byte) (kinds map[Kind]int64) {
	t.Helper()
	q := open(t, path)
	kinds = map[Kind]int64{}
	for _, m := range mappings(t, q) {
		kinds[m.Kind] += m.Length
		part := content[m.Offset:][:m.Length]
		if m.Kind == Unallocated {
			continue
		}
		if _, err := q.ReadAt(part, m.Offset); err != nil {
			t.Fatal(err)
		}
	}
	return kinds
}

// TestBackups reads what QEMU's backup jobs write: fulls, plain and compressed,
// and incrementals, in which the zeros of the guest are not what is unallocated.
func TestBackups(t *testing.T) {
	base := seed(t)
	for i, options := range []string{"cluster_size=64k", "cluster_size=64k,extended_l2=on", "compression_type=zstd", "cluster_size=2M"} {
		t.Run(strings.ReplaceAll(options, ",", "+"), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(base, uint64(i)))
			const size = 16 << 20
			j := newJob(t, size)
			j.write(commands(rng, size, 64<<10, 20))
			content := make([]byte, size)
			full := map[string]any{"sync": "full", "compress": i%2 == 0}
			apply(t, j.backup("full", options, full, qsd.AddBitmap("disk", "b", false)), content)
			if !bytes.Equal(content, readFile(t, j.disk)) {
				t.Fatal("the full backup is not what was on the disk")
			}
			sum := map[Kind]int64{}
			for n := range 3 {
				j.write(append(commands(rng, size, 64<<10, 10), "write -P 1 4M 4M", "write -z -u 4M 4M"))
				path := j.backup(fmt.Sprint("incremental", n), options, map[string]any{"sync": "incremental", "bitmap": "b"})
				for kind, length := range apply(t, path, content) {
					sum[kind] += length
				}
				if !bytes.Equal(content, readFile(t, j.disk)) {
					t.Fatalf("incremental %d: the content is not what was on the disk", n)
				}
			}
			if sum[Unallocated] == 0 || sum[Data] == 0 || sum[Zero] < 3*4<<20 {
				t.Errorf("the incrementals have %v", sum)
			}
		})
	}
}
