package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// TestFileFormats drops one disk in every format QEMU writes qcow2 in, and raw.
// They are all the same image, and cost what one of them costs.
func TestFileFormats(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	const mib = 1 << 20
	disk := s.scattered("disk.raw", 24*mib+512, extent{0, 3 * mib}, extent{5*mib + 4096, 100 << 10}, extent{9*mib + 512, mib}, extent{24 * mib, 512})
	d := s.drop("vm")
	dir := d.mount()
	convert := map[string][]string{
		"v2":      {"-o", "compat=0.10"},
		"v3":      {},
		"zlib":    {"-c"},
		"zstd":    {"-c", "-o", "compression_type=zstd"},
		"c512":    {"-o", "cluster_size=512"},
		"c4k":     {"-o", "cluster_size=4k"},
		"c2m":     {"-o", "cluster_size=2M"},
		"sub":     {"-o", "extended_l2=on,cluster_size=128k"},
		"sub16":   {"-o", "extended_l2=on,cluster_size=16k"},
		"lazy":    {"-o", "lazy_refcounts=on"},
		"meta":    {"-o", "preallocation=metadata"},
		"ref64":   {"-o", "refcount_bits=64"},
		"full":    {"-S", "0"},
		"zlib4k":  {"-c", "-o", "cluster_size=4k"},
		"zstdsub": {"-c", "-o", "compression_type=zstd,extended_l2=on,cluster_size=128k"},
	}
	var names []string
	for name, options := range convert {
		names = append(names, name)
		s.tool("qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), disk, filepath.Join(dir, name+".qcow2"))...)
	}
	snap := filepath.Join(dir, "snap.qcow2")
	s.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", base.Path, snap)
	s.tool("qemu-img", "snapshot", "-c", "before", snap)
	s.tool("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", s.rewritten(snap, disk), fmt.Sprint(24*mib+512))
	s.tool("qemu-img", "bitmap", "--add", "-f", "qcow2", snap, "b0")
	s.must(testdisk.Copy(disk, filepath.Join(dir, "raw.raw")), testdisk.Copy(disk, filepath.Join(dir, "img.img")))
	names = append(names, "snap", "raw", "img")
	r := d.commit(names...)
	root := image(s, r, "raw").Root
	for _, name := range names {
		if i := image(s, r, name); i.Root != root || i.Size != 24*mib+512 || i.Mode != "full" {
			t.Errorf("%s is another image: %+v", name, i)
		}
		s.same("vm", name, r.Point, disk)
	}
}

// rewritten makes the guest's content of a qcow2 with a snapshot that of another
// disk, in place, and returns its path.
func (s *scene) rewritten(qcow2, disk string) string {
	s.Helper()
	s.tool("qemu-img", "snapshot", "-d", "before", qcow2)
	s.tool("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", qcow2, fmt.Sprint(sizeOf(s, disk)))
	s.tool("qemu-img", "convert", "-n", "-S", "0", "-f", "raw", "-O", "qcow2", disk, qcow2)
	s.tool("qemu-img", "snapshot", "-c", "after", qcow2)
	s.tool("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 12M 1M", "-c", "write -q -z 12M 1M", qcow2)
	return qcow2
}

func sizeOf(s *scene, path string) int64 {
	s.Helper()
	info, err := os.Stat(path)
	s.must(err)
	return info.Size()
}

// TestFileFormatsRefused drops what cannot be understood: each is refused by
// name, with the reason, and what can be understood is committed without it.
func TestFileFormatsRefused(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	d := s.drop("vm")
	dir := d.mount()
	create := func(args ...string) func(string) {
		return func(file string) {
			s.tool("qemu-img", append(append([]string{"create", "-q", "-f", "qcow2"}, args...), file, "16M")...)
		}
	}
	broken := func(off int64, bytes ...byte) func(string) {
		return func(file string) {
			s.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", base.Path, file)
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			s.must(err)
			_, err = f.WriteAt(bytes, off)
			s.must(err, f.Close())
		}
	}
	for what, c := range map[string]struct {
		make func(file string)
		says string
	}{
		"an encrypted disk":         {create("--object", "secret,id=s,data=geheim", "-o", "encrypt.format=aes,encrypt.key-secret=s"), "encrypt"},
		"a disk with its data away": {create("-o", "data_file="+filepath.Join(dir, "elsewhere"), "-o", "data_file_raw=on"), "data_file"},
		"a disk QEMU calls corrupt": {broken(79, 2), "corrupt"},
		"a table behind the end":    {broken(40, 0x00, 0x7f), ""},
		"a disk cut short":          {func(file string) { broken(0, 'Q')(file); s.must(os.Truncate(file, 300<<10)) }, ""},
		"a disk of 2^60 bytes":      {broken(24, 0x10), ""},
		"an unknown feature":        {broken(72, 0x40), "feature"},
		"clusters of 2^63 bytes":    {broken(20, 0, 0, 0, 63), "cluster"},
		"text":                      {func(file string) { s.put(file, []byte("I am no disk at all")) }, ""},
		"nothing":                   {func(file string) { s.put(file, nil) }, ""},
	} {
		file := filepath.Join(dir, "vda.qcow2")
		c.make(file)
		_, err := s.srv.Commit(s.ctx, d.Session)
		s.refusedAs(what, err, "vda.qcow2", c.says)
		s.must(os.Remove(file))
		_ = os.Remove(filepath.Join(dir, "elsewhere"))
	}
	if n := s.points("vm"); n != 0 {
		t.Errorf("%d points", n)
	}
	s.tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", base.Path, filepath.Join(dir, "vda.qcow2"))
	s.same("vm", "vda", d.commit("vda").Point, base.Path)
}

func (s *scene) refusedAs(what string, err error, words ...string) {
	s.Helper()
	if err == nil {
		s.Fatalf("%s was committed", what)
	}
	s.Logf("%s: %v", what, strings.SplitN(err.Error(), "\n", 2)[0])
	for _, w := range words {
		if !strings.Contains(strings.ToLower(err.Error()), w) {
			s.Errorf("%s: %q is not in the refusal: %v", what, w, err)
		}
	}
}

// TestFilesBesideNBD makes one point of a disk that came by NBD, one that came
// as a file, a blob and a note.
func TestFilesBesideNBD(t *testing.T) {
	t.Parallel()
	s := newFileScene(t)
	guests := []*guest{newGuest(s, "vda", "qcow2"), newGuest(s, "vdb", "raw")}
	guests[1].edit(3, 9)
	d := s.drop("vm", "--disk", fmt.Sprintf("vdb=%d", guests[1].size()), "--blob", "domain.xml="+base.Files[0])
	dir := d.mount()
	guests[0].fullToFile(filepath.Join(dir, "vda.qcow2"), "qcow2", "b0")
	s.put(filepath.Join(dir, "note"), []byte("beside"))
	s.connect(d.Backup)
	s.must(s.qsd.Transaction(s.ctx, guests[1].copyAll()), s.qsd.Wait(s.ctx, job("vdb")))
	s.disconnect(d.Backup)
	r := d.commit("vda", "vdb")
	for _, g := range guests {
		s.restored("vm", g.node, r.Point, g.model.Path)
	}
	at := filepath.Join(s.restores("vm"), r.Point)
	s.sameFile(filepath.Join(at, "files", "note"), []byte("beside"))
	s.must(testdisk.Equal(base.Files[0], filepath.Join(at, "domain.xml")))
	// The next incremental of the file's disk may come by NBD.
	guests[0].use(1)
	b := s.start("vm", guests[:1], "--mode", "incremental", "--parent", r.Point)
	s.connect(b)
	s.must(s.qsd.Transaction(s.ctx, guests[0].copyDirty("b0")), s.qsd.Wait(s.ctx, job("vda")))
	s.disconnect(b)
	s.restored("vm", "vda", s.commit(b).Point, guests[0].model.Path)
}
