package volume

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// folder starts a session for files.
func (w *world) folder(req StartRequest) string {
	w.t.Helper()
	req.VM, req.Files = "vm", true
	st, err := w.m.Start(req)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Session
}

// putFile makes a file of n pseudo-random bytes, open.
func (w *world) putFile(id, name string, n int, seed uint64) *File {
	w.t.Helper()
	x, err := w.m.CreateFile(id, name, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	p := make([]byte, n)
	fill(p, seed)
	if _, err := x.WriteAt(p, 0); err != nil && n > 0 {
		w.t.Fatal(err)
	}
	return x
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// content is all of a file or an image.
func content(t *testing.T, r interface {
	io.ReaderAt
	Size() int64
}) []byte {
	t.Helper()
	p := make([]byte, r.Size())
	if n, err := r.ReadAt(p, 0); n != len(p) || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes: %v", n, len(p), err)
	}
	return p
}

// TestFsyncThenPowerCut: what was flushed is there after every kind of power cut,
// under its name, whatever else was written then or to other files and not
// flushed. A file that lacks some of it cannot be committed.
func TestFsyncThenPowerCut(t *testing.T) {
	for i, p := range crashfs.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			w := newWorld(t)
			id := w.folder(StartRequest{})
			kept := w.putFile(id, "disk.qcow2.part", 3<<20+123, 1)
			w.must(kept.SetAttributes(time.Unix(1_700_000_000, 0), 0o600))
			w.must(kept.Flush())
			w.must(w.m.RenameFile(id, "disk.qcow2.part", "disk.qcow2"))
			w.putFile(id, "never flushed", 1<<20, 2)
			again := w.putFile(id, "written after a flush", 1<<20, 3)
			w.must(again.Flush())
			if _, err := again.WriteAt(bytes.Repeat([]byte("x"), 2<<20), 1); err != nil {
				t.Fatal(err)
			}
			w.putFile(id, "empty", 0, 0)
			w.powerCut(p, uint64(i))
			if _, err := w.m.OpenFile(id, "disk.qcow2.part"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			w.stop() // what is missing is not forgotten, though the host goes on
			w.start()
			for name, size := range map[string]int{"disk.qcow2": 3<<20 + 123, "empty": 0, "never flushed": 0, "written after a flush": 1 << 20} {
				x, err := w.m.OpenFile(id, name)
				w.must(err)
				if st := x.Status(); (st.Unfinished == "") != (name == "disk.qcow2" || name == "empty") || st.Size != int64(size) {
					t.Errorf("%+v, want %d bytes", st, size)
				}
				want := make([]byte, size)
				if fill(want, 3); name != "disk.qcow2" && !bytes.Equal(content(t, fileReader{x}), want) {
					t.Errorf("file %q is not what was flushed", name)
				}
				w.must(x.Close())
			}
			x, err := w.m.OpenFile(id, "disk.qcow2")
			w.must(err)
			want := make([]byte, 3<<20+123)
			fill(want, 1)
			if !bytes.Equal(content(t, fileReader{x}), want) {
				t.Fatal("the flushed file is not what was written")
			}
			if st := x.Status(); st.Modified.Unix() != 1_700_000_000 || st.Mode != 0o600 {
				t.Errorf("attributes are %+v", st)
			}
			if _, err := w.m.Commit(id); !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "remove it") {
				t.Fatalf("commit with unfinished files: %v", err)
			}
			if st, _ := w.m.Status(id); st.State != Open {
				t.Fatalf("the session is %s", st.State)
			}
			w.must(w.m.RemoveFile(id, "never flushed"))
			y, err := w.m.OpenFile(id, "written after a flush")
			w.must(err)
			w.must(y.SetState(Whole)) // by somebody who knows
			w.stop()
			w.start()
			r := w.commit(id)
			if len(r.Files) != 3 || r.Files[0].Name != "disk.qcow2" || len(r.Images) != 0 || len(r.Files[0].Root) != 64 {
				t.Fatalf("receipt %+v", r)
			}
		})
	}
}

