package imports

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRaw(t *testing.T) {
	rng := newRand(t)
	dir := t.TempDir()
	for _, size := range []int{1, 511, blockSize - 1, blockSize, blockSize + 1, unitSize - 1, unitSize, unitSize + 1, 40*unitSize + 513} {
		content := randomDisk(rng, size)
		path := put(t, dir, fmt.Sprintf("web.%d.raw", size), content)
		name := fmt.Sprintf("web.%d", size)
		mustBring(t, Options{Path: path}, map[string][]byte{name: content})
		mustBring(t, Options{Path: "-", Size: int64(size), Stdin: &pipe{content, rng}}, map[string][]byte{"vda": content})
	}
}

// TestSparse holds that holes of a file are not read, told in few requests, and
// that blocks of zeros in its data are zeros.
func TestSparse(t *testing.T) {
	const size = 64<<20 + 5
	content := make([]byte, size)
	content[30<<20] = 1
	content[50<<20+70000] = 1
	path := put(t, t.TempDir(), "a.raw", content)
	s, b := mustBring(t, Options{Path: path}, map[string][]byte{"a": content})
	if d := b.disks[0]; d.bytes != 2*blockSize || d.writes > 10 {
		t.Errorf("%d bytes of data in %d requests", d.bytes, d.writes)
	}
	if s.Format != Raw || s.Name != "a.raw" {
		t.Error(s.Format, s.Name)
	}
}

func TestStreamLength(t *testing.T) {
	content := bytes.Repeat([]byte{1}, 3*unitSize+7)
	for _, size := range []int64{1, 3 * unitSize, 3*unitSize + 6, 3*unitSize + 8, 4 * unitSize, 1 << 40} {
		s, err := Open(t.Context(), Options{Path: "-", Size: size, Stdin: bytes.NewReader(content), Disk: "a"})
		if err != nil {
			t.Fatal(err)
		}
		b := newBackup(t, &Source{Disks: []Disk{{"a", 4 * unitSize}}}) // not of 1 TiB
		b.disks[0].content = b.disks[0].content[:min(size, 4*unitSize)]
		if err := s.Copy(t.Context(), b.dial, nil); err == nil {
			t.Errorf("%d bytes were taken for %d", len(content), size)
		}
		s.Close()
	}
}

func TestDiskNames(t *testing.T) {
	dir := t.TempDir()
	for file, want := range map[string]string{
		"web1.raw": "web1", "web1.img": "web1", "web1.qcow2": "web1", "web1": "web1", "a.b.raw": "a.b", "-x.raw": "vda", "a b.raw": "vda", ".raw": "vda", "ä.raw": "vda",
	} {
		mustBring(t, Options{Path: put(t, dir, file, []byte{1})}, map[string][]byte{want: {1}})
		mustBring(t, Options{Path: filepath.Join(dir, file), Disk: "sda"}, map[string][]byte{"sda": {1}})
	}
	_, err := Open(t.Context(), Options{Path: put(t, dir, "x.raw", []byte{1}), Disk: "a/b"})
	if u := (*UsageError)(nil); !errors.As(err, &u) || u.Hint == "" {
		t.Error(err)
	}
}

func TestDetect(t *testing.T) {
	for head, want := range map[string]Format{
		"VMA\x00\x00\x00\x00\x01": VMA, "QFI\xfb\x00\x00\x00\x03": QCOW2, "VMAE": Raw, "QFI": Raw, "": Raw, "\xeb\x63\x90": Raw, "LUKS\xba\xbe": Raw,
		"\x28\xb5\x2f\xfd": "", "\x1f\x8b\x08": "", "\x89LZO\x00\r\n\x1a\n": "", "\xfd7zXZ\x00": "", "KDMV": "", "vhdxfile": "", "conectix": "", "# Disk DescriptorFile\n": "",
		string(make([]byte, 64)) + "\x7f\x10\xda\xbe": "", string(make([]byte, 63)): Raw,
	} {
		got, err := Detect([]byte(head), "FILE")
		var u *UsageError
		if got != want || (want == "") != (errors.As(err, &u) && u.Hint != "") {
			t.Errorf("%q: %q, %v", head, got, err)
		}
	}
}

func TestNotImages(t *testing.T) {
	dir := t.TempDir()
	command(t, dir, "mkfifo", "pipe")
	for _, path := range []string{filepath.Join(dir, "none"), put(t, dir, "empty", nil), dir, filepath.Join(dir, "pipe"), "/dev/null"} {
		if s, err := Open(t.Context(), Options{Path: path}); err == nil {
			s.Close()
			t.Errorf("%s was taken", path)
		}
	}
	if _, err := Open(t.Context(), Options{Path: "-", Stdin: bytes.NewReader(nil)}); err == nil {
		t.Error("nothing was taken")
	}
}

// TestChanging refuses a disk that somebody writes to.
func TestChanging(t *testing.T) {
	path := put(t, t.TempDir(), "a.raw", randomDisk(newRand(t), 5*unitSize))
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := newBackup(t, s)
	touch := sync.OnceValue(func() error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte{1}, 100)
			err = errors.Join(err, f.Close())
		}
		return err
	})
	b.fail = func(int, int64) error { return touch() }
	if err := s.Copy(t.Context(), b.dial, nil); err == nil || !strings.Contains(err.Error(), "was written to while it was read") {
		t.Error(err)
	}
}
