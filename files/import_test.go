package files

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/volume"
)

// nbd backs a disk up as the NBD server would.
func (w *world) nbd(vm, disk string, content []byte) volume.Receipt {
	w.t.Helper()
	st, err := w.m.Start(volume.StartRequest{VM: vm, Disks: []volume.DiskSpec{{Name: disk, Size: int64(len(content))}}, Mode: "full"})
	if err != nil {
		w.t.Fatal(err)
	}
	x, err := w.m.OpenExport(st.Disks[0].Token)
	if err != nil {
		w.t.Fatal(err)
	}
	for off := 0; off < len(content); off += 1 << 20 {
		if _, err := x.WriteAt(content[off:min(off+1<<20, len(content))], int64(off)); err != nil {
			w.t.Fatal(err)
		}
	}
	x.Close()
	r, err := w.m.Commit(st.Session)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// What qemu-img makes of a disk, in every form, is the image that NBD makes.
func TestImportFull(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	content := disk(r, 9<<20+17*512)
	copy(content[3<<20+5000:], bytes.Repeat([]byte("squeeze me "), 90_000))
	raw := local(t, dir, "disk.raw", content)
	w := newWorld(t)
	want := w.nbd("vm", "vda", content)
	forms := []struct{ name, opts string }{
		{"default", ""}, {"v2", "compat=0.10"}, {"c512", "cluster_size=512"}, {"c4k", "cluster_size=4096"}, {"c32k", "cluster_size=32k"},
		{"c2m", "cluster_size=2M"}, {"sub", "extended_l2=on,cluster_size=128k"}, {"sub64", "extended_l2=on"},
		{"zlib", "-c"}, {"zstd", "-c compression_type=zstd"}, {"zlib4k", "-c cluster_size=4096"}, {"prealloc", "preallocation=metadata"},
		{"refcount1", "refcount_bits=1"}, {"lazy", "lazy_refcounts=on"},
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			w.within(t)
			path := filepath.Join(dir, f.name+".qcow2")
			args := []string{"qemu-img", "convert", "-f", "raw", "-O", "qcow2"}
			opts := f.opts
			if len(opts) >= 2 && opts[:2] == "-c" {
				args = append(args, "-c")
				opts = opts[min(3, len(opts)):]
			}
			if opts != "" {
				args = append(args, "-o", opts)
			}
			qemu(t, append(args, raw, path)...)
			file := slurp(t, path)
			got := w.backup("vm", map[string][]byte{"/vda.qcow2": file})
			if root(got, "vda") != root(want, "vda") {
				if !bytes.Equal(w.image(got.Point, "vda"), content) {
					t.Error("the image has another content")
				}
				t.Errorf("root %s, over NBD %s", root(got, "vda"), root(want, "vda"))
			}
			if back := w.image(got.Point, "/vda.qcow2"); !bytes.Equal(back, file) {
				t.Error("the file is not as it was sent")
			}
			if got.Images[0].Mode != "full" || got.Files[0].Disk != "vda" {
				t.Errorf("receipt %+v", got)
			}
		})
	}
	t.Run("raw", func(t *testing.T) {
		for _, name := range []string{"/vda.raw", "/vda.img"} {
			got := w.backup("vm", map[string][]byte{name: content})
			if root(got, "vda") != root(want, "vda") {
				t.Errorf("%s: another root", name)
			}
		}
	})
}

// overlay makes a qcow2 over another, with changes written by qemu-io.
func overlay(t *testing.T, dir, name, backing, opts string, size int64, cmds ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	args := []string{"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2"}
	if opts != "" {
		args = append(args, "-o", opts)
	}
	args = append(args, path)
	if size > 0 {
		args = append(args, fmt.Sprint(size))
	}
	qemu(t, args...)
	io := []string{"qemu-io", "-f", "qcow2"}
	for _, c := range cmds {
		io = append(io, "-c", c)
	}
	qemu(t, append(io, path)...)
	return path
}

// Overlays become incremental images that read as QEMU reads the chain.
func TestImportIncremental(t *testing.T) {
	for _, opts := range []string{"", "cluster_size=4k", "extended_l2=on,cluster_size=128k", "cluster_size=2M"} {
		t.Run(opts, func(t *testing.T) {
			r := seeded(t)
			dir := t.TempDir()
			w := newWorld(t)
			content := disk(r, 6<<20)
			local(t, dir, "disk.raw", content)
			qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", filepath.Join(dir, "disk.raw"), filepath.Join(dir, "vda.qcow2"))
			w.backup("vm", map[string][]byte{"/vda.qcow2": slurp(t, filepath.Join(dir, "vda.qcow2"))})

			below := "vda.qcow2" // what the newest image came as
			for i, cmds := range [][]string{
				{"write -P 7 65536 65536", "write -P 8 300000 100", "write -z 1M 1M", "write -P 9 5M 512"},
				{"write -P 1 0 512", "discard 2M 640k", "write -z 3M 70000"},
				{"write -P 3 6M 512k", "write -P 4 1M 4k"}, // grown
			} {
				size := int64(0)
				if i == 2 {
					size = 7<<20 + 512
				}
				name := fmt.Sprintf("inc%d.qcow2", i)
				path := overlay(t, dir, name, below, opts, size, cmds...)
				got := w.backup("vm", map[string][]byte{"/" + "vda.qcow2": slurp(t, path)}, func(q *volume.StartRequest) { q.Mode = "incremental" })
				if got.Images[0].Mode != "incremental" {
					t.Fatalf("mode %s", got.Images[0].Mode)
				}
				flat := filepath.Join(dir, "flat.raw")
				qemu(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, flat)
				if !bytes.Equal(w.image(got.Point, "vda"), slurp(t, flat)) {
					t.Fatalf("increment %d reads differently", i)
				}
				os.Remove(flat)
				below = name
			}
		})
	}
}
