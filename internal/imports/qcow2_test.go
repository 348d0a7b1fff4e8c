package imports

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/qcow2"
)

// asRaw is the disk of an image as QEMU sees it.
func asRaw(t testing.TB, dir, image string) []byte {
	t.Helper()
	command(t, dir, "qemu-img", "convert", "-O", "raw", image, "as.raw")
	return readFile(t, filepath.Join(dir, "as.raw"))
}

func TestQCOW2(t *testing.T) {
	rng := newRand(t)
	dir := t.TempDir()
	content := randomDisk(rng, 9<<20+512)
	put(t, dir, "in.raw", content)
	for _, o := range []string{
		"cluster_size=64k", "cluster_size=512", "cluster_size=2M", "compat=0.10", "extended_l2=on", "cluster_size=16k,extended_l2=on", "preallocation=metadata", "lazy_refcounts=on",
	} {
		command(t, dir, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", o, "in.raw", "a.qcow2")
		command(t, dir, "qemu-io", "-f", "qcow2", "-c", "write -z 1M 300k", "-c", "write -P 3 5000000 70000", "a.qcow2")
		mustBring(t, Options{Path: filepath.Join(dir, "a.qcow2")}, map[string][]byte{"a": asRaw(t, dir, "a.qcow2")})
	}
	for _, o := range []string{"compression_type=zlib", "compression_type=zstd", "compression_type=zstd,cluster_size=512k", "compat=0.10,cluster_size=4k"} {
		command(t, dir, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", o, "in.raw", "c.qcow2")
		mustBring(t, Options{Path: filepath.Join(dir, "c.qcow2")}, map[string][]byte{"c": content})
	}
}

// TestBacking imports chains whose layers are of different lengths and clusters.
func TestBacking(t *testing.T) {
	rng := newRand(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "base.raw", randomDisk(rng, 5<<20+512))
	command(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", "../base.raw", "-F", "raw", "sub/one.qcow2", "7M")
	command(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=256k", "-b", "sub/one.qcow2", "-F", "qcow2", "two.qcow2", "3M")
	command(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "-b", filepath.Join(dir, "two.qcow2"), "-F", "qcow2", "three.qcow2", "9M")
	for i, image := range []string{"sub/one.qcow2", "two.qcow2", "three.qcow2"} {
		var args []string
		for range 12 {
			off := rng.IntN(3 << 11)
			n := 1 + rng.IntN((3<<11-off)/4+1)
			args = append(args, "-c", fmt.Sprintf("write -%s %d %d", []string{"z", fmt.Sprintf("P %d", i+1)}[rng.IntN(2)], off*512, n*512))
		}
		command(t, dir, "qemu-io", append(args, "-f", "qcow2", image)...)
		path := filepath.Join(dir, image)
		_, err := Open(t.Context(), Options{Path: path})
		if u := (*UsageError)(nil); !errors.As(err, &u) || !strings.Contains(u.Hint, "--backing") {
			t.Errorf("without --backing: %v", err)
		}
		name := strings.TrimSuffix(filepath.Base(image), ".qcow2")
		mustBring(t, Options{Path: path, Backing: true}, map[string][]byte{name: asRaw(t, dir, image)})
	}
}

func TestBackingRefused(t *testing.T) {
	dir := t.TempDir()
	create := func(name, backing, format string) {
		args := []string{"create", "-q", "-f", "qcow2", "-u", "-b", backing}
		if format != "" {
			args = append(args, "-F", format)
		}
		command(t, dir, "qemu-img", append(args, name, "1M")...)
	}
	create("missing.qcow2", "nowhere.qcow2", "qcow2")
	create("network.qcow2", "nbd://localhost/x", "raw")
	create("json.qcow2", `json:{"driver":"null-co"}`, "raw")
	create("folder.qcow2", dir, "raw")
	create("device.qcow2", "/dev/zero", "raw")
	create("self.qcow2", "./self.qcow2", "qcow2")
	create("ping.qcow2", "pong.qcow2", "qcow2")
	create("pong.qcow2", "ping.qcow2", "qcow2")
	create("vmdk.qcow2", "self.qcow2", "vmdk")
	create("untold.qcow2", "end.qcow2", "qcow2")
	command(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "end.qcow2", "1M")
	command(t, dir, "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "end.qcow2", "-F", "qcow2", "untold.qcow2")
	forgetFormat(t, filepath.Join(dir, "untold.qcow2"))
	for name, want := range map[string]string{
		"missing": "nowhere.qcow2: no such file", "network": "is no file", "json": "is no file", "folder": "no regular file", "device": "no regular file",
		"self": "its own backing file", "ping": "its own backing file", "vmdk": "does not tell", "untold": "does not tell",
	} {
		s, err := Open(t.Context(), Options{Path: filepath.Join(dir, name+".qcow2"), Backing: true})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// forgetFormat makes the extension with the backing file's format an unknown one.
func forgetFormat(t *testing.T, path string) {
	t.Helper()
	b := readFile(t, path)
	i := bytes.Index(b[:4096], []byte{0xe2, 0x79, 0x2a, 0xca})
	if i < 0 {
		t.Fatal("no extension")
	}
	b[i] = 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedQCOW2(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "in.raw", randomDisk(newRand(t), 5<<20))
	command(t, dir, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "in.raw", "a.qcow2")
	whole := readFile(t, filepath.Join(dir, "a.qcow2"))
	for _, n := range []int{10, 100, 70000, 300000, len(whole) - 70000} {
		_, _, err := bring(t, Options{Path: put(t, dir, "cut.qcow2", whole[:n])})
		var f *qcow2.FormatError
		if !errors.As(err, &f) || !strings.Contains(err.Error(), "cut.qcow2") {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := Open(t.Context(), Options{Path: "-", Stdin: bytes.NewReader(whole)}); err == nil {
		t.Error("taken from standard input")
	}
}
