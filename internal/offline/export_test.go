package offline

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/restore"
)

// comparer is a stream that wants certain bytes.
type comparer struct {
	want    []byte // still to come
	differs bool
}

func (c *comparer) Write(p []byte) (int, error) {
	n := min(len(p), len(c.want))
	c.differs = c.differs || n < len(p) || !bytes.Equal(p, c.want[:n])
	c.want = c.want[n:]
	return len(p), nil
}

// checkAll compares every image of every point with what was backed up.
func (w *world) checkAll(s *Store, points []point) {
	w.t.Helper()
	for _, p := range points {
		for disk, want := range p.disks {
			got := &comparer{want: want}
			r, err := s.Export(w.t.Context(), p.id, ExportOptions{Disk: disk, To: got})
			if err != nil {
				w.t.Errorf("point %s, disk %s: %v", p.id, disk, err)
				continue
			}
			if got.differs || len(got.want) > 0 {
				w.t.Errorf("point %s, disk %s: the content differs", p.id, disk)
			}
			if !r.Verified || r.Point != p.id || r.VM != "web" || r.Disk != disk || r.Size != int64(len(want)) || len(r.Root) != 64 || r.DamagedParts != 0 {
				w.t.Errorf("report %+v", r)
			}
		}
	}
}

func TestNothingButPacks(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.loseDatabases()
	before := w.fingerprint()
	s := w.open()
	list, err := s.List("web")
	w.must(err)
	if len(list) != 3 || list[0].ID != w.points[0].id || list[2].ID != w.points[2].id {
		t.Errorf("points %v", list)
	}
	if text, err := s.Blob(w.points[1].id, "domain.xml"); err != nil || string(text) != "<domain/>" {
		t.Errorf("blob %q, %v", text, err)
	}
	w.checkAll(s, w.points)
	w.must(s.Close())
	if after := w.fingerprint(); after != before {
		t.Errorf("the directory was\n%sand is\n%s", before, after)
	}
}

// TestBesideServer reads what was committed a moment ago from packs that are
// still open.
func TestBesideServer(t *testing.T) {
	w := newWorld(t)
	w.checkAll(w.open(), w.points)
	w.backup("vda")(func(_ string, write func([]byte, int64)) { write([]byte("newer"), 5) })
	w.checkAll(w.open(), w.points)
}

func TestTierAlone(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.loseDatabases()
	whole := w.dir
	w.dir = filepath.Join(w.dir, tierName)
	w.checkAll(w.open(), w.points)
	w.dir = whole
	w.must(os.WriteFile(filepath.Join(w.dir, "strongroom.json"), []byte("{damaged"), 0o600))
	w.checkAll(w.open(), w.points) // by the copy
}

