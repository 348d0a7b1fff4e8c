package imports

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
	"github.com/strongroom-backup/strongroom/internal/vma"
)

// archiveOf has testdata/vma.py of package vma make an archive in which clusters
// come in any order.
func archiveOf(t testing.TB, seed uint64, disks map[string][]byte, configs map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	program, err := filepath.Abs("../vma/testdata/vma.py")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{program, "write", "a.vma", fmt.Sprint(seed)}
	i := 0
	for name, content := range disks {
		i++
		args = append(args, fmt.Sprintf("%d:%s=%s", i, name, put(t, dir, fmt.Sprint("disk", i), content)))
	}
	args = append(args, "--")
	for name, content := range configs {
		i++
		args = append(args, fmt.Sprintf("%s=%s", name, put(t, dir, fmt.Sprint("config", i), content)))
	}
	command(t, dir, "python3", args...)
	return filepath.Join(dir, "a.vma")
}

func TestArchive(t *testing.T) {
	rng := newRand(t)
	disks := map[string][]byte{"drive-scsi0": randomDisk(rng, 9<<20+512), "drive-virtio3": randomDisk(rng, 70001), "efidisk0": make([]byte, 3<<20)}
	configs := map[string][]byte{"qemu-server.conf": []byte("memory: 1\n")}
	path := archiveOf(t, rng.Uint64(), disks, configs)
	s, _ := mustBring(t, Options{Path: path}, disks)
	if s.Format != VMA || s.Created.Unix() != 1700000000 || len(s.Configs) != 1 || s.Configs[0].Name != "qemu-server.conf" || string(s.Configs[0].Data) != "memory: 1\n" {
		t.Errorf("%+v", s)
	}
	mustBring(t, Options{Path: "-", Stdin: &pipe{readFile(t, path), rng}}, disks)
	mapped := map[string][]byte{"root": disks["drive-scsi0"], "drive-scsi0": disks["efidisk0"], "drive-virtio3": disks["drive-virtio3"]}
	mustBring(t, Options{Path: path, Map: map[string]string{"drive-scsi0": "root", "efidisk0": "drive-scsi0"}}, mapped)
}

// TestManyDevices has as many disks as an archive takes, and clusters that jump
// between them; few are connected at a time.
func TestManyDevices(t *testing.T) {
	rng := newRand(t)
	disks := map[string][]byte{}
	for i := range 254 {
		disks[fmt.Sprint("drive-scsi", i)] = randomDisk(rng, 1+rng.IntN(5*blockSize))
	}
	_, b := mustBring(t, Options{Path: archiveOf(t, rng.Uint64(), disks, nil)}, disks)
	if n := b.most.Load(); n > connectionsMax+writesMax {
		t.Errorf("%d disks were open at once", n)
	}
	t.Logf("%d connections, %d at once", b.opened.Load(), b.most.Load())
}

// TestOneByOne holds that a disk is left alone when all of it is there.
func TestOneByOne(t *testing.T) {
	var out bytes.Buffer
	var h vma.Header
	disks := map[string][]byte{}
	sources := map[uint8]vma.Source{}
	for i := range 40 {
		d := bytes.Repeat([]byte{1}, 3*unitSize)
		if i > 2 {
			d = d[:7]
		}
		name := fmt.Sprint("d", i)
		disks[name], sources[uint8(i+1)] = d, memory{bytes.NewReader(d)}
		h.Devices = append(h.Devices, vma.Device{ID: uint8(i + 1), Name: name, Size: int64(len(d))})
	}
	if err := vma.Write(t.Context(), &out, h, sources, nil); err != nil {
		t.Fatal(err)
	}
	_, b := mustBring(t, Options{Path: "-", Stdin: &out}, disks)
	if b.opened.Load() != 40 {
		t.Errorf("%d connections for 40 disks", b.opened.Load())
	}
	t.Logf("%d at once", b.most.Load())
}

// memory is a disk without holes.
type memory struct{ *bytes.Reader }

func (m memory) Extents(yield func(nbdclient.Extent) error) error {
	return yield(nbdclient.Extent{Length: m.Size()})
}

// TestMemory leaves a VM's memory out, whose length is not its size.
func TestMemory(t *testing.T) {
	var out bytes.Buffer
	state, disk := bytes.Repeat([]byte{2}, 5*vma.ClusterSize), bytes.Repeat([]byte{1}, 70000)
	h := vma.Header{Devices: []vma.Device{{ID: 1, Name: "vmstatX", Size: int64(len(state))}, {ID: 2, Name: "a", Size: int64(len(disk))}}}
	sources := map[uint8]vma.Source{1: memory{bytes.NewReader(state)}, 2: memory{bytes.NewReader(disk)}}
	if err := vma.Write(t.Context(), &out, h, sources, nil); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes() // which Write does not make: the memory's name, and less than there is
	copy(b[bytes.Index(b, []byte("vmstatX")):], "vmstate")
	binary.BigEndian.PutUint64(b[4096+32+8:], 1)
	n := binary.BigEndian.Uint32(b[56:])
	clear(b[32:48])
	sum := md5.Sum(b[:n])
	copy(b[32:], sum[:])
	s, _ := mustBring(t, Options{Path: "-", Stdin: &out}, map[string][]byte{"a": disk})
	if len(s.Skipped) != 1 || s.Skipped[0] != "vmstate" {
		t.Error(s.Skipped)
	}
}

