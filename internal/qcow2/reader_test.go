package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lima-vm/go-qcow2reader/image/qcow2"
)

// checkReader compares what a Reader says of the file with what QEMU says.
// backing is the content of the backing file.
func checkReader(t *testing.T, rng *rand.Rand, path string, backing []byte) {
	t.Helper()
	want := rawContent(t, path, "qcow2")
	q := open(t, path)
	if q.Size() != int64(len(want)) {
		t.Fatalf("size %d, QEMU says %d", q.Size(), len(want))
	}
	list := mappings(t, q)
	if qemu := qemuMap(t, path); !slices.Equal(list, qemu) {
		t.Errorf("map\n%v\nQEMU says\n%v", list, qemu)
	}
	got := make([]byte, q.Size())
	if n, err := q.ReadAt(got, 0); err != nil || n != len(got) {
		t.Fatalf("%d of %d bytes: %v", n, len(got), err)
	}
	file := q.file
	for _, m := range list {
		part := got[m.Offset:][:m.Length]
		switch m.Kind {
		case Unallocated:
			clear(part)
			copy(part, backing[min(m.Offset, int64(len(backing))):])
		case Data:
			p := make([]byte, m.Length)
			if _, err := file.ReadAt(p, m.Host); err != nil || !bytes.Equal(p, part) {
				t.Errorf("%+v is not what the file has there: %v", m, err)
			}
		}
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the content differs from QEMU's")
	}
	if backing == nil {
		checkReadAt(t, rng, q, want)
		checkLima(t, q, want)
	}
}

// checkReadAt reads pieces.
func checkReadAt(t *testing.T, rng *rand.Rand, q *Reader, want []byte) {
	t.Helper()
	for range 30 {
		off := rng.IntN(len(want) + 1)
		p := make([]byte, rng.IntN(min(1<<20, 4*int(q.ClusterSize()))))
		n, err := q.ReadAt(p, int64(off))
		whole := min(len(p), len(want)-off)
		if n != whole || (err != nil) != (whole < len(p)) || err != nil && err != io.EOF {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
		}
		if !bytes.Equal(p[:n], want[off:off+n]) {
			t.Fatalf("%d bytes at %d differ from QEMU's", n, off)
		}
	}
}

// checkLima compares with an independent reader, of images it knows.
func checkLima(t *testing.T, q *Reader, want []byte) {
	t.Helper()
	if q.Info().ExtendedL2 || q.Info().Compression == compressedZstd || q.ClusterSize() < 64<<10 {
		return // it does not know the first two, and fails at small compressed clusters
	}
	x, err := qcow2.Open(q.file, nil)
	if err != nil {
		t.Fatalf("go-qcow2reader: %v", err)
	}
	if err := x.Readable(); err != nil {
		t.Fatalf("go-qcow2reader: %v", err)
	}
	got := make([]byte, len(want))
	if n, err := x.ReadAt(got, 0); n != len(got) {
		t.Fatalf("go-qcow2reader read %d of %d: %v", n, len(got), err)
	}
	if !bytes.Equal(got, want) {
		t.Error("go-qcow2reader reads something else than QEMU")
	}
}

var optionSets = []string{
	"compat=0.10",
	"compat=0.10,cluster_size=512",
	"compat=0.10,cluster_size=2M",
	"compat=0.10,preallocation=metadata",
	"compat=1.1",
	"cluster_size=512",
	"cluster_size=1k,refcount_bits=1",
	"cluster_size=4k,refcount_bits=2,compression_type=zstd",
	"cluster_size=8k,refcount_bits=64",
	"cluster_size=32k,refcount_bits=32,lazy_refcounts=on",
	"cluster_size=128k,refcount_bits=4",
	"cluster_size=1M,compression_type=zstd",
	"cluster_size=2M,refcount_bits=8",
	"cluster_size=2M,compression_type=zstd",
	"compression_type=zstd",
	"compression_type=zstd,cluster_size=512",
	"extended_l2=on,cluster_size=16k",
	"extended_l2=on",
	"extended_l2=on,cluster_size=2M,compression_type=zstd",
	"extended_l2=on,compression_type=zstd,lazy_refcounts=on",
	"preallocation=metadata",
	"preallocation=falloc",
	"preallocation=full,cluster_size=4k",
	"preallocation=metadata,extended_l2=on",
}

