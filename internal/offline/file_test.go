package offline

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/volume"
)

// folder is what a session for files is given.
type folder map[string][]byte

// put writes the blocks of p that are not zeros, and makes the file as long
// as p.
func (w *world) put(session, name string, p []byte) *volume.File {
	w.t.Helper()
	x, err := w.vols.CreateFile(session, name, 0o644)
	w.must(err)
	for off := 0; off < len(p); off += dedup.BlockSize {
		part := p[off:min(off+dedup.BlockSize, len(p))]
		if len(bytes.Trim(part, "\x00")) > 0 {
			_, err := x.WriteAt(part, int64(off))
			w.must(err)
		}
	}
	w.must(x.Truncate(int64(len(p))))
	return x
}

// keep makes a point of files. The one named image, if any, is understood as
// the disk vda.
func (w *world) keep(vm string, files folder, image string) (point string) {
	w.t.Helper()
	st, err := w.vols.Start(volume.StartRequest{VM: vm, Files: true})
	w.must(err)
	for name, p := range files {
		x := w.put(st.Session, name, p)
		if name == image {
			size := int64(len(p))
			d, err := w.vols.AddDisk(st.Session, volume.DiskImport{Disk: "vda", Size: size, Source: name})
			w.must(err)
			w.must(errors.Join(d.CopyBlocks(x, 0, 0, size), d.Close()))
		}
		w.must(x.Close())
	}
	rec, err := w.vols.Commit(st.Session)
	w.must(err)
	return rec.Point
}

// withFiles is a world with two more points: one of files alone, and one of a
// disk and its file.
func withFiles(t *testing.T) (w *world, alone, mixed string, first, second folder) {
	w = newWorld(t)
	rng := rand.New(rand.NewPCG(3, 4))
	long := make([]byte, dedup.ChunkSize+3*dedup.BlockSize+77)
	copy(long, noise(rng, 3*dedup.BlockSize+5))
	copy(long[len(long)-500:], noise(rng, 500))
	first = folder{"a/b ü@1.qcow2": long, "notes.txt": []byte("note\n"), "empty": {}, "zeros": make([]byte, 2*dedup.BlockSize+9),
		"tail": append([]byte("x"), make([]byte, 99_999)...)}
	second = folder{"vda.raw": noise(rng, 5*dedup.BlockSize+512), "notes.txt": []byte("other\n")}
	return w, w.keep("shop", first, ""), w.keep("shop", second, "vda.raw"), first, second
}

func (w *world) checkFiles(s *Store, point string, files folder) {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "out")
	for name, want := range files {
		stream := &comparer{want: want}
		for _, o := range []ExportOptions{{File: name, To: stream}, {File: name, Path: out, Force: true, Format: restore.Raw}} {
			r, err := s.Export(w.t.Context(), point, o)
			if err != nil {
				w.t.Errorf("file %q: %v", name, err)
				continue
			}
			if !r.Verified || r.Point != point || r.VM != "shop" || r.Disk != "" || r.File != name || r.Size != int64(len(want)) || r.Data > r.Size || len(r.Root) != 64 {
				w.t.Errorf("report %+v", r)
			}
		}
		if stream.differs || len(stream.want) > 0 {
			w.t.Errorf("file %q, streamed: the content differs", name)
		}
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got, want) {
			w.t.Errorf("file %q: the content differs: %v", name, err)
		}
		var st syscall.Stat_t
		w.must(syscall.Stat(out, &st))
		if len(want) > dedup.ChunkSize && st.Blocks*512 > int64(len(want))/2 {
			w.t.Errorf("file %q takes %d bytes: not sparse", name, st.Blocks*512)
		}
	}
}

func TestFiles(t *testing.T) {
	w, alone, mixed, first, second := withFiles(t)
	w.checkFiles(w.open(), alone, first) // beside a server
	w.stop()
	w.loseDatabases()
	before := w.fingerprint()
	s := w.open()
	list, err := s.List("shop")
	w.must(err)
	if len(list) != 2 || len(list[0].Files) != len(first) || len(list[0].Images) != 0 || len(list[1].Images) != 1 {
		t.Fatalf("points %+v", list)
	}
	if f, ok := list[1].File("vda.raw"); !ok || f.Disk != "vda" || f.Size != int64(len(second["vda.raw"])) {
		t.Errorf("%+v, %v", f, ok)
	}
	w.checkFiles(s, alone, first)
	w.checkFiles(s, mixed, second)
	disk := &comparer{want: second["vda.raw"]}
	if r, err := s.Export(t.Context(), "shop", ExportOptions{To: disk}); err != nil || r.Disk != "vda" || r.File != "" || disk.differs || len(disk.want) > 0 {
		t.Errorf("the disk beside the file: %+v, %v", r, err)
	}
	w.must(s.Close())
	if after := w.fingerprint(); after != before {
		t.Errorf("the directory was\n%sand is\n%s", before, after)
	}
}

func TestFilesInTrash(t *testing.T) {
	w, alone, _, first, _ := withFiles(t)
	p, err := w.cat.Point(alone)
	w.must(err)
	w.must(w.cat.Trash(alone, p.Time.AddDate(1, 0, 0)))
	w.stop()
	w.loseDatabases()
	w.checkFiles(w.open(), alone, first)
}