// TestRestartedHost: a proper stop flushes, so a file survives another boot.
func TestRestartedHost(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x := w.putFile(id, "a", 100_000, 1)
	before := x.Status()
	w.stop()
	w.boot = "boot-2"
	w.start()
	x, err := w.m.OpenFile(id, "a")
	w.must(err)
	if st := x.Status(); st != before {
		t.Fatalf("%+v, was %+v", st, before)
	}
	if st, err := w.m.Status(id); err != nil || !st.KeepsFiles || len(st.Files) != 1 || st.Files[0] != before {
		t.Fatalf("%+v, %v", st, err)
	}
}

func TestRemovedFileStaysOpen(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x := w.putFile(id, "a", 200_000, 1)
	y, err := w.m.OpenFile(id, "a")
	w.must(err)
	w.must(w.m.RemoveFile(id, "a"))
	w.must(x.Close())
	want := make([]byte, 200_000)
	fill(want, 1)
	if !bytes.Equal(content(t, fileReader{y}), want) {
		t.Fatal("a removed file does not read as before")
	}
	if st := y.Status(); st.Name != "" || st.Links != 0 || st.ID != x.ID() {
		t.Fatalf("%+v", st)
	}
	if roots := len(w.marked()); roots != 3 {
		t.Fatalf("a collection is told of %d blocks of it, it has 3 and a rest in the journal", roots)
	}
	_, err = y.WriteAt([]byte("more"), 1<<20)
	w.must(err)
	w.must(y.Close())
	w.must(y.Close())
	if n := w.journals(id); n != 0 || len(w.marked()) != 0 || w.m.files.Load() != 0 {
		t.Fatalf("%d journals, %d files of a file that is gone", n, w.m.files.Load())
	}
	if _, err := w.m.Commit(id); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("commit without a file: %v", err)
	}
}

