package qcow2

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// write makes the raw file and the qcow2 file of one disk.
func write(t *testing.T, size int64, data []Extent) (raw, image string) {
	t.Helper()
	dir := t.TempDir()
	raw, image = filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	m, err := Plan(size, data)
	if err != nil {
		t.Fatal(err)
	}
	r, q := create(t, raw, size), create(t, image, m.FileSize())
	rng := rand.NewChaCha8([32]byte{2})
	for _, i := range rand.New(rng).Perm(len(data)) { // in any order
		p := make([]byte, data[i].Length)
		rng.Read(p)
		if _, err := r.WriteAt(p, data[i].Offset); err != nil {
			t.Fatal(err)
		}
		if err := m.WriteAt(q, p, data[i].Offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.WriteMetadata(q); err != nil {
		t.Fatal(err)
	}
	return raw, image
}

func create(t *testing.T, path string, size int64) *os.File {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Errorf("qemu-img %v: %v\n%s", args, err, out)
	}
}

func TestQEMUAccepts(t *testing.T) {
	const c, l2 = ClusterSize, ClusterSize * entriesPerTable
	random := []Extent{}
	rng := rand.New(rand.NewPCG(3, 3))
	for off := int64(0); off < 64<<20; off += rng.Int64N(600 << 10) {
		n := 1 + rng.Int64N(200<<10)
		random = append(random, Extent{off, n})
		off += n
	}
	for _, x := range []struct {
		name string
		size int64
		data []Extent
	}{
		{"empty disk", 0, nil},
		{"no data", 10 << 30, nil},
		{"one sector", 512, []Extent{{0, 512}}},
		{"one cluster", c, []Extent{{0, c}}},
		{"shared cluster", 4 * c, []Extent{{10, 20}, {40, 50}, {c - 1, 2}, {3*c + 5, 1}}},
		{"table edge", 3 * l2, []Extent{{l2 - 1, 2}, {2*l2 - c, 2 * c}, {3*l2 - 1, 1}}},
		{"odd end", 5*c + 512, []Extent{{5 * c, 512}}},
		{"sparse 12 TiB", 12 << 40, []Extent{{0, 1}, {7 << 40, 100}, {12<<40 - 1, 1}}},
		{"random", 64<<20 + 1<<20, random},
	} {
		t.Run(x.name, func(t *testing.T) {
			raw, image := write(t, x.size, x.data)
			qemuImg(t, "check", "-f", "qcow2", image)
			if x.size > 0 && x.size < 1<<40 {
				qemuImg(t, "compare", "-f", "raw", "-F", "qcow2", raw, image)
			}
		})
	}
}

// A file of more clusters than one refcount block counts, without the data.
func TestManyRefcountBlocks(t *testing.T) {
	size := int64(9 << 30)
	m, err := Plan(size, []Extent{{0, size}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "q")
	if err := m.WriteMetadata(create(t, path, m.FileSize())); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "check", "-f", "qcow2", path)
}

func TestPlanRefuses(t *testing.T) {
	for _, x := range []struct {
		size int64
		data []Extent
	}{
		{-512, nil}, {511, nil}, {sizeMax + 512, nil},
		{1024, []Extent{{0, 1025}}}, {1024, []Extent{{-1, 2}}}, {1024, []Extent{{0, 0}}},
		{1024, []Extent{{10, 10}, {19, 1}}}, {1024, []Extent{{1, 1<<63 - 1}}},
	} {
		if _, err := Plan(x.size, x.data); err == nil {
			t.Errorf("Plan(%d, %v) succeeded", x.size, x.data)
		}
	}
	m, _ := Plan(10*ClusterSize, []Extent{{ClusterSize, 1}})
	for _, off := range []int64{0, 2 * ClusterSize} {
		if err := m.WriteAt(nil, []byte{1}, off); err == nil {
			t.Errorf("a write at %d, outside the plan, succeeded", off)
		}
	}
}