func TestFileRefusals(t *testing.T) {
	w, alone, mixed, _, _ := withFiles(t)
	w.stop()
	s, out := w.open(), t.TempDir()
	full := filepath.Join(out, "full")
	w.must(os.WriteFile(full, []byte("mine"), 0o600))
	sink := new(bytes.Buffer)
	both := func(target error, text string) func(error) bool {
		return func(err error) bool { return is(target)(err) && says(text)(err) }
	}
	for _, x := range []struct {
		name, ref string
		o         ExportOptions
		want      func(error) bool
	}{
		{"no such file", alone, ExportOptions{To: sink, File: "nosuch"}, both(catalog.ErrNotFound, `"a/b ü@1.qcow2", "empty", "notes.txt"`)},
		{"a slash before it", alone, ExportOptions{To: sink, File: "/notes.txt"}, is(catalog.ErrNotFound)},
		{"no files", "web", ExportOptions{To: sink, File: "vda"}, both(catalog.ErrNotFound, "no files, only the disks vda")},
		{"no disk", alone, ExportOptions{To: sink}, both(catalog.ErrNotFound, "--file")},
		{"a disk of files", alone, ExportOptions{To: sink, Disk: "vda"}, both(catalog.ErrNotFound, `only the files "a/b`)},
		{"a file for a disk", mixed, ExportOptions{To: sink, Disk: "vda.raw"}, both(catalog.ErrNotFound, "one of its 2 files with --file")},
		{"a file as a disk", mixed, ExportOptions{To: sink, Disk: catalog.FileKey("vda.raw")}, is(catalog.ErrNotFound)},
		{"with a disk", "shop/vda", ExportOptions{To: sink, File: "vda.raw"}, says("no disk")},
		{"with another disk", mixed, ExportOptions{To: sink, File: "vda.raw", Disk: "vda"}, says("no disk")},
		{"with a format", mixed, ExportOptions{To: sink, File: "vda.raw", Format: restore.QCOW2}, says("no format")},
		{"exists", mixed, ExportOptions{Path: full, File: "vda.raw"}, is(fs.ErrExist)},
		{"broken pipe", mixed, ExportOptions{To: brokenPipe{}, File: "vda.raw"}, is(syscall.EPIPE)},
	} {
		if _, err := s.Export(t.Context(), x.ref, x.o); !x.want(err) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if names, err := os.ReadDir(out); err != nil || len(names) != 1 || sink.Len() != 0 {
		t.Errorf("%v left behind, %v; %d bytes written", names, err, sink.Len())
	}
}

// TestDamagedFiles: of files in damaged packs nothing is written, or all but
// what is damaged, at the right place and length.
func TestDamagedFiles(t *testing.T) {
	for name, ruin := range map[string]func(*world, string, []byte){
		"flipped": func(w *world, path string, text []byte) {
			text[64+48+32*int(text[64+6])+5] ^= 4
			w.must(os.WriteFile(path, text, 0o600))
		},
		"lost": func(w *world, path string, _ []byte) { w.must(os.Remove(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			w, alone, _, files, _ := withFiles(t)
			w.stop()
			w.loseDatabases()
			for _, path := range w.packs() {
				text, err := os.ReadFile(path)
				w.must(err)
				ruin(w, path, text)
			}
			s, out := w.open(), t.TempDir()
			hurt := 0
			for name, want := range files {
				path := filepath.Join(out, "out")
				_, err := s.Export(t.Context(), alone, ExportOptions{File: name, Path: path})
				if err == nil {
					w.must(os.Remove(path))
					continue
				}
				hurt++
				var damage *DamageError
				if !errors.As(err, &damage) || !errors.Is(err, dedup.ErrDamaged) || damage.File != name || damage.Disk != "" || !strings.Contains(err.Error(), `file "`+name+`" of VM shop at point `+alone) {
					t.Errorf("file %q: %v", name, err)
				}
				if names, err := os.ReadDir(out); err != nil || len(names) != 0 {
					t.Errorf("file %q left %v, %v", name, names, err)
				}
				var got bytes.Buffer
				r, err := s.Export(t.Context(), alone, ExportOptions{File: name, To: &got, IgnoreDamage: true})
				w.must(err)
				holed := slices.Clone(want)
				for _, d := range r.Damage {
					clear(holed[d.Offset:][:d.Length])
				}
				if r.Verified || r.DamagedParts == 0 || !bytes.Equal(got.Bytes(), holed) {
					t.Errorf("file %q: what is not damaged differs: %+v", name, r)
				}
			}
			if hurt == 0 || hurt > len(files)-2 { // two have no data
				t.Errorf("%d of %d files are damaged", hurt, len(files))
			}
		})
	}
}

func TestEnumerate(t *testing.T) {
	if got := enumerate(slices.Repeat([]string{"a"}, namesListed)); strings.Contains(got, "more") {
		t.Error(got)
	}
	if got := enumerate(slices.Repeat([]string{"a"}, namesListed+3)); !strings.HasSuffix(got, "a and 3 more") || len(got) > 100 {
		t.Error(got)
	}
}
