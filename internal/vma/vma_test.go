package vma

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/internal/nbdclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newRand is a generator that STRONGROOM_SEED repeats.
func newRand(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// randomDisk has data, zeros and blocks of which one byte is not zero.
func randomDisk(rng *rand.Rand, size int) []byte {
	disk := make([]byte, size)
	for off := 0; off < size; {
		n := min(size-off, 1+rng.IntN(3*ClusterSize))
		switch part := disk[off:][:n]; rng.IntN(4) {
		case 0:
			for i := range part {
				part[i] = byte(rng.Uint32())
			}
		case 1:
			part[rng.IntN(n)] = 1
		}
		off += n
	}
	return disk
}

// memory is a disk as a Source.
type memory struct {
	disk  []byte
	reads atomic.Int64 // bytes
	fail  error
}

func (m *memory) Size() int64 { return int64(len(m.disk)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.reads.Add(int64(len(p)))
	if m.fail != nil {
		return 0, m.fail
	}
	return bytes.NewReader(m.disk).ReadAt(p, off)
}

// Extents tells of zeros 512 bytes at a time.
func (m *memory) Extents(yield func(nbdclient.Extent) error) error {
	const step = 512
	var open nbdclient.Extent
	for off := 0; off < len(m.disk); off += step {
		part := m.disk[off:min(off+step, len(m.disk))]
		zero := bytes.Equal(part, zeros[:len(part)])
		if open.Length > 0 && open.Zero != zero {
			if err := yield(open); err != nil {
				return err
			}
			open = nbdclient.Extent{Offset: int64(off)}
		}
		open.Zero = zero
		open.Length += int64(len(part))
	}
	return yield(open)
}

// readAll reads an archive into disks, and checks that all is filled.
func readAll(in io.Reader) (Header, map[uint8][]byte, error) {
	r, err := NewReader(in)
	if err != nil {
		return Header{}, nil, err
	}
	disks := map[uint8][]byte{}
	for _, d := range r.Header().Devices {
		if d.Size > 64<<20 {
			return Header{}, nil, errors.New("too large for a test")
		}
		disks[d.ID] = bytes.Repeat([]byte{0xee}, int(d.Size))
	}
	for {
		dev, off, data, zero, err := r.Next()
		if err == io.EOF {
			return r.Header(), disks, nil
		}
		if err != nil {
			return Header{}, nil, err
		}
		if zero != (data == nil) {
			return Header{}, nil, fmt.Errorf("zero %v with %d bytes", zero, len(data))
		}
		part := disks[dev][off:min(off+ClusterSize, int64(len(disks[dev])))]
		if zero {
			clear(part)
		} else if copy(part, data) != len(part) || len(data) != len(part) {
			return Header{}, nil, fmt.Errorf("%d bytes, want %d", len(data), len(part))
		}
	}
}

func archive(t testing.TB, h Header, disks map[uint8][]byte) []byte {
	t.Helper()
	sources := map[uint8]Source{}
	for id, d := range disks {
		sources[id] = &memory{disk: d}
	}
	var out bytes.Buffer
	var done, want int64
	if err := Write(t.Context(), &out, h, sources, func(n int64) { done += n }); err != nil {
		t.Fatal(err)
	}
	for _, d := range disks {
		want += int64(len(d))
	}
	if done != want {
		t.Errorf("progress of %d bytes, want %d", done, want)
	}
	return out.Bytes()
}

func checkSame(t testing.TB, h Header, disks map[uint8][]byte, got Header, gotDisks map[uint8][]byte) {
	t.Helper()
	if !slices.EqualFunc(h.Configs, got.Configs, func(a, b Config) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) }) {
		t.Errorf("configuration files %v, want %v", got.Configs, h.Configs)
	}
	if !slices.Equal(h.Devices, got.Devices) {
		t.Errorf("devices %v, want %v", got.Devices, h.Devices)
	}
	for id, d := range disks {
		if !bytes.Equal(d, gotDisks[id]) {
			t.Errorf("device %d is another", id)
		}
	}
}