// sizeFor gives a disk of a few L2 tables of small clusters, some large clusters,
// and an end within one.
func sizeFor(options string) int64 {
	if strings.Contains(options, "2M") || strings.Contains(options, "1M") {
		return 21<<20 + 3*512
	}
	return 2<<20 + 5*512
}

// TestReader compares histories of all sorts of images with QEMU.
func TestReader(t *testing.T) {
	base := seed(t)
	for i, options := range optionSets {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(base, uint64(i)))
			path, size := filepath.Join(t.TempDir(), "q"), sizeFor(options)
			newImage(t, path, options, size)
			checkReader(t, rng, path, nil)
			info := open(t, path).Info()
			random := fillFile(t, rng, 300<<10)
			work := func(n int) {
				change(t, path, commands(rng, size, info.ClusterSize, n))
				if info.RefcountBits >= 8 { // compressed clusters share a count
					change(t, path, packs(rng, size, info.ClusterSize))
				}
				tool(t, "qemu-img", "check", "-q", path)
			}
			work(25)
			change(t, path, []string{fmt.Sprintf("write -s %s %d 300k", random, rng.Int64N(size/2)/512*512)})
			checkReader(t, rng, path, nil)
			if info.RefcountBits <= 2 {
				return // too few for two snapshots
			}
			tool(t, "qemu-img", "snapshot", "-c", "one", path)
			work(15)
			tool(t, "qemu-img", "snapshot", "-c", "two", path)
			if rng.IntN(2) == 0 {
				tool(t, "qemu-img", "snapshot", "-a", "one", path)
			}
			work(5)
			if n := open(t, path).Info().Snapshots; n != 2 {
				t.Errorf("%d snapshots", n)
			}
			checkReader(t, rng, path, nil)
		})
	}
}

// TestReaderBacking reads overlays: of the same and of another size.
func TestReaderBacking(t *testing.T) {
	base := seed(t)
	for i, options := range []string{"cluster_size=64k", "compat=0.10,cluster_size=4k", "cluster_size=512", "extended_l2=on", "extended_l2=on,cluster_size=16k,compression_type=zstd"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(base, uint64(i)))
			dir, size := t.TempDir(), int64(2<<20+5*512)
			lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
			newImage(t, lower, "cluster_size=64k", size)
			change(t, lower, commands(rng, size, 64<<10, 20))
			grown := size + []int64{0, 512, 1 << 20}[rng.IntN(3)]
			newImage(t, upper, options, grown, "-b", "lower", "-F", "qcow2")
			change(t, upper, commands(rng, grown, open(t, upper).ClusterSize(), 20))
			q := open(t, upper)
			if name, format := q.Backing(); name != "lower" || format != "qcow2" {
				t.Errorf("backing file %q, format %q", name, format)
			}
			checkReader(t, rng, upper, rawContent(t, lower, "qcow2"))
		})
	}
}

// TestReaderConvert reads what qemu-img convert -c makes of real data.
func TestReaderConvert(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	text := bytes.Repeat([]byte("strongroom keeps what it is given. "), 20000)
	f := create(t, raw, 6<<20)
	for _, off := range []int64{0, 1 << 20, 3<<20 + 100, 4<<20 + 512} {
		if _, err := f.WriteAt(text[:200000+rng.IntN(400000)], off); err != nil {
			t.Fatal(err)
		}
	}
	for _, options := range []string{"compression_type=zlib", "compression_type=zstd", "cluster_size=512", "cluster_size=2M", "cluster_size=2M,compression_type=zstd", "extended_l2=on", "compat=0.10,cluster_size=4k"} {
		path := filepath.Join(dir, options)
		tool(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, path)
		checkReader(t, rng, path, nil)
	}
}