func TestFileRefusals(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x := w.putFile(id, "a", 10, 1)
	st, _ := w.begin(StartRequest{VM: "vm", Disks: oneDisk(1 << 20)})
	create := func(id, name string, mode uint32) error { _, err := w.m.CreateFile(id, name, mode); return err }
	far := func(off int64) error { _, err := x.WriteAt([]byte{1}, off); return err }
	add := func(r DiskImport) error { _, err := w.m.AddDisk(id, r); return err }
	for name, c := range map[string]struct{ got, want error }{
		"not for files":           {create(st.Session, "a", 0), ErrBadRequest},
		"no session":              {create("0000000000000000", "a", 0), ErrNoSession},
		"absolute name":           {create(id, "/a", 0), ErrBadRequest},
		"parent folder":           {create(id, "x/../a", 0), ErrBadRequest},
		"deep":                    {create(id, strings.Repeat("a/", 8)+"a", 0), ErrBadRequest},
		"control character":       {create(id, "a\nb", 0), ErrBadRequest},
		"long name":               {create(id, strings.Repeat("a", 256), 0), ErrBadRequest},
		"file type in mode":       {create(id, "b", 0o100644), ErrBadRequest},
		"taken":                   {create(id, "a", 0), fs.ErrExist},
		"rename to nonsense":      {w.m.RenameFile(id, "a", ".."), ErrBadRequest},
		"rename of nothing":       {w.m.RenameFile(id, "b", "c"), fs.ErrNotExist},
		"link over":               {w.m.LinkFile(id, "a", "a"), fs.ErrExist},
		"remove nothing":          {w.m.RemoveFile(id, "b"), fs.ErrNotExist},
		"too far":                 {far(maxFileSize), errRange},
		"negative":                {far(-1), errRange},
		"too long":                {x.Truncate(maxFileSize + 1), errRange},
		"time":                    {x.SetAttributes(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), 0), ErrBadRequest},
		"disk name":               {add(DiskImport{Disk: "/a", Size: 1}), ErrBadRequest},
		"disk size":               {add(DiskImport{Disk: "vda"}), ErrBadRequest},
		"no such source":          {add(DiskImport{Disk: "vda", Size: 1, Source: "b"}), fs.ErrNotExist},
		"incremental on nothing":  {add(DiskImport{Disk: "vda", Size: 1, Mode: "incremental"}), ErrMismatch},
		"no disk to drop":         {w.m.DropDisk(id, "vda"), ErrBadRequest},
		"drop a disk of an other": {w.m.DropDisk(st.Session, "vda"), ErrBadRequest},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if list, err := w.m.FileNames(id); err != nil || len(list) != 1 || list[0].Size != 10 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestSparseFilesAreBounded: what a client says of lengths costs no more than the
// session may cost.
func TestSparseFilesAreBounded(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	a, b := w.putFile(id, "a", 10, 1), w.putFile(id, "b", 10, 1)
	w.must(a.Truncate(maxFileSize - 10))
	if _, err := b.WriteAt([]byte{1}, 10); !errors.Is(err, ErrLimit) {
		t.Fatalf("write: %v", err)
	}
	if err := b.Truncate(11); !errors.Is(err, ErrLimit) {
		t.Fatalf("truncate: %v", err)
	}
	w.kill()
	w.start()
	b, err := w.m.OpenFile(id, "b")
	w.must(err)
	if err := b.Zero(10, 1); !errors.Is(err, ErrLimit) {
		t.Fatalf("zero, after a restart: %v", err)
	}
	w.must(w.m.RemoveFile(id, "a"))
	w.must(b.Truncate(1 << 40))
	w.must(b.Truncate(0))
	if n := len(b.d().chunks); n != 0 {
		t.Fatalf("%d chunk maps of an empty file", n)
	}
	for i := range maxFiles - 1 {
		w.must(w.m.LinkFile(id, "b", strings.Repeat("n", 1+i%200)+string(rune('A'+i/200))))
	}
	if err := w.m.LinkFile(id, "b", "one more"); !errors.Is(err, ErrLimit) {
		t.Fatalf("%d names: %v", maxFiles+1, err)
	}
	if r := w.commit(id); len(r.Files) != maxFiles {
		t.Fatalf("%d files", len(r.Files))
	}
}

// TestImportTakesOverBlocks: a raw file becomes the same image, chunk for chunk,
// as the disk that comes over NBD, and nothing is stored for it.
func TestImportTakesOverBlocks(t *testing.T) {
	const size = 2*dedup.ChunkSize + 5*dedup.BlockSize + 512
	w := newWorld(t)
	want := newMemDisk(size)
	st, d := w.begin(StartRequest{VM: "other", Disks: oneDisk(size)})
	id := w.folder(StartRequest{Checkpoint: "cp7"})
	x, err := w.m.CreateFile(id, "vda.raw", 0o600)
	w.must(err)
	w.must(x.Truncate(size))
	for i, off := range []int64{0, 5 * dedup.BlockSize, dedup.ChunkSize - 3000, 2*dedup.ChunkSize + 1, size - 70_000} {
		p := make([]byte, 70_000)
		fill(p, uint64(i))
		want.write(p, off)
		_, err := d.WriteAt(p, off)
		w.must(err)
		_, err = x.WriteAt(p, off)
		w.must(err)
	}
	nbd := w.commit(st.Session)
	w.must(x.Flush())
	y, err := w.m.AddDisk(id, DiskImport{Disk: "vda", Size: size, Source: "vda.raw"})
	w.must(err)
	before := w.store.Stats()
	w.must(y.CopyBlocks(x, 0, 0, size))
	w.must(want.equal(y))
	if after := w.store.Stats(); after.Put.NewBytes != before.Put.NewBytes {
		t.Errorf("%d bytes were stored", after.Put.NewBytes-before.Put.NewBytes)
	}
	r := w.commit(id)
	if len(r.Images) != 1 || r.Images[0].Root != nbd.Images[0].Root || r.Images[0].Mode != catalog.Full || r.Images[0].Checkpoint != "cp7" ||
		len(r.Files) != 1 || r.Files[0].Disk != "vda" || r.Files[0].Root != nbd.Images[0].Root || r.Files[0].Size != size {
		t.Fatalf("receipt %+v\nby NBD %+v", r, nbd)
	}
	a, err := w.cat.ChunkList(nbd.Point, "vda")
	w.must(err)
	b, err := w.cat.ChunkList(r.Point, "vda")
	w.must(err)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("chunk %d is recorded twice", i)
		}
	}
}