// proxmox is a header as Proxmox makes it.
func proxmox(disks map[uint8][]byte) Header {
	h := Header{
		Created: time.Unix(1700000000, 0),
		Configs: []Config{{"qemu-server.conf", []byte("memory: 2048\n")}, {"qemu-server.fw", []byte("")}},
	}
	for id := range deviceMax + 1 {
		if d, ok := disks[uint8(id)]; ok {
			h.Devices = append(h.Devices, Device{uint8(id), fmt.Sprintf("drive-scsi%d", id), int64(len(d))})
		}
	}
	return h
}

func TestRoundTrip(t *testing.T) {
	rng := newRand(t)
	sizes := []int{1, 511, 4095, 4096, 4097, 65535, 65536, 65537, 59 * ClusterSize, 59*ClusterSize + 1, 3<<20 + 512}
	for i, size := range sizes {
		disks := map[uint8][]byte{1: randomDisk(rng, size), 254: randomDisk(rng, sizes[(i+3)%len(sizes)]), 7: make([]byte, size)}
		h := proxmox(disks)
		got, gotDisks, err := readAll(bytes.NewReader(archive(t, h, disks)))
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		checkSame(t, h, disks, got, gotDisks)
		if got.UUID == [16]byte{} || !got.Created.Equal(h.Created) {
			t.Errorf("uuid %x, created %v", got.UUID, got.Created)
		}
	}
}

func TestNoDisks(t *testing.T) {
	h := proxmox(nil)
	got, disks, err := readAll(bytes.NewReader(archive(t, h, nil)))
	if err != nil || len(disks) != 0 {
		t.Fatal(err, disks)
	}
	checkSame(t, h, nil, got, disks)
}

// TestHolesAreNotRead holds that data is read once, and holes only where they are
// shorter than a read.
func TestHolesAreNotRead(t *testing.T) {
	disk := make([]byte, 64<<20)
	disk[5<<20], disk[5<<20+200<<10], disk[40<<20] = 1, 1, 1
	m := &memory{disk: disk}
	var out bytes.Buffer
	if err := Write(t.Context(), &out, proxmox(map[uint8][]byte{3: disk}), map[uint8]Source{3: m}, nil); err != nil {
		t.Fatal(err)
	}
	if n := m.reads.Load(); n > 6*ClusterSize {
		t.Errorf("%d bytes were read", n)
	}
	if most := 20<<10 + 18*extentHeader + 4*BlockSize; out.Len() > most {
		t.Errorf("%d bytes were written, want at most %d", out.Len(), most)
	}
}

func TestWriteFails(t *testing.T) {
	rng := newRand(t)
	disks := map[uint8][]byte{1: randomDisk(rng, 9<<20), 2: randomDisk(rng, 80<<20)}
	h := proxmox(disks)
	broken := errors.New("broken")
	err := Write(t.Context(), io.Discard, h, map[uint8]Source{1: &memory{disk: disks[1]}, 2: &memory{disk: disks[2], fail: broken}}, nil)
	if !errors.Is(err, broken) {
		t.Errorf("a failed read: %v", err)
	}
	good := map[uint8]Source{1: &memory{disk: disks[1]}, 2: &memory{disk: disks[2]}}
	if err := Write(t.Context(), &limited{left: 5 << 20, err: broken}, h, good, nil); !errors.Is(err, broken) {
		t.Errorf("a failed write: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := Write(ctx, io.Discard, h, good, func(int64) { cancel(broken) }); !errors.Is(err, broken) {
		t.Errorf("given up: %v", err)
	}
	delete(good, 2)
	if err := Write(t.Context(), io.Discard, h, good, nil); err == nil {
		t.Error("a source was missing, and nobody said so")
	}
}

// limited fails after some bytes.
type limited struct {
	left int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, l.err
	}
	return len(p), nil
}