// TestReaderDirty reads an image whose writer died: its refcounts are wrong.
func TestReaderDirty(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	path := filepath.Join(t.TempDir(), "q")
	newImage(t, path, "lazy_refcounts=on,cluster_size=4k", 4<<20)
	change(t, path, append(commands(rng, 4<<20, 4096, 20), "flush", "abort"))
	info := open(t, path).Info()
	if !info.Dirty || !info.LazyRefcounts {
		t.Errorf("not dirty: %+v", info)
	}
	copied := filepath.Join(t.TempDir(), "copy") // QEMU repairs what it opens
	if _, err := create(t, copied, 0).Write(readFile(t, path)); err != nil {
		t.Fatal(err)
	}
	q := open(t, copied)
	got := make([]byte, q.Size())
	if _, err := q.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if err := q.Check(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, rawContent(t, path, "qcow2")) {
		t.Error("content differs from QEMU's")
	}
}

// TestReaderBitmaps reads an image with a persistent dirty bitmap and a machine's
// state, and one that was resized.
func TestReaderBitmaps(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	path := filepath.Join(t.TempDir(), "q")
	newImage(t, path, "cluster_size=64k", 8<<20)
	tool(t, "qemu-img", "bitmap", "--add", "-g", "512", path, "epoch")
	change(t, path, commands(rng, 8<<20, 64<<10, 20))
	change(t, path, []string{"write -b -P 5 0 200k"}) // a machine's state, behind the disk
	checkReader(t, rng, path, nil)
	tool(t, "qemu-img", "bitmap", "--remove", path, "epoch")
	tool(t, "qemu-img", "resize", "-q", "--shrink", path, fmt.Sprint(3<<20+512))
	checkReader(t, rng, path, nil)
	tool(t, "qemu-img", "resize", "-q", path, "40M")
	checkReader(t, rng, path, nil)
}

// TestReaderConcurrent reads one image, whose clusters are compressed, by several
// goroutines; small pieces come from the clusters unpacked last.
func TestReaderConcurrent(t *testing.T) {
	base := seed(t)
	for _, method := range []string{compressedZlib, compressedZstd} {
		path := filepath.Join(t.TempDir(), "q")
		newImage(t, path, "cluster_size=16k,compression_type="+method, 2<<20)
		change(t, path, packs(rand.New(rand.NewPCG(base, 0)), 2<<20, 16<<10))
		change(t, path, commands(rand.New(rand.NewPCG(base, 1)), 2<<20, 16<<10, 10))
		want := rawContent(t, path, "qcow2")
		q := open(t, path)
		var wg sync.WaitGroup
		for i := range uint64(4) {
			wg.Go(func() {
				if err := q.Check(); err != nil {
					t.Error(err)
				}
				rng := rand.New(rand.NewPCG(base, i))
				for range 200 {
					p := make([]byte, 1+rng.IntN(40<<10))
					off := rng.IntN(len(want) - len(p))
					if _, err := q.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:off+len(p)]) {
						t.Errorf("%d bytes at %d: %v", len(p), off, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestInfo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q")
	long := strings.Repeat("b", 1000)
	tool(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", "extended_l2=on,compression_type=zstd,lazy_refcounts=on,refcount_bits=32,cluster_size=128k", "-b", long, "-F", "vhdx", path, "1G")
	want := Info{Version: 3, ClusterSize: 128 << 10, Compression: "zstd", RefcountBits: 32, ExtendedL2: true, LazyRefcounts: true, BackingName: long, BackingFormat: "vhdx"}
	q := open(t, path)
	if q.Info() != want || q.Size() != 1<<30 {
		t.Errorf("%+v, want %+v", q.Info(), want)
	}
	if m := mappings(t, q); len(m) != 1 || m[0] != (Mapping{0, 1 << 30, Unallocated, 0}) {
		t.Errorf("%v", m)
	}
	newImage(t, path, "compat=0.10", 0)
	if got, want := open(t, path).Info(), (Info{Version: 2, ClusterSize: 65536, Compression: "zlib", RefcountBits: 16}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if m := mappings(t, open(t, path)); m != nil {
		t.Errorf("%v", m)
	}
}
