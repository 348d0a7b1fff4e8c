package qcow2

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// seed is STRONGROOM_SEED, or one of its own for each run; it is printed.
func seed(t testing.TB) uint64 {
	n := rand.Uint64() >> 1
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("STRONGROOM_SEED=%s: %v", s, err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", n)
	return n
}

// tool runs a program of QEMU's, and returns what it printed.
func tool(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	var errors bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, errors.Bytes())
	}
	return out
}

// newImage creates a qcow2 file of QEMU's.
func newImage(t testing.TB, path, options string, size int64, more ...string) {
	t.Helper()
	args := append([]string{"create", "-q", "-f", "qcow2", "-o", options}, more...)
	tool(t, "qemu-img", append(args, path, fmt.Sprint(size))...)
}

// change has qemu-io run commands on the file. They may fail: with a compressed
// write to a cluster that is there, say.
func change(t testing.TB, path string, commands []string, options ...string) {
	t.Helper()
	args := append([]string{"-f", "qcow2", "-d", "unmap"}, options...)
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("qemu-io", append(args, path)...).CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("qemu-io: %v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("can't open")) {
		t.Fatalf("qemu-io: %s", out)
	}
}

// rawContent returns what QEMU reads from the image.
func rawContent(t testing.TB, path, format string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "raw")
	tool(t, "qemu-img", "convert", "-f", format, "-O", "raw", path, out)
	return readFile(t, out)
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens the file for reading.
func open(t testing.TB, path string) *Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// mappings is the whole Map, which must cover the disk.
func mappings(t testing.TB, q *Reader) (list []Mapping) {
	t.Helper()
	end := int64(0)
	err := q.Map(func(m Mapping) error {
		if m.Offset != end || m.Length <= 0 {
			t.Errorf("mapping %+v after %d", m, end)
		}
		end = m.Offset + m.Length
		list = append(list, m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if end != q.Size() {
		t.Errorf("the mappings end at %d of %d", end, q.Size())
	}
	return list
}

// qemuMap is what QEMU says of the file alone, as mappings.
func qemuMap(t testing.TB, path string) (list []Mapping) {
	t.Helper()
	var entries []struct {
		Start, Length, Depth int64
		Present, Zero, Data  bool
		Offset               *int64
	}
	if err := json.Unmarshal(tool(t, "qemu-img", "map", "--output=json", "-f", "qcow2", path), &entries); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Length == 0 {
			continue // an empty disk
		}
		m := Mapping{Offset: e.Start, Length: e.Length}
		switch {
		case e.Depth > 0 || !e.Present:
		case !e.Data:
			m.Kind = Zero
		case e.Offset == nil:
			m.Kind = Compressed
		default:
			m.Kind, m.Host = Data, *e.Offset
		}
		if n := len(list) - 1; n >= 0 && list[n].Kind == m.Kind && (m.Kind != Data || list[n].Host+list[n].Length == m.Host) {
			list[n].Length += m.Length // QEMU tells holes in the file from data
			continue
		}
		list = append(list, m)
	}
	return list
}

// commands returns n random changes of a disk, half of them where others are.
func commands(rng *rand.Rand, size, cluster int64, n int) (list []string) {
	busy := rng.Int64N(size)
	for range n {
		longest := min(size, cluster*[]int64{1, 1, 3, 10}[rng.IntN(4)]+512)
		length := 512 * (1 + rng.Int64N(longest/512))
		off := rng.Int64N(size-length+1) / 512 * 512
		if rng.IntN(2) == 0 {
			off = min(size-length, busy) / 512 * 512
		}
		if rng.IntN(3) == 0 { // whole clusters
			off = off / cluster * cluster
			length = min(divUp(length, cluster)*cluster, size-off)
		}
		switch rng.IntN(8) {
		case 0:
			list = append(list, fmt.Sprintf("write -z %d %d", off, length))
		case 1:
			list = append(list, fmt.Sprintf("write -z -u %d %d", off, length))
		case 2:
			list = append(list, fmt.Sprintf("discard %d %d", off, length))
		default:
			list = append(list, fmt.Sprintf("write -P %d %d %d", 1+rng.IntN(255), off, length))
		}
	}
	return list
}

// packs returns compressed writes, each of other clusters than the others; those
// of allocated clusters fail. They must have a qemu-io of their own: QEMU 7.2
// appends compressed data to a cluster that was freed meanwhile and has become
// another's.
func packs(rng *rand.Rand, size, cluster int64) (list []string) {
	for off := int64(0); off < size; {
		off += cluster * rng.Int64N(1+size/cluster/10)
		if n := min(cluster*(1+rng.Int64N(3)), size-off); n > 0 {
			list = append(list, fmt.Sprintf("write -c -P %d %d %d", 1+rng.IntN(255), off, n))
		}
		off += 3 * cluster
	}
	return list
}

// fillFile makes a file of random bytes, for qemu-io's write -s.
func fillFile(t testing.TB, rng *rand.Rand, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "random")
	p := make([]byte, n)
	fill(rng, p)
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