func TestClusterOnce(t *testing.T) {
	h := Header{Devices: []Device{{1, "drive-scsi0", 100<<20 + 5}}}
	for _, c := range []struct {
		what    string
		dev     uint8
		cluster uint32
		data    []byte
	}{
		{"again", 1, 3, nil},
		{"unknown device", 2, 0, nil},
		{"beyond the end", 1, 1601, nil},
		{"too short", 1, 4, make([]byte, 5)},
		{"too long", 1, 1600, make([]byte, 6)},
	} {
		w, err := NewWriter(io.Discard, h)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Cluster(1, 3, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Cluster(c.dev, c.cluster, c.data); err == nil {
			t.Errorf("%s: it was taken", c.what)
		} else if w.Close() == nil {
			t.Errorf("%s: the archive was closed in spite of it", c.what)
		}
	}
	w, err := NewWriter(io.Discard, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(1601) {
		if i != 777 && w.Cluster(1, i, nil) != nil {
			t.Fatal(i)
		}
	}
	if err := w.Close(); err == nil || !bytes.Contains([]byte(err.Error()), []byte("cluster 777 of disk drive-scsi0")) {
		t.Errorf("a missing cluster: %v", err)
	}
}

func TestHeaderRefused(t *testing.T) {
	big := func(n int) []Config { return []Config{{"qemu-server.conf", make([]byte, n)}} }
	many := func(n, size int) (list []Config) {
		for i := range n {
			list = append(list, Config{fmt.Sprintf("c%d", i), make([]byte, size)})
		}
		return list
	}
	for _, c := range []struct {
		what string
		h    Header
		ok   bool
	}{
		{"largest configuration", Header{Configs: big(blobMax)}, true},
		{"configuration too large", Header{Configs: big(blobMax + 1)}, false},
		{"all configurations", Header{Configs: many(configsMax, 1000)}, true},
		{"too many configurations", Header{Configs: many(configsMax+1, 1)}, false},
		{"configurations too large together", Header{Configs: many(8, blobMax)}, false},
		{"configuration twice", Header{Configs: append(big(1), big(2)...)}, false},
		{"configuration without a name", Header{Configs: []Config{{}}}, false},
		{"device 0", Header{Devices: []Device{{0, "a", 1}}}, false},
		{"device 255", Header{Devices: []Device{{255, "a", 1}}}, false},
		{"device 254", Header{Devices: []Device{{254, "a", 1}}}, true},
		{"same device", Header{Devices: []Device{{1, "a", 1}, {1, "b", 1}}}, false},
		{"same name", Header{Devices: []Device{{1, "a", 1}, {2, "a", 1}}}, false},
		{"name with a zero byte", Header{Devices: []Device{{1, "a\x00b", 1}}}, false},
		{"memory", Header{Devices: []Device{{1, "vmstate", 1}}}, false},
		{"empty device", Header{Devices: []Device{{1, "a", 0}}}, false},
		{"16 TiB", Header{Devices: []Device{{1, "a", 16 << 40}}}, true},
		{"256 TiB", Header{Devices: []Device{{1, "a", 256 << 40}}}, true},
		{"more than 256 TiB", Header{Devices: []Device{{1, "a", 256 << 40}, {2, "b", 1}}}, false},
	} {
		var out bytes.Buffer
		_, err := NewWriter(&out, c.h)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil {
			if out.Len() > 0 {
				t.Errorf("%s: %d bytes were written all the same", c.what, out.Len())
			}
			continue
		}
		if r, err := NewReader(&out); err != nil {
			t.Errorf("%s: %v", c.what, err)
		} else if !slices.Equal(r.Header().Devices, c.h.Devices) || len(r.Header().Configs) != len(c.h.Configs) {
			t.Errorf("%s: read back as %v", c.what, r.Header())
		}
	}
}

func TestSeen(t *testing.T) {
	rng := newRand(t)
	const n = 3*pageBits + 17
	order := rng.Perm(n)
	var s seen
	for i, c := range order {
		if first := int64(slices.Min(order[i:])); i%997 == 0 && s.missing() != first {
			t.Fatalf("missing %d, want %d", s.missing(), first)
		}
		if !s.add(uint32(c)) || s.add(uint32(c)) {
			t.Fatalf("cluster %d of %v", c, order[:i])
		}
	}
	if s.count != n || s.missing() != n || len(s.pages) != 4 || s.pages[2] != full {
		t.Errorf("count %d, missing %d, pages %v", s.count, s.missing(), s.pages)
	}
	if s.add(pageBits) {
		t.Error("a cluster of a full page is taken again")
	}
}