// TestNeighbours holds that what comes in order is written in large pieces.
func TestNeighbours(t *testing.T) {
	content := bytes.Repeat([]byte{1}, 8*unitSize+5)
	clear(content[2*unitSize : 6*unitSize])
	var out bytes.Buffer
	h := vma.Header{Devices: []vma.Device{{ID: 1, Name: "a", Size: int64(len(content))}}}
	w, err := vma.NewWriter(&out, h)
	for off := 0; err == nil && off < len(content); off += vma.ClusterSize {
		err = w.Cluster(1, uint32(off/vma.ClusterSize), content[off:min(off+vma.ClusterSize, len(content))])
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	_, b := mustBring(t, Options{Path: "-", Stdin: &out}, map[string][]byte{"a": content})
	if n := b.disks[0].writes; n != 2+1+3 {
		t.Errorf("%d requests", n)
	}
}

// TestFailing holds that the first error is told, and that nothing is under way
// afterwards.
func TestFailing(t *testing.T) {
	rng := newRand(t)
	disks := map[string][]byte{"a": randomDisk(rng, 36<<20), "b": randomDisk(rng, 3<<20)}
	path := archiveOf(t, rng.Uint64(), disks, nil)
	broken := errors.New("broken")
	for _, path := range []string{path, put(t, t.TempDir(), "a.raw", disks["a"])} {
		s, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		b := newBackup(t, s)
		var n atomic.Int64
		b.fail = func(int, int64) error {
			if n.Add(1) >= 20 {
				return broken
			}
			return nil
		}
		if err := s.Copy(t.Context(), b.dial, nil); !errors.Is(err, broken) || b.open.Load() != 0 {
			t.Errorf("%s: %v; %d open", path, err, b.open.Load())
		}
		s.Close()

		if s, err = Open(t.Context(), Options{Path: path}); err != nil {
			t.Fatal(err)
		}
		err = s.Copy(t.Context(), func(context.Context, int) (Device, error) { return nil, broken }, nil)
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", path, err)
		}
		s.Close()
	}
}

// TestGivenUp interrupts an import from a pipe to which nothing comes any more.
func TestGivenUp(t *testing.T) {
	rng := newRand(t)
	path := archiveOf(t, rng.Uint64(), map[string][]byte{"a": randomDisk(rng, 20<<20)}, nil)
	whole := readFile(t, path)
	in, out := io.Pipe()
	defer out.Close() // lets the reader go
	ctx, cancel := context.WithCancelCause(t.Context())
	go out.Write(whole[:len(whole)/2])
	s, err := Open(ctx, Options{Path: "-", Stdin: in})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	gone := errors.New("gone")
	b := newBackup(t, s)
	if err := s.Copy(ctx, b.dial, func(int64) { cancel(gone) }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestDamagedArchive(t *testing.T) {
	rng := newRand(t)
	whole := readFile(t, archiveOf(t, rng.Uint64(), map[string][]byte{"a": randomDisk(rng, 20<<20)}, map[string][]byte{"c": {1}}))
	for _, b := range [][]byte{whole[:len(whole)-1], whole[:len(whole)/2], whole[:100], append(bytes.Clone(whole), 0)} {
		_, _, err := bring(t, Options{Path: "-", Stdin: bytes.NewReader(b)})
		var f *vma.FormatError
		if !errors.As(err, &f) {
			t.Errorf("%d of %d bytes: %v", len(b), len(whole), err)
		}
	}
}

func TestNamesRefused(t *testing.T) {
	rng := newRand(t)
	one := map[string][]byte{"a": {1}, "b": {2}}
	for _, c := range []struct {
		what    string
		disks   map[string][]byte
		configs map[string][]byte
		names   map[string]string
	}{
		{"disk", map[string][]byte{"a b": {1}}, nil, nil},
		{"mapped disk", one, nil, map[string]string{"a": "x/y"}},
		{"twice", one, nil, map[string]string{"a": "b"}},
		{"unknown", one, nil, map[string]string{"c": "d"}},
		{"configuration", one, map[string][]byte{"../x": {1}}, nil},
		{"no disk", nil, map[string][]byte{"x": {1}}, nil},
	} {
		s, err := Open(t.Context(), Options{Path: archiveOf(t, rng.Uint64(), c.disks, c.configs), Map: c.names})
		if err == nil {
			s.Close()
			t.Errorf("%s: it was taken", c.what)
		}
	}
}
