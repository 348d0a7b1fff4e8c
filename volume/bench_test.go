package volume

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/tier"
)

// realBytes are n bytes of this machine's libraries and programs, which is what
// system disks hold.
func realBytes(b *testing.B, n int) []byte {
	b.Helper()
	out := make([]byte, 0, n)
	_ = filepath.WalkDir("/usr", func(path string, d fs.DirEntry, err error) error {
		if len(out) == n {
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && len(data) > 32<<10 {
			out = append(out, data[:min(len(data), n-len(out))]...)
		}
		return nil
	})
	if len(out) < n {
		b.Fatalf("/usr has only %d bytes", len(out))
	}
	return out
}

func benchManager(b *testing.B) *Manager {
	b.Helper()
	dir := b.TempDir()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	tr, err := tier.CreateDir(vfs.Default, dir+"/tier0", [16]byte{1})
	must(err)
	store, err := dedup.Open(dedup.Options{FS: vfs.Default, Dir: dir + "/index", Tier: tr, StoreID: [16]byte{1}})
	must(err)
	cat, err := catalog.Open(catalog.Options{FS: vfs.Default, Dir: dir + "/catalog", MetaDir: dir + "/tier0/meta", StoreID: [16]byte{1}, RootHash: store.RootHash})
	must(err)
	m, err := OpenManager(Options{FS: vfs.Default, Dir: dir + "/sessions", Blocks: store, Catalog: cat})
	must(err)
	b.Cleanup(func() { must(m.Close()); must(cat.Close()); must(store.Close()) })
	return m
}

func benchDisk(b *testing.B, m *Manager, mode string, size int64) (string, *Disk) {
	b.Helper()
	st, err := m.Start(StartRequest{VM: "vm", Mode: mode, Disks: []DiskSpec{{"vda", size}}})
	if err != nil {
		b.Fatal(err)
	}
	d, err := m.OpenExport(st.Disks[0].Token)
	if err != nil {
		b.Fatal(err)
	}
	return st.Session, d
}

// writeAll writes data in 1 MiB requests, sixteen at a time, as QEMU does.
func writeAll(b *testing.B, d io.WriterAt, data []byte) { writeSome(b, d, data, 16) }

func writeSome(b *testing.B, d io.WriterAt, data []byte, flying int) {
	var next atomic.Int64
	done := make(chan error, flying)
	for range flying {
		go func() {
			for {
				off := next.Add(1<<20) - 1<<20
				if off >= int64(len(data)) {
					done <- nil
					return
				}
				if _, err := d.WriteAt(data[off:min(off+1<<20, int64(len(data)))], off); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range flying {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

const benchBytes = 512 << 20

func BenchmarkFullBackup(b *testing.B) {
	data := realBytes(b, benchBytes)
	b.SetBytes(benchBytes)
	for b.Loop() {
		b.StopTimer()
		m := benchManager(b)
		id, d := benchDisk(b, m, "full", benchBytes)
		b.StartTimer()
		writeAll(b, d, data)
		if _, err := m.Commit(id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFile is a raw disk image that arrives as a file, becomes the disk's
// image, and is committed.
func BenchmarkFile(b *testing.B) {
	data := realBytes(b, benchBytes)
	b.SetBytes(benchBytes)
	for b.Loop() {
		b.StopTimer()
		m := benchManager(b)
		st, err := m.Start(StartRequest{VM: "vm", Files: true})
		if err != nil {
			b.Fatal(err)
		}
		x, err := m.CreateFile(st.Session, "vda.raw", 0o600)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		writeSome(b, x, data, 8)
		begun := time.Now()
		d, err := m.AddDisk(st.Session, DiskImport{Disk: "vda", Size: benchBytes, Source: "vda.raw"})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.CopyBlocks(x, 0, 0, benchBytes); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms/import")
		if _, err := m.Commit(st.Session); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnchangedBackup sends again, in full, what the server has.
func BenchmarkUnchangedBackup(b *testing.B) {
	data := realBytes(b, benchBytes)
	m := benchManager(b)
	id, d := benchDisk(b, m, "full", benchBytes)
	writeAll(b, d, data)
	if _, err := m.Commit(id); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchBytes)
	for b.Loop() {
		id, d := benchDisk(b, m, "full", benchBytes)
		writeAll(b, d, data)
		if _, err := m.Commit(id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	data := realBytes(b, benchBytes)
	m := benchManager(b)
	id, d := benchDisk(b, m, "full", benchBytes)
	writeAll(b, d, data)
	r, err := m.Commit(id)
	if err != nil {
		b.Fatal(err)
	}
	im, err := m.OpenImage(r.Point, "vda")
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]struct {
		size int64
		step int64
	}{
		"sequential256K": {256 << 10, 256 << 10},
		"sequential2M":   {2 << 20, 2 << 20},
		"random64K":      {64 << 10, 37 * 64 << 10},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(c.size)
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, c.size)
				for pb.Next() {
					off := next.Add(c.step) % (benchBytes - c.size) / c.size * c.size
					if _, err := im.ReadAt(buf, off); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkZeroes is the holes of a full backup: 1 MiB WRITE_ZEROES each.
func BenchmarkZeroes(b *testing.B) {
	m := benchManager(b)
	const size = 1 << 40
	_, d := benchDisk(b, m, "full", size)
	off := int64(0)
	for b.Loop() {
		if err := d.Zero(off%size, 1<<20); err != nil {
			b.Fatal(err)
		}
		off += 1 << 20
	}
}