// TestImportSeals: nobody changes or removes a file that a disk is made of.
func TestImportSeals(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x := w.putFile(id, "a", 1<<20, 1)
	y, err := w.m.AddDisk(id, DiskImport{Disk: "vda", Size: 1 << 20, Source: "a"})
	w.must(err)
	if _, err := w.m.AddDisk(id, DiskImport{Disk: "vda", Size: 1 << 20}); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("a disk twice: %v", err)
	}
	if _, err := w.m.AddDisk(id, DiskImport{Disk: "vdb", Size: 1 << 20, Source: "a"}); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("a file as two disks: %v", err)
	}
	w.must(y.CopyBlocks(x, 0, 0, 1<<20))
	w.putFile(id, "b", 1, 1)
	write := func() error { _, err := x.WriteAt([]byte{1}, 0); return err }
	for what, f := range map[string]func() error{
		"write": write, "truncate": func() error { return x.Truncate(0) }, "zero": func() error { return x.Zero(0, 1) },
		"remove":      func() error { return w.m.RemoveFile(id, "a") },
		"rename over": func() error { return w.m.RenameFile(id, "b", "a") },
	} {
		if err := f(); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, c := range map[string]struct{ from, to, n int64 }{
		"behind the file": {1 << 20, 0, 65536}, "behind the disk": {0, 1 << 20, 65536}, "odd": {0, 0, 100}, "odd place": {1, 0, 65536}, "negative": {0, 0, -65536},
	} {
		if err := y.CopyBlocks(x, c.from, c.to, c.n); !errors.Is(err, errRange) {
			t.Errorf("copy %s: %v", what, err)
		}
	}
	w.must(w.m.DropDisk(id, "vda"))
	if err := y.CopyBlocks(x, 0, 0, 65536); !errors.Is(err, ErrClosed) {
		t.Errorf("copy to a dropped disk: %v", err)
	}
	w.must(write())
	w.must(w.m.RemoveFile(id, "a"))
}

// TestImportIncremental: what is not copied is as in the newest image, which
// cannot go meanwhile.
func TestImportIncremental(t *testing.T) {
	const size = 4 << 20
	w := newWorld(t)
	st, d := w.begin(StartRequest{VM: "vm", Disks: oneDisk(size)})
	w.write(d, 0, size, 1)
	want := newMemDisk(size)
	p := make([]byte, size)
	fill(p, 1)
	want.write(p, 0)
	parent := w.commit(st.Session).Point
	id := w.folder(StartRequest{Mode: "incremental", Parent: "vm@latest"})
	if got, _ := w.m.Status(id); got.Import.Mode != "incremental" || got.Import.Parent != parent {
		t.Fatalf("%+v", got.Import)
	}
	if err := w.m.Remove(parent); !errors.Is(err, ErrInUse) {
		t.Fatalf("remove the parent: %v", err)
	}
	x := w.putFile(id, "vda.qcow2", 1<<20, 2)
	y, err := w.m.AddDisk(id, DiskImport{Disk: "vda", Size: size, Source: "vda.qcow2"})
	w.must(err)
	w.must(y.CopyBlocks(x, 1<<19, 1<<20, 1<<19))
	w.must(y.Zero(3<<20, 1<<19))
	fill(p[:1<<20], 2)
	want.write(p[1<<19:1<<20], 1<<20)
	want.write(make([]byte, 1<<19), 3<<20)
	r := w.commit(id)
	if im := r.Images[0]; im.Mode != catalog.Incremental || im.Parent != parent || im.WrittenBytes != 1<<19 {
		t.Fatalf("%+v", im)
	}
	im, err := w.m.OpenImage(r.Point, "vda")
	w.must(err)
	w.must(want.equal(im))
	w.must(im.Close())
	f, err := w.m.OpenImage(r.Point, catalog.FileKey("vda.qcow2"))
	w.must(err)
	if !bytes.Equal(content(t, f), p[:1<<20]) {
		t.Fatal("the file is not what was written")
	}
	w.must(f.Close())
	if _, err := w.m.OpenImage(r.Point, "/vda"); !errors.Is(err, catalog.ErrNotFound) {
		t.Fatalf("a file that is not there: %v", err)
	}
}

