package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// seeded is a random source whose seed is printed, or given by STRONGROOM_SEED.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STRONGROOM_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STRONGROOM_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// memoryLayer is a layer whose disk is in memory.
type memoryLayer struct {
	*bytes.Reader
	view *qcow2.View
}

func (l *memoryLayer) Map(off, end int64, yield func(qcow2.Mapping) error) error {
	return l.view.Map(off, end, yield)
}

// grow makes a chain of random disks: of each the content, and the layer.
func grow(t *testing.T, r *rand.Rand, count int) (contents [][]byte, layers []chainLayer) {
	var now []byte
	for k := range count {
		before := bytes.Clone(now)
		if size := len(now) + []int{0, 0, BlockSize, 5 << 20, 70 << 20}[r.IntN(5)]; k == 0 {
			now = make([]byte, 3<<20+512*r.IntN(300))
		} else {
			now = append(now, make([]byte, size-len(now)+512*r.IntN(3))...)
		}
		for range r.IntN(20) {
			off := r.IntN(len(now))
			p := now[off:][:min(r.IntN(3*BlockSize), len(now)-off)]
			clear(p)
			if r.IntN(3) > 0 {
				for i := range p {
					p[i] = byte(r.Uint32())
				}
			}
		}
		content := bytes.Clone(now)
		backing := ""
		if k > 0 {
			backing = LayerName(k-1, fmt.Sprint("p", k-1))
		}
		view, err := qcow2.NewView(qcow2.ViewOptions{Size: int64(len(content)), Backing: backing, Source: bytes.NewReader(content), Extents: func(yield func(off, n int64, kind qcow2.Kind) bool) error {
			for off := 0; off < len(content); off += BlockSize {
				block := content[off:min(off+BlockSize, len(content))]
				zero := len(bytes.Trim(block, "\x00")) == 0
				switch {
				case off+len(block) <= len(before) && bytes.Equal(block, before[off:][:len(block)]) && k > 0, zero && k == 0:
				case zero:
					yield(int64(off), int64(len(block)), qcow2.Zero)
				default:
					yield(int64(off), int64(len(block)), qcow2.Data)
				}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		contents, layers = append(contents, content), append(layers, &memoryLayer{bytes.NewReader(content), view})
	}
	return contents, layers
}

// write makes the files of a chain, and its entry of a manifest.
func write(t *testing.T, dir string, layers []chainLayer) (m ManifestDisk) {
	h := newChainHasher(sizesOf(layers))
	outs := make([]*Output, len(layers))
	for k, l := range layers {
		var err error
		if outs[k], err = Create(filepath.Join(dir, LayerName(k, fmt.Sprint("p", k))), false); err != nil {
			t.Fatal(err)
		}
		if err := outs[k].Truncate(l.(*memoryLayer).view.Size()); err != nil {
			t.Fatal(err)
		}
	}
	err := scanChain(t.Context(), layers, h, nil, func(k int, p []byte, off int64) error {
		return layers[k].(*memoryLayer).view.WriteAt(outs[k], p, off)
	})
	if err != nil {
		t.Fatal(err)
	}
	hashes, top := h.sums()
	m = ManifestDisk{Disk: "vda", Size: layers[len(layers)-1].Size(), Format: QCOW2, ManifestHash: NewManifestHash(top)}
	for k, l := range layers {
		if err := errors.Join(l.(*memoryLayer).view.WriteMetadata(outs[k]), outs[k].Finish()); err != nil {
			t.Fatal(err)
		}
		m.Chain = append(m.Chain, NewManifestLayer(fmt.Sprint("p", k), LayerName(k, fmt.Sprint("p", k)), l.Size(), hashes[k]))
	}
	return m
}

// TestChain compares chains with disks in memory: hashes with the reference,
// files with what QEMU reads, and finds every kind of damage.
func TestChain(t *testing.T) {
	r := seeded(t)
	for range 3 {
		contents, layers := grow(t, r, 2+r.IntN(3))
		h := newChainHasher(sizesOf(layers))
		if err := scanChain(t.Context(), layers, h, nil, nil); err != nil {
			t.Fatal(err)
		}
		hashes, top := h.sums()
		var chunks []Hash
		for k, content := range contents {
			want := reference(content)
			chunks = layerChunks(chunks, int64(len(content)), hashes[k].Changed)
			if !equalHash(DiskHash{chunks, hashes[k].Root}, want) {
				t.Fatalf("the hash of layer %d is wrong", k)
			}
		}
		if !equalHash(top, reference(contents[len(contents)-1])) {
			t.Fatal("the hash of the disk is wrong")
		}

		dir := t.TempDir()
		m := Manifest{Point: "p", VM: "vm", Disks: []ManifestDisk{write(t, dir, layers)}}
		if err := WriteManifest(filepath.Join(dir, ManifestName), &m, false); err != nil {
			t.Fatal(err)
		}
		for k, content := range contents {
			raw := filepath.Join(t.TempDir(), "raw")
			if err := os.WriteFile(raw, content, 0o600); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, m.Disks[0].Chain[k].File)
			if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, file).CombinedOutput(); err != nil {
				t.Fatalf("layer %d: %v\n%s", k, err, out)
			}
		}
		differences(t, dir)
		breakEach(t, r, dir, layers)
	}
}

// breakEach flips a bit of data in each layer that has any.
func breakEach(t *testing.T, r *rand.Rand, dir string, layers []chainLayer) {
	for k, l := range layers {
		var data []qcow2.Mapping
		if err := l.Map(0, l.Size()+BlockSize, func(m qcow2.Mapping) error {
			if m.Kind == qcow2.Data {
				data = append(data, m)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			continue
		}
		m := data[r.IntN(len(data))]
		at := r.Int64N(min(m.Length, l.Size()-m.Offset))
		file := LayerName(k, fmt.Sprint("p", k))
		flip(t, filepath.Join(dir, file), m.Host+at)
		found := differences(t, dir, file)
		if d := found[0]; d.Disk != "vda" || m.Offset+at < d.Offset || m.Offset+at >= d.Offset+d.Length || d.Length > ChunkSize {
			t.Errorf("a bit at %d: %+v", m.Offset+at, d)
		}
		flip(t, filepath.Join(dir, file), m.Host+at)
	}
	differences(t, dir)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	b[0] ^= 1
	if _, err2 := f.WriteAt(b[:], at); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
}

// differences verifies dir and checks which files differ.
func differences(t *testing.T, dir string, want ...string) []Difference {
	t.Helper()
	c, err := VerifyDir(t.Context(), dir, Events{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Differences) != len(want) {
		t.Fatalf("%+v, want %v", c.Differences, want)
	}
	for i, d := range c.Differences {
		if d.File != want[i] {
			t.Errorf("%+v, want %v", c.Differences, want)
		}
	}
	return c.Differences
}

// TestCheckStops ends when it is told to.
func TestCheckStops(t *testing.T) {
	_, layers := grow(t, rand.New(rand.NewPCG(1, 1)), 2)
	dir := t.TempDir()
	m := Manifest{Point: "p", VM: "vm", Disks: []ManifestDisk{write(t, dir, layers)}}
	if err := WriteManifest(filepath.Join(dir, ManifestName), &m, false); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	if _, err := VerifyDir(ctx, dir, Events{Begin: func(string, int64) { stop(enough) }}); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}

// TestStage puts files into a directory that exists, or back.
func TestStage(t *testing.T) {
	dir := t.TempDir()
	s, err := newStage(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(s.tmp, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.names = []string{"a", "b"}
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("old"), 0o600); err != nil { // meanwhile
		t.Fatal(err)
	}
	if err := s.place(false); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
	s.discard()
	onlyNames(t, dir, "b")
}
