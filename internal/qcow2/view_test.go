package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// piece is an extent of a view.
type piece struct {
	off, n int64
	kind   Kind
}

func extents(list []piece) func(func(off, n int64, kind Kind) bool) error {
	return func(yield func(off, n int64, kind Kind) bool) error {
		for _, x := range list {
			if !yield(x.off, x.n, x.kind) {
				break
			}
		}
		return nil
	}
}

func newView(t testing.TB, size int64, backing string, source io.ReaderAt, list []piece) *View {
	t.Helper()
	v, err := NewView(ViewOptions{Size: size, Backing: backing, Source: source, Extents: extents(list)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// save writes the file that v shows, without its zeros.
func save(t testing.TB, v io.ReaderAt, size int64, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(p)) {
		n, err := v.ReadAt(p, off)
		if n != int(min(int64(len(p)), size-off)) || err != nil && (err != io.EOF || n == len(p)) {
			t.Fatalf("read at %d: %d, %v", off, n, err)
		}
		if isZero(p[:n]) {
			continue
		}
		if _, err := f.WriteAt(p[:n], off); err != nil {
			t.Fatal(err)
		}
	}
}

var zeroMiB [1 << 20]byte

// isZero is for pieces of a MiB at most.
func isZero(p []byte) bool { return bytes.Equal(p, zeroMiB[:len(p)]) }

// history is a disk as it was at each point, and what changed there.
type history struct {
	content []byte
	changes []piece
}

// histories makes points of a disk: ascending extents, some of whole clusters,
// some not, and growth.
func histories(rng *rand.Rand, size int64, points int) (list []history) {
	content := []byte{}
	for i := range points {
		if i > 0 && rng.IntN(3) == 0 {
			size += rng.Int64N(3*ClusterSize) + 1
		}
		content = append(slices.Clone(content), make([]byte, size-int64(len(content)))...)
		h := history{}
		for off := rng.Int64N(4 * ClusterSize); off < size; {
			n := 1 + rng.Int64N(5*ClusterSize)
			if rng.IntN(2) == 0 {
				off, n = off/ClusterSize*ClusterSize, divUp(n, ClusterSize)*ClusterSize
			}
			if m := len(h.changes); m > 0 {
				off = max(off, h.changes[m-1].off+h.changes[m-1].n)
			}
			if n = min(n, size-off); n <= 0 {
				break
			}
			p := piece{off, n, Data}
			if rng.IntN(3) == 0 {
				p.kind = Zero
				clear(content[off : off+n])
			} else {
				fill(rng, content[off:off+n])
			}
			h.changes = append(h.changes, p)
			off += n
			if rng.IntN(2) == 0 {
				off += rng.Int64N(8 * ClusterSize)
			}
		}
		h.content = content
		list = append(list, h)
	}
	return list
}

func fill(rng *rand.Rand, p []byte) {
	for ; len(p) >= 8; p = p[8:] {
		binary.NativeEndian.PutUint64(p, rng.Uint64())
	}
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
}

// checkFile has QEMU check the file and compare it with the content.
func checkFile(t *testing.T, path string, content []byte) {
	t.Helper()
	qemuImg(t, "check", "-q", "-f", "qcow2", path)
	got := rawContent(t, path, "qcow2")
	if len(got) != int(divUp(int64(len(content)), sectorSize)*sectorSize) {
		t.Fatalf("%s has a disk of %d bytes for %d", path, len(got), len(content))
	}
	if !bytes.Equal(got[:len(content)], content) || !isZero(got[len(content):]) {
		t.Errorf("%s differs from its source", path)
	}
}

// TestViews writes chains of views to files, which QEMU then opens by their
// relative names.
func TestViews(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	for range 6 {
		dir := t.TempDir()
		backing := ""
		for i, h := range histories(rng, 1+rng.Int64N(3<<20), 1+rng.IntN(5)) {
			v := newView(t, int64(len(h.content)), backing, bytes.NewReader(h.content), h.changes)
			name := fmt.Sprintf("%02d-point.qcow2", i)
			path := filepath.Join(dir, name)
			save(t, v, v.Size(), path)
			checkFile(t, path, h.content)
			checkOwnReader(t, path, backing, h)
			checkPieces(t, rng, v, readFile(t, path))
			flat := newView(t, int64(len(h.content)), "", bytes.NewReader(h.content), nonZero(h.content))
			path = filepath.Join(dir, "flat.qcow2")
			save(t, flat, flat.Size(), path)
			checkFile(t, path, h.content)
			if strings.Contains(string(tool(t, "qemu-img", "info", path)), "backing") {
				t.Error("the flat file has a backing file")
			}
			backing = name
		}
	}
}

// nonZero returns the clusters with something in them.
func nonZero(content []byte) (list []piece) {
	for off := 0; off < len(content); off += ClusterSize {
		p := content[off:min(off+ClusterSize, len(content))]
		if !isZero(p) {
			list = append(list, piece{int64(off), int64(len(p)), Data})
		}
	}
	return list
}

// checkOwnReader reads the file with a Reader, and looks whether each cluster is of
// the kind it should be.
func checkOwnReader(t *testing.T, path, backing string, h history) {
	t.Helper()
	q := open(t, path)
	if name, format := q.Backing(); name != backing || format != map[bool]string{true: "", false: "qcow2"}[backing == ""] {
		t.Errorf("backing file %q, format %q", name, format)
	}
	if got, want := mappings(t, q), qemuMap(t, path); !slices.Equal(got, want) {
		t.Errorf("map\n%v\nQEMU says\n%v", got, want)
	}
	kinds := wantKinds(h, backing != "")
	host := int64(0)
	for _, m := range mappings(t, q) {
		if m.Kind == Data {
			if m.Host < host {
				t.Errorf("%+v is before the data before", m)
			}
			host = m.Host + m.Length
		}
		for off := m.Offset; off < m.Offset+m.Length; off += ClusterSize {
			if kinds[off/ClusterSize] != m.Kind {
				t.Errorf("the cluster at %d is %v, want %v", off, m.Kind, kinds[off/ClusterSize])
			}
		}
	}
}

// wantKinds is a second way to say what clusters are: by how much of each is of
// which kind.
func wantKinds(h history, layer bool) []Kind {
	kinds := make([]Kind, divUp(int64(len(h.content)), ClusterSize))
	for i := range kinds {
		from := int64(i) * ClusterSize
		to := min(from+ClusterSize, int64(len(h.content)))
		count := map[Kind]int64{}
		for _, p := range h.changes {
			count[p.kind] += max(0, min(to, p.off+p.n)-max(from, p.off))
		}
		switch {
		case count[Data] > 0 || layer && count[Zero] > 0 && count[Zero] < to-from:
			kinds[i] = Data
		case layer && count[Zero] > 0:
			kinds[i] = Zero
		}
	}
	return kinds
}

// checkPieces reads pieces of the view, at any offsets.
func checkPieces(t *testing.T, rng *rand.Rand, v *View, want []byte) {
	t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		seed := rng.Uint64()
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 100 {
				off := rng.IntN(len(want) + 1)
				if rng.IntN(2) == 0 {
					off = min(off, off/ClusterSize*ClusterSize+rng.IntN(40))
				}
				p := make([]byte, rng.IntN([]int{20, 300, 3 * ClusterSize}[rng.IntN(3)]))
				fill(rng, p)
				n, err := v.ReadAt(p, int64(off))
				whole := min(len(p), len(want)-off)
				if n != whole || (err == io.EOF) != (whole < len(p)) || err != nil && err != io.EOF || !bytes.Equal(p[:n], want[off:off+n]) {
					t.Errorf("%d bytes at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	wg.Wait()
}

// zeros reads as zeros, and notes the longest read.
type zeros struct {
	mu      sync.Mutex
	longest int
}

func (z *zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.longest = max(z.longest, len(p))
	return len(p), nil
}

// TestViewEdges puts extents at the borders of tables, groups and disks.
func TestViewEdges(t *testing.T) {
	const c, g, l2 = ClusterSize, groupClusters * ClusterSize, ClusterSize * entriesPerTable
	for _, x := range []struct {
		name string
		size int64
		list []piece
	}{
		{"empty disk", 0, nil},
		{"one byte", 1, []piece{{0, 1, Data}}},
		{"one byte of zero", 1, []piece{{0, 1, Zero}}},
		{"nothing", 10 << 30, nil},
		{"all zero", 3 << 30, []piece{{0, 3 << 30, Zero}}},
		{"group edge", 3 * g, []piece{{g - c, 2 * c, Data}, {2*g - c, c, Zero}, {2 * g, c, Zero}}},
		{"full groups", 5*g + 7*c, []piece{{c, 4*g - c, Data}, {4 * g, g, Zero}, {5 * g, 7 * c, Data}}},
		{"table edge", 3 * l2, []piece{{l2 - 1, 2, Data}, {2*l2 - c, 2 * c, Zero}, {3*l2 - 1, 1, Data}}},
		{"between data", 6 * c, []piece{{0, c, Data}, {c, 2 * c, Zero}, {3 * c, 10, Data}, {3*c + 10, 20, Zero}, {4*c - 5, 5, Zero}}},
		{"15 TiB", 15 << 40, []piece{{0, 1, Zero}, {7 << 40, 100, Data}, {8 << 40, 4 * l2, Zero}, {15<<40 - 1, 1, Data}}},
		{"1 PiB", sizeMax, []piece{{sizeMax - c, c, Data}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "q")
			for _, backing := range []string{"", "base"} {
				if backing != "" {
					newImage(t, filepath.Join(dir, backing), "cluster_size=64k", 1<<20)
				}
				v := newView(t, x.size, backing, &zeros{}, x.list)
				save(t, v, v.Size(), path)
				qemuImg(t, "check", "-q", "-f", "qcow2", path)
				if x.size > 1<<48 {
					continue // QEMU takes seconds for the map
				}
				if got, want := mappings(t, open(t, path)), qemuMap(t, path); !slices.Equal(got, want) {
					t.Errorf("map\n%v\nQEMU says\n%v", got, want)
				}
			}
		})
	}
}

// A view of more clusters than one refcount block counts reads its source in
// pieces as long as asked for.
func TestViewDense(t *testing.T) {
	z := &zeros{}
	size := int64(9 << 30)
	v := newView(t, size, "", z, []piece{{0, size, Data}})
	path := filepath.Join(t.TempDir(), "q")
	f := create(t, path, v.Size())
	if _, err := io.Copy(f, io.NewSectionReader(v, 0, v.l.first*ClusterSize)); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "check", "-q", "-f", "qcow2", path)
	p := make([]byte, 8<<20)
	if _, err := v.ReadAt(p, v.l.first*ClusterSize+60<<20); err != nil || z.longest != len(p) {
		t.Errorf("longest read %d of %d: %v", z.longest, len(p), err)
	}
}

func TestViewRefuses(t *testing.T) {
	refused := errors.New("refused")
	for name, o := range map[string]ViewOptions{
		"negative size":  {Size: -1},
		"size":           {Size: sizeMax + 1},
		"long backing":   {Backing: strings.Repeat("x", 1024)},
		"zero byte":      {Backing: "a\x00"},
		"descending":     {Size: 100, Extents: extents([]piece{{10, 10, Data}, {19, 1, Data}})},
		"outside":        {Size: 100, Extents: extents([]piece{{10, 91, Zero}})},
		"far outside":    {Size: 100, Extents: extents([]piece{{1, 1<<63 - 1, Zero}})},
		"negative":       {Size: 100, Extents: extents([]piece{{-1, 2, Zero}})},
		"empty":          {Size: 100, Extents: extents([]piece{{1, 0, Zero}})},
		"unallocated":    {Size: 100, Extents: extents([]piece{{1, 1, Unallocated}})},
		"failing extent": {Size: 100, Extents: func(func(int64, int64, Kind) bool) error { return refused }},
	} {
		if o.Extents == nil {
			o.Extents = extents(nil)
		}
		if _, err := NewView(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	v := newView(t, 1<<20, "", bytes.NewReader(make([]byte, 1000)), []piece{{0, 1 << 20, Data}})
	if _, err := v.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the beginning")
	}
	if _, err := v.ReadAt(make([]byte, 2000), v.l.first*ClusterSize); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that is too short: %v", err)
	}
}

// TestViewMemory bounds what a view keeps.
func TestViewMemory(t *testing.T) {
	var list []piece
	for off := int64(0); off < 128<<30; off += 4 * ClusterSize { // the worst: no group is full
		list = append(list, piece{off, ClusterSize, Data}, piece{off + 2*ClusterSize, ClusterSize, Zero})
	}
	v := newView(t, 16<<40, "base", &zeros{}, list)
	bytes := cap(v.l.groups)*32 + cap(v.l.tables)*8
	for _, g := range v.l.groups {
		for _, b := range []*bitmap{g.data, g.zero} {
			if b != nil && b != allClusters {
				bytes += 128
			}
		}
	}
	if bytes > 579<<10 { // 72.25 MiB for 16 TiB
		t.Errorf("128 GiB in fragments take %d bytes", bytes)
	}
	v = newView(t, 16<<40, "", &zeros{}, []piece{{0, 16 << 40, Data}})
	if n := len(v.l.groups); n != 16<<40/(groupClusters*ClusterSize) || v.l.groups[77].data != allClusters {
		t.Errorf("%d groups", n)
	}
}

// TestViewWrite writes files that views show, in pieces and in any order, and
// compares what Map says with what QEMU's format says of the file.
func TestViewWrite(t *testing.T) {
	const c = ClusterSize
	r := rand.New(rand.NewPCG(8, 8))
	for _, backing := range []string{"", "under.qcow2"} {
		var list []piece
		size := int64(1100*c + 512)
		for off := int64(0); off < size; {
			n := min(size-off, (1+r.Int64N(40))*c)
			if kind := Kind(r.IntN(3)); kind != Unallocated {
				list = append(list, piece{off, n, kind})
			}
			off += n
		}
		disk := make([]byte, size)
		rand.NewChaCha8([32]byte{9}).Read(disk)
		v := newView(t, size, backing, bytes.NewReader(disk), list)
		path := filepath.Join(t.TempDir(), "written")
		f := create(t, path, v.Size())
		var maps []Mapping
		for off := int64(0); off < size; off += 64 << 20 {
			if err := v.Map(off, min(off+64<<20, (size+c-1)/c*c), func(m Mapping) error {
				maps = append(maps, m)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range r.Perm(len(maps)) {
			if m := maps[i]; m.Kind == Data {
				if err := v.WriteAt(f, disk[m.Offset:min(m.Offset+m.Length, size)], m.Offset); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := v.WriteMetadata(f); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		want := make([]byte, v.Size())
		if _, err := v.ReadAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("backing %q: the file is not what the view shows: %v", backing, err)
		}
		q, err := Open(f, v.Size())
		if err != nil {
			t.Fatal(err)
		}
		var read []Mapping
		for off := int64(0); off < size; off += 64 << 20 {
			if err := q.MapRange(off, min(off+64<<20, q.Size()), func(m Mapping) error {
				if m.Kind != Unallocated {
					m.Length = (m.Length + c - 1) / c * c
					read = append(read, m)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(merged(maps), merged(read)) {
			t.Errorf("backing %q: Map says\n%v, the file\n%v", backing, merged(maps), merged(read))
		}
	}
}

// merged joins neighbours of one kind.
func merged(list []Mapping) (out []Mapping) {
	for _, m := range list {
		if n := len(out); n > 0 && out[n-1].Kind == m.Kind && out[n-1].Offset+out[n-1].Length == m.Offset &&
			(m.Kind != Data || out[n-1].Host+out[n-1].Length == m.Host) {
			out[n-1].Length += m.Length
			continue
		}
		out = append(out, m)
	}
	return out
}