// TestHalfImportGoes: a server that starts again has no disk that may be half
// copied.
func TestHalfImportGoes(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x := w.putFile(id, "a", 1<<20, 1)
	y, err := w.m.AddDisk(id, DiskImport{Disk: "vda", Size: 1 << 20, Source: "a"})
	w.must(err)
	w.must(y.CopyBlocks(x, 0, 0, 1<<19))
	w.kill()
	w.start()
	if st, err := w.m.Status(id); err != nil || len(st.Disks) != 0 || w.journals(id) != 1 {
		t.Fatalf("%+v, %d journals, %v", st.Disks, w.journals(id), err)
	}
	x, err = w.m.OpenFile(id, "a")
	w.must(err)
	w.must(x.Truncate(100))
	if r := w.commit(id); len(r.Images) != 0 || r.Files[0].Size != 100 {
		t.Fatalf("%+v", r)
	}
}

// TestConcurrentFiles writes one file from many goroutines, grows others, and
// renames, flushes and lists meanwhile.
func TestConcurrentFiles(t *testing.T) {
	const writers, region = 8, 2 << 20
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x, err := w.m.CreateFile(id, "big", 0o600)
	w.must(err)
	want := make([]byte, writers*region)
	fill(want, 5)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			for off := i * region; off < (i+1)*region; {
				n := min(1+rng.IntN(1<<19), (i+1)*region-off)
				if _, err := x.WriteAt(want[off:off+n], int64(off)); err != nil {
					t.Error(err)
				}
				off += n
			}
		})
		wg.Go(func() {
			name := "f" + string(rune('a'+i))
			y, err := w.m.CreateFile(id, name, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if _, err := y.WriteAt(want[:1000], y.Status().Size); err != nil {
					t.Error(err)
				}
				if err := errors.Join(y.Flush(), w.m.RenameFile(id, name, name+"x"), w.m.LinkFile(id, name+"x", name), w.m.RemoveFile(id, name+"x")); err != nil {
					t.Error(err)
				}
				if _, err := w.m.Status(id); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(w.m.RemoveFile(id, name), y.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(content(t, fileReader{x}), want) {
		t.Fatal("the file is not what was written")
	}
	if r := w.commit(id); len(r.Files) != 1 || r.Files[0].WrittenBytes != int64(len(want)) {
		t.Fatalf("%+v", r)
	}
}

// TestManyChunksOfAFile cuts and grows a file more of whose maps are in the
// journal than in memory, also over a restart.
func TestManyChunksOfAFile(t *testing.T) {
	const chunks = residentChunks + 50
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x, err := w.m.CreateFile(id, "a", 0o600)
	w.must(err)
	want := newMemDisk(0)
	write := func(off int64, seed uint64) {
		t.Helper()
		p := make([]byte, dedup.BlockSize+100)
		fill(p, seed)
		_, err := x.WriteAt(p, off)
		w.must(err)
		want.writeOut(p, off)
	}
	check := func(what string) {
		t.Helper()
		if err := want.equal(fileReader{x}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range int64(chunks) {
		write(i*dedup.ChunkSize+5*dedup.BlockSize, uint64(i%9))
	}
	for _, size := range []int64{200*dedup.ChunkSize + 5*dedup.BlockSize + 777, 30 * dedup.ChunkSize, 3*dedup.ChunkSize + 6*dedup.BlockSize} {
		w.must(x.Truncate(size))
		want.truncate(size)
		check("cut")
		w.must(x.Truncate(chunks * dedup.ChunkSize))
		want.truncate(chunks * dedup.ChunkSize)
		check("grown")
		write(chunks*dedup.ChunkSize-100, 3)
		w.kill()
		w.start()
		x, err = w.m.OpenFile(id, "a")
		w.must(err)
		check("after a kill")
	}
	if n := len(x.d().chunks); n > 10 {
		t.Errorf("%d chunk maps are left", n)
	}
	im, err := w.m.OpenImage(w.commit(id).Point, catalog.FileKey("a"))
	w.must(err)
	w.must(want.equal(im))
	w.must(im.Close())
}

// TestStoppedServer: who still holds a file when the server stops gets errors.
func TestStoppedServer(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	x := w.putFile(id, "a", 10, 1)
	s, err := w.m.find(id)
	w.must(err)
	w.must(w.m.Close())
	_, write := x.WriteAt([]byte{1}, 0)
	_, read := x.ReadAt(make([]byte, 1), 0)
	for what, err := range map[string]error{
		"write": write, "read": read, "truncate": x.Truncate(0), "flush": x.Flush(), "session": s.working(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.must(x.Close())
}

// TestDamagedFileJournals: a file whose journal is not what was written is lost,
// and nothing else is.
func TestDamagedFileJournals(t *testing.T) {
	w := newWorld(t)
	id := w.folder(StartRequest{})
	for _, name := range []string{"flipped", "missing", "cut short", "another's", "sound"} {
		w.must(w.putFile(id, name, 100_000, 1).Flush())
	}
	path := map[string]string{}
	list, err := w.m.FileNames(id)
	w.must(err)
	for _, st := range list {
		path[st.Name] = w.m.fileJournalPath(id, st.ID)
	}
	w.stop()
	change := func(name string, f func(b []byte) []byte) { w.spoil(path[name], f) }
	change("flipped", func(b []byte) []byte { b[journalHeaderSize+40] ^= 1; return b })
	change("cut short", func(b []byte) []byte { return b[:len(b)-(recordHeaderSize+recordTrailerSize)] })
	var sound []byte
	change("sound", func(b []byte) []byte { sound = bytes.Clone(b); return b })
	change("another's", func([]byte) []byte { return sound })
	w.must(w.fs.Remove(path["missing"]))
	w.start()
	list, err = w.m.FileNames(id)
	w.must(err)
	for _, st := range list {
		if (st.Lost == "") != (st.Name == "sound") {
			t.Errorf("file %q: %q", st.Name, st.Lost)
		}
		if st.Lost != "" {
			w.must(w.m.RemoveFile(id, st.Name))
		}
	}
	if r := w.commit(id); len(r.Files) != 1 {
		t.Fatalf("%+v", r)
	}
}

func TestSessionFileOfFiles(t *testing.T) {
	const id = "01hzx3k9q2m8v7wt"
	good := func() *sessionFile {
		return &sessionFile{ID: id, VM: "a", State: Open, KeepsFiles: true, NextFile: 9,
			Disks: []diskFile{{Disk: "vda", Size: 1, Mode: "full", Imported: true, Source: 3}},
			Files: []fileEntry{{ID: 3, Names: []string{"a", "b/c"}, Mode: 0o600}, {ID: 8, Names: []string{"d"}}}}
	}
	for what, spoil := range map[string]func(f *sessionFile){
		"":                   func(*sessionFile) {},
		"no disks":           func(f *sessionFile) { f.Disks, f.Files, f.KeepsFiles = nil, nil, false },
		"not for files":      func(f *sessionFile) { f.KeepsFiles = false },
		"an id twice":        func(f *sessionFile) { f.Files[1].ID = 3 },
		"an id to come":      func(f *sessionFile) { f.NextFile = 8 },
		"no name":            func(f *sessionFile) { f.Files[0].Names = nil },
		"a name twice":       func(f *sessionFile) { f.Files[1].Names[0] = "a" },
		"a bad name":         func(f *sessionFile) { f.Files[1].Names[0] = "../a" },
		"a mode":             func(f *sessionFile) { f.Files[0].Mode = 1 << 20 },
		"a token":            func(f *sessionFile) { f.Disks[0].Token = "t" },
		"no token":           func(f *sessionFile) { f.Disks[0].Imported = false },
		"too many names":     func(f *sessionFile) { f.Files[0].Names = manyNames(maxFiles) },
		"as many as may be ": func(f *sessionFile) { f.Files[0].Names = manyNames(maxFiles - 1) },
	} {
		f := good()
		spoil(f)
		data, err := encodeSessionFile(f)
		w := &world{t: t}
		w.must(err)
		if _, err := decodeSessionFile(id, data); (err == nil) != (what == "" || strings.HasSuffix(what, " ")) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, strings.Repeat("n", 1+i%200)+string(rune('A'+i/200)))
	}
	return names
}