func TestFormats(t *testing.T) {
	w := newWorld(t)
	w.stop()
	s, out := w.open(), t.TempDir()
	p := w.points[1]
	for disk, ref := range map[string]string{"vda": "web/vda@latest~1", "vdb": "web/vdb"} { // the third point has no vdb
		raw := filepath.Join(out, disk+".raw")
		var begun, written int64
		r, err := s.Export(t.Context(), ref, ExportOptions{Path: raw, Begin: func(n int64) { begun = n }, Progress: func(n int64) { written += n }})
		w.must(err)
		if r.Data != begun || written != begun || r.Data == 0 || r.Data >= r.Size && disk == "vda" {
			t.Errorf("%d bytes of data, %d begun, %d written", r.Data, begun, written)
		}
		got, err := os.ReadFile(raw)
		if err != nil || !bytes.Equal(got, p.disks[disk]) {
			t.Errorf("raw file of %s differs: %v", disk, err)
		}
		qcow := filepath.Join(out, disk+".qcow2")
		_, err = s.Export(t.Context(), p.id, ExportOptions{Disk: disk, Path: qcow, Format: restore.QCOW2})
		w.must(err)
		streamed := filepath.Join(out, disk+".streamed")
		f, err := os.Create(streamed)
		w.must(err)
		_, err = s.Export(t.Context(), p.id, ExportOptions{Disk: disk, To: f, Format: restore.QCOW2})
		w.must(errors.Join(err, f.Close()))
		// QEMU rounds a raw file up to sectors too.
		for _, name := range []string{qcow, streamed} {
			for _, args := range [][]string{{"check", "-f", "qcow2", name}, {"compare", "-f", "raw", "-F", "qcow2", raw, name}} {
				if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
					t.Errorf("qemu-img %v: %v\n%s", args, err, out)
				}
			}
		}
		a, err := os.ReadFile(qcow)
		w.must(err)
		b, err := os.ReadFile(streamed)
		w.must(err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: the stream and the file differ", disk)
		}
	}
	var st syscall.Stat_t
	w.must(syscall.Stat(filepath.Join(out, "vda.raw"), &st))
	if st.Blocks*512 > bigDisk/2 {
		t.Errorf("the raw file takes %d bytes: not sparse", st.Blocks*512)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.stop()
	s, out := w.open(), t.TempDir()
	full := filepath.Join(out, "full")
	w.must(os.WriteFile(full, []byte("mine"), 0o600))
	var sink bytes.Buffer
	stopped, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	stop(enough)
	for _, x := range []struct {
		name, ref string
		ctx       context.Context
		o         ExportOptions
		want      func(error) bool
	}{
		{"no such VM", "mail", nil, ExportOptions{To: &sink}, is(catalog.ErrNotFound)},
		{"no such point", "web@latest~9", nil, ExportOptions{To: &sink}, is(catalog.ErrNotFound)},
		{"no such id", "0123456789abcdef", nil, ExportOptions{To: &sink}, is(catalog.ErrNotFound)},
		{"no such disk", w.points[0].id, nil, ExportOptions{To: &sink, Disk: "vdz"}, is(catalog.ErrNotFound)},
		{"malformed", "web@", nil, ExportOptions{To: &sink}, is(catalog.ErrInvalid)},
		{"which disk", w.points[0].id, nil, ExportOptions{To: &sink}, says("name one")},
		{"two disks", "web/vda", nil, ExportOptions{To: &sink, Disk: "vdb"}, says("vdb")},
		{"file exists", "web/vda", nil, ExportOptions{Path: full}, is(fs.ErrExist)},
		{"nowhere", "web/vda", nil, ExportOptions{}, says("stream")},
		{"twice", "web/vda", nil, ExportOptions{To: &sink, Path: full, Force: true}, says("stream")},
		{"unknown format", "web/vda", nil, ExportOptions{To: &sink, Format: "vmdk"}, says("vmdk")},
		{"stopped", "web/vda", stopped, ExportOptions{Path: filepath.Join(out, "x")}, is(enough)},
		{"broken pipe", "web/vda", nil, ExportOptions{To: brokenPipe{}}, is(syscall.EPIPE)},
		{"broken pipe, qcow2", "web/vda", nil, ExportOptions{To: brokenPipe{}, Format: restore.QCOW2}, is(syscall.EPIPE)},
	} {
		if x.ctx == nil {
			x.ctx = t.Context()
		}
		if _, err := s.Export(x.ctx, x.ref, x.o); !x.want(err) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if names, err := os.ReadDir(out); err != nil || len(names) != 1 {
		t.Errorf("%v left behind, %v", names, err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func says(text string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}

// TestDamagedBlock flips a bit in every pack's first frame.
func TestDamagedBlock(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.loseDatabases()
	for _, path := range w.packs() {
		text, err := os.ReadFile(path)
		w.must(err)
		head := 48 + 32*int(text[64+6])
		if n := binary.LittleEndian.Uint32(text[64+12:]); n == 0 {
			t.Fatalf("%s begins with an empty frame", path)
		}
		text[64+head+5] ^= 4
		w.must(os.WriteFile(path, text, 0o600))
	}
	s := w.open()
	out := filepath.Join(t.TempDir(), "out")
	_, err := s.Export(t.Context(), "web/vda", ExportOptions{Path: out})
	var damage *DamageError
	if !errors.As(err, &damage) || !errors.Is(err, dedup.ErrDamaged) || len(damage.Damage) == 0 {
		t.Fatalf("export of a damaged disk: %v", err)
	}
	first := damage.Damage[0]
	if !strings.Contains(err.Error(), fmt.Sprint(first.Offset)) || !strings.Contains(err.Error(), first.Block.String()) || first.Block == 0 {
		t.Errorf("the error does not name the block: %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged disk was written: %v", err)
	}
	p := w.points[2]
	for name, o := range map[string]ExportOptions{"file": {Path: out}, "qcow2": {Path: out + ".qcow2", Format: restore.QCOW2}, "stream": {}} {
		var stream bytes.Buffer
		if o.Path == "" {
			o.To = &stream
		}
		o.IgnoreDamage = true
		r, err := s.Export(t.Context(), "web/vda", o)
		w.must(err)
		if r.Verified || r.DamagedParts == 0 || r.DamagedParts != int64(len(r.Damage)) || r.DamagedBytes > r.DamagedParts*dedup.BlockSize {
			t.Errorf("%s: report %+v", name, r)
		}
		want := bytes.Clone(p.disks["vda"])
		for _, d := range r.Damage {
			clear(want[d.Offset:][:d.Length])
		}
		got := stream.Bytes()
		switch name {
		case "qcow2":
			w.must(exec.Command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", o.Path, out+".raw").Run())
			got, err = os.ReadFile(out + ".raw")
		case "file":
			got, err = os.ReadFile(out)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: what is not damaged differs: %v", name, err)
		}
	}
}

// TestLostPack removes a pack.
func TestLostPack(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.must(os.Remove(w.packs()[1]))
	s := w.open()
	lost := 0
	for _, p := range w.points {
		var got bytes.Buffer
		_, err := s.Export(t.Context(), p.id, ExportOptions{Disk: "vda", To: &got})
		if err == nil {
			continue
		}
		lost++
		var damage *DamageError
		if !errors.As(err, &damage) || damage.VM != "web" {
			t.Errorf("a lost pack: %v", err)
		}
		got.Reset()
		r, err := s.Export(t.Context(), p.id, ExportOptions{Disk: "vda", To: &got, IgnoreDamage: true})
		w.must(err)
		want := bytes.Clone(p.disks["vda"])
		for _, d := range r.Damage {
			clear(want[d.Offset:][:d.Length])
		}
		if !bytes.Equal(got.Bytes(), want) || r.Verified {
			t.Errorf("what is not lost differs")
		}
	}
	if lost == 0 {
		t.Error("nobody misses a pack")
	}
}

// TestWrongBlocks gives an image the hash of another: every block is sound, but
// they are not what was backed up.
func TestWrongBlocks(t *testing.T) {
	w := newWorld(t)
	w.stop()
	s := w.open()
	x := &export{s: s, o: ExportOptions{IgnoreDamage: true}}
	var err error
	x.point = &catalog.Point{}
	*x.point, _, err = s.Find("web")
	w.must(err)
	x.image, err = choose(x.point, "vda", "")
	w.must(err)
	x.image.Root[3] ^= 1
	var got bytes.Buffer
	x.o.To = &got
	if err := x.run(t.Context()); !errors.Is(err, catalog.ErrCorrupt) {
		t.Errorf("a wrong root hash: %v", err)
	}
	x.o.NoVerify = true
	got.Reset()
	if err := x.run(t.Context()); err != nil || !bytes.Equal(got.Bytes(), w.points[2].disks["vda"]) {
		t.Errorf("without verification: %v", err)
	}
	c, err := x.chunk(0)
	w.must(err)
	wrong := *c
	wrong.Runs = slices.Clone(c.Runs)
	wrong.Runs[0].Count--
	var addrs [dedup.ChunkBlocks]dedup.Addr
	for _, r := range wrong.Runs {
		for j := range r.Count {
			addrs[r.Start+j] = r.Addr + dedup.Addr(j)
		}
	}
	if x.isWhole(&wrong, addrs[:]) {
		t.Error("other blocks pass for the chunk")
	}
}

// TestTornLog cuts the metadata log where a crash could have: the last point is
// not there, the others are.
func TestTornLog(t *testing.T) {
	w := newWorld(t)
	w.stop()
	logs := w.logs()
	last := logs[len(logs)-1]
	text, err := os.ReadFile(last)
	w.must(err)
	w.must(os.WriteFile(last, append(slices.Clone(text), "torn write"...), 0o600))
	w.checkAll(w.open(), w.points)
	w.must(os.WriteFile(last, text[:len(text)-20], 0o600))
	before := w.fingerprint()
	s := w.open()
	list, err := s.List("")
	w.must(err)
	if len(list) != 2 {
		t.Errorf("%d points", len(list))
	}
	w.checkAll(s, w.points[:2])
	if after := w.fingerprint(); after != before {
		t.Error("the torn log was changed")
	}
	w.must(os.WriteFile(last, append(append(slices.Clone(text[:200]), 0xff), text[201:]...), 0o600))
	if _, err := Open(w.dir, Options{}); !errors.Is(err, catalog.ErrCorrupt) {
		t.Errorf("a damaged log: %v", err)
	}
}
