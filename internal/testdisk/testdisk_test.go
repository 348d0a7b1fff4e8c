package testdisk

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestExt4AndEdit(t *testing.T) {
	dir := t.TempDir()
	d, err := NewExt4(filepath.Join(dir, "a.raw"), 64<<20, 24<<20, "/usr/share", "/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	if d.Bytes < 24<<20 || len(d.Files) < 20 {
		t.Fatalf("%d bytes in %d files", d.Bytes, len(d.Files))
	}
	if err := Check(d.Path); err != nil {
		t.Fatal(err)
	}
	before := filepath.Join(dir, "before.raw")
	if err := Copy(d.Path, before); err != nil {
		t.Fatal(err)
	}
	if err := Equal(before, d.Path); err != nil {
		t.Fatal(err)
	}
	changed, err := d.Edit(1, 10)
	if err != nil || changed == 0 {
		t.Fatalf("%d files changed, %v", changed, err)
	}
	if err := Check(d.Path); err != nil {
		t.Fatal(err)
	}
	if err := Equal(before, d.Path); err == nil {
		t.Fatal("the edit changed nothing")
	}
	if err := apply(before, d.Path); err != nil {
		t.Fatal(err)
	}
	if err := Equal(before, d.Path); err != nil {
		t.Fatalf("after the difference was written: %v", err)
	}
}

// apply writes what differs in now to the file before.
func apply(before, now string) error {
	f, err := os.OpenFile(before, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return Diff(before, now, func(off int64, data []byte) error {
		_, err := f.WriteAt(data, off)
		return err
	})
}

func TestDiff(t *testing.T) {
	dir := t.TempDir()
	a, b := make([]byte, 700<<10+100), make([]byte, 700<<10+100)
	for _, off := range []int{0, 4096, 300 << 10, 700<<10 + 99} {
		b[off] = 1
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var got [][2]int64
	err := Diff(write("a", a), write("b", b), func(off int64, data []byte) error {
		got = append(got, [2]int64{off, int64(len(data))})
		return nil
	})
	want := [][2]int64{{0, 8192}, {300 << 10, 4096}, {700 << 10, 100}}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v; %v", got, want, err)
	}
}

func TestTooLittleContent(t *testing.T) {
	_, err := NewExt4(filepath.Join(t.TempDir(), "a.raw"), 64<<20, 1<<30, t.TempDir())
	if !errors.Is(err, ErrTooFewFiles) {
		t.Fatalf("an image of nothing: %v", err)
	}
}
