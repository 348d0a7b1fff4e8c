package vma

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program runs testdata/vma.py, a reader and writer that knows of the package
// nothing but the description of the bytes.
func program(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("python3", append([]string{"testdata/vma.py"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("vma.py %v: %v\n%s", args, err, out)
	}
}

func put(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// scenes are disks as VMs have them, and worse.
func scenes(rng *rand.Rand) []map[uint8][]byte {
	odd := func(most int) []byte { return randomDisk(rng, 1+rng.IntN(most)) }
	many := map[uint8][]byte{}
	for id := uint8(1); id <= deviceMax; id++ {
		many[id] = odd(3 * ClusterSize)
	}
	return []map[uint8][]byte{
		{1: odd(12 << 20)},
		{1: randomDisk(rng, 4<<20), 2: make([]byte, 3<<20+512), 254: odd(1 << 20)},
		{9: odd(4095), 17: odd(5 << 20), 18: odd(ClusterSize), 200: odd(1)},
		many,
	}
}

func TestIndependentReader(t *testing.T) {
	rng := newRand(t)
	for i, disks := range scenes(rng) {
		h := proxmox(disks)
		h.Configs = append(h.Configs, Config{"largest", bytes.Repeat([]byte("largest\n"), blobMax/8)})
		dir := t.TempDir()
		program(t, "read", put(t, filepath.Join(dir, "archive"), archive(t, h, disks)), dir)
		for _, d := range h.Devices {
			got, err := os.ReadFile(filepath.Join(dir, d.Name+".disk"))
			if err != nil || !bytes.Equal(got, disks[d.ID]) {
				t.Errorf("scene %d: %s is another: %v", i, d.Name, err)
			}
		}
		for _, c := range h.Configs {
			got, err := os.ReadFile(filepath.Join(dir, c.Name+".config"))
			if err != nil || !bytes.Equal(got, c.Data) {
				t.Errorf("scene %d: %s is another: %v", i, c.Name, err)
			}
		}
	}
}

func TestIndependentWriter(t *testing.T) {
	rng := newRand(t)
	for i, disks := range scenes(rng) {
		h := proxmox(disks)
		dir := t.TempDir()
		args := []string{"write", filepath.Join(dir, "archive"), fmt.Sprint(rng.Uint32())}
		for _, d := range h.Devices {
			args = append(args, fmt.Sprintf("%d:%s=%s", d.ID, d.Name, put(t, filepath.Join(dir, d.Name), disks[d.ID])))
		}
		args = append(args, "--")
		for _, c := range h.Configs {
			args = append(args, c.Name+"="+put(t, filepath.Join(dir, c.Name), c.Data))
		}
		program(t, args...)
		data, err := os.ReadFile(filepath.Join(dir, "archive"))
		if err != nil {
			t.Fatal(err)
		}
		got, gotDisks, err := readAll(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("scene %d: %v", i, err)
		}
		checkSame(t, h, disks, got, gotDisks)
	}
}
