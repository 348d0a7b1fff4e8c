package volume

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// crashRun does things to the files of a session one after the other, and knows
// after each what there is. At instants of a step there is what was before it or
// what is after it.
type crashRun struct {
	t      *testing.T
	rng    *rand.Rand
	w      *world
	states []crashState // by step
	done   atomic.Int64 // steps
	now    crashState
	open   map[int]*File
	disk   *Disk
	image  *memDisk // of the disk
	stops  bool     // at the first error
}

// crashState is what has been acknowledged.
type crashState struct {
	id    string
	step  string
	names map[string]int       // → file
	files map[int]crashContent // those with names
	point string
}

type crashContent struct {
	flushed []byte
	data    []byte
	clean   bool // all was flushed
}

func (s crashState) clone() crashState {
	s.names, s.files = maps.Clone(s.names), maps.Clone(s.files)
	return s
}

func (r *crashRun) must(err error) {
	r.t.Helper()
	if err != nil && r.stops {
		panic(errStopped{err})
	}
	if err != nil {
		r.t.Fatalf("%s: %v", r.now.step, err)
	}
}

// step runs f and notes what is after it.
func (r *crashRun) step(what string, f func()) {
	r.t.Helper()
	r.now.step = what
	f()
	r.states = append(r.states, r.now.clone())
	r.done.Add(1)
}

func (r *crashRun) create(name string) int {
	n := len(r.open) + 1
	r.step("create "+name, func() {
		x, err := r.w.m.CreateFile(r.now.id, name, 0o600)
		r.must(err)
		r.open[n], r.now.names[name], r.now.files[n] = x, n, crashContent{clean: true}
	})
	return n
}

func (r *crashRun) write(n int, off int64, size int, seed uint64) {
	r.step(fmt.Sprintf("write %d+%d of file %d", off, size, n), func() {
		p := make([]byte, size)
		fill(p, seed)
		_, err := r.open[n].WriteAt(p, off)
		r.must(err)
		r.edit(n, max(len(r.now.files[n].data), int(off)+size), func(b []byte) { copy(b[off:], p) })
	})
}

func (r *crashRun) zero(n int, off, size int64) {
	r.step(fmt.Sprintf("zero %d+%d of file %d", off, size, n), func() {
		r.must(r.open[n].Zero(off, size))
		r.edit(n, max(len(r.now.files[n].data), int(off+size)), func(b []byte) { clear(b[off : off+size]) })
	})
}

func (r *crashRun) truncate(n int, size int64) {
	r.step(fmt.Sprintf("truncate file %d to %d", n, size), func() {
		r.must(r.open[n].Truncate(size))
		r.edit(n, int(size), func([]byte) {})
	})
}

func (r *crashRun) edit(n, size int, f func([]byte)) {
	b := make([]byte, size)
	copy(b, r.now.files[n].data)
	f(b)
	if _, ok := r.now.files[n]; ok {
		r.now.files[n] = crashContent{data: b, flushed: r.now.files[n].flushed}
	}
}

func (r *crashRun) flush(n int) {
	r.step(fmt.Sprintf("flush file %d", n), func() {
		r.must(r.open[n].Flush())
		if c, ok := r.now.files[n]; ok {
			r.now.files[n] = crashContent{data: c.data, flushed: c.data, clean: true}
		}
	})
}

func (r *crashRun) rename(from, to string) {
	r.step("rename "+from+" to "+to, func() {
		r.must(r.w.m.RenameFile(r.now.id, from, to))
		r.now.names[to] = r.now.names[from]
		delete(r.now.names, from)
		r.dropUnnamed()
	})
}

func (r *crashRun) link(from, to string) {
	r.step("link "+from+" as "+to, func() {
		r.must(r.w.m.LinkFile(r.now.id, from, to))
		r.now.names[to] = r.now.names[from]
	})
}

func (r *crashRun) remove(name string) {
	r.step("remove "+name, func() {
		r.must(r.w.m.RemoveFile(r.now.id, name))
		delete(r.now.names, name)
		r.dropUnnamed()
	})
}

func (r *crashRun) dropUnnamed() {
	maps.DeleteFunc(r.now.files, func(n int, _ crashContent) bool {
		return !slices.Contains(slices.Collect(maps.Values(r.now.names)), n)
	})
}

// script is everything there is to do with files, one after the other.
func (r *crashRun) script() {
	const bs = dedup.BlockSize
	r.step("start", func() {
		st, err := r.w.m.Start(StartRequest{VM: "vm", Files: true, TTL: time.Hour})
		r.must(err)
		r.now.id = st.Session
	})
	a := r.create("a.qcow2.part")
	r.write(a, 0, 3*bs, 1)
	r.write(a, 3*bs, 2*bs+100, 2)
	r.flush(a)
	b := r.create("dir/b")
	r.write(b, 1000, 500, 3)
	r.write(a, 5*bs+100, 3*bs, 4)
	r.write(a, 10, 20, 5)
	r.link("dir/b", "b2")
	r.flush(b)
	r.rename("a.qcow2.part", "a.qcow2")
	r.flush(a)
	r.truncate(a, 4*bs+7)
	r.truncate(a, 9*bs)
	r.zero(a, 2*bs+5, bs)
	c := r.create("c")
	r.write(c, 0, 2*bs, 6)
	r.flush(c)
	r.rename("c", "b2") // over one of two names
	r.remove("dir/b")   // the last, and open
	r.write(b, 0, bs, 7)
	r.flush(a)
	if r.rng.IntN(2) == 0 {
		r.write(c, bs, bs, 8)
	}
	r.importDisk(a, c)
	r.step("commit", func() {
		receipt, err := r.w.m.Commit(r.now.id)
		r.must(err)
		r.now.point = receipt.Point
	})
}

// importDisk adds a disk that fails, drops it, and adds one that is committed.
func (r *crashRun) importDisk(a, c int) {
	const bs = dedup.BlockSize
	add := func(name string, size int64, source string) *Disk {
		d, err := r.w.m.AddDisk(r.now.id, DiskImport{Disk: name, Size: size, Source: source})
		r.must(err)
		return d
	}
	r.step("add a disk that fails", func() {
		r.must(add("vdx", 4*bs, "a.qcow2").CopyBlocks(r.open[a], 0, bs, 2*bs))
	})
	r.step("drop it", func() { r.must(r.w.m.DropDisk(r.now.id, "vdx")) })
	size := int64(8*bs + 100)
	r.step("add a disk", func() { r.disk = add("vda", size, "a.qcow2") })
	r.step("copy", func() {
		r.must(r.disk.CopyBlocks(r.open[a], bs, 0, 3*bs))
		r.must(r.disk.CopyBlocks(r.open[c], 0, 4*bs, 2*bs))
		_, err := r.disk.WriteAt([]byte("compressed"), 7*bs+3)
		r.must(err)
		r.image = newMemDisk(size)
		r.image.write(r.now.files[a].data[bs:4*bs], 0)
		r.image.write(r.now.files[c].data, 4*bs)
		r.image.write([]byte("compressed"), 7*bs+3)
	})
}

// fileCut is a file system after a cut, and in which step it was.
type fileCut struct {
	fs    *crashfs.FS
	step  int // number of steps done
	power bool
	what  string
}

// TestFilesCut cuts the power, or kills the process, at the operations of a run
// of everything that can be done with files. What was flushed is there, what was
// acknowledged is there or its file is lost, and the session goes on.
func TestFilesCut(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	for i := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, i))
		r := newCrashRun(t, seed+i)
		var cuts []fileCut
		every := uint64(2)
		r.w.fs.Observe(func(at *crashfs.Instant) {
			if at.Op.Seq%every != i%every {
				return
			}
			cut := fileCut{step: int(r.done.Load()), what: fmt.Sprintf("at %v", at.Op)}
			if rng.IntN(4) == 0 {
				cut.fs = at.KillDuring(rng)
			} else {
				p := crashfs.Profiles()[rng.IntN(len(crashfs.Profiles()))]
				cut.fs, cut.power, cut.what = at.Crash(rng, p), true, p.Name+" "+cut.what
			}
			cuts = append(cuts, cut)
		})
		r.script()
		r.w.fs.Observe(func(*crashfs.Instant) {})
		for _, c := range cuts {
			r.survive(c)
		}
		t.Logf("%d states", len(cuts))
	}
}

// survive opens the engine on a cut, twice, and checks it.
func (r *crashRun) survive(c fileCut) {
	t := r.t
	t.Helper()
	before := r.states[c.step]
	after := before
	if c.step+1 < len(r.states) {
		after = r.states[c.step+1]
	}
	w := &world{t: t, fs: c.fs, boot: "boot-1", clock: r.w.clock}
	if c.power {
		w.boot = "boot-2"
	}
	w.start()
	defer func() { w.stop() }()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s, during %q: %s", c.what, after.step, fmt.Sprintf(format, args...))
	}
	if after.id == "" {
		return
	}
	st, err := w.m.Status(after.id)
	if errors.Is(err, ErrNoSession) && before.id == "" {
		return
	}
	if err != nil {
		fail("%v", err)
	}
	if st.State == Committed || before.point != "" {
		r.checkPoint(w, st, &before, fail)
		return
	}
	if st.State != Open || len(st.Disks) > 0 {
		fail("the session is %+v", st)
	}
	if why := r.matches(w, &before, &before, c.power); why != "" {
		if again := r.matches(w, &before, &after, c.power); again != "" {
			fail("it is not as before (%s) nor as after (%s)", why, again)
		}
	}
	seen := st.Files
	w.stop()
	w.start()
	again, err := w.m.FileNames(after.id)
	if err != nil || !slices.EqualFunc(seen, again, func(a, b FileStatus) bool {
		return a.ID == b.ID && a.Name == b.Name && a.Size == b.Size && a.Unfinished == b.Unfinished
	}) {
		fail("opened again: %v, %+v; was %+v", err, again, seen)
	}
	r.goOn(w, again, fail)
}

// matches tells why the files are not those of a state; one that the step under
// way changes may be as it was in old, in places.
func (r *crashRun) matches(w *world, old, s *crashState, power bool) string {
	list, err := w.m.FileNames(s.id)
	if err != nil {
		return err.Error()
	}
	if len(list) != len(s.names) {
		return fmt.Sprintf("%d names, want %v", len(list), s.names)
	}
	for _, st := range list {
		n, ok := s.names[st.Name]
		if !ok {
			return "a file " + st.Name
		}
		want, was := s.files[n], old.files[n]
		switch {
		case st.Lost != "":
			return fmt.Sprintf("file %s is lost: %s", st.Name, st.Lost)
		case st.Unfinished == "" && power && !want.clean && !was.clean && !bytes.Equal(want.data, was.data):
			return "file " + st.Name + " counts as whole, though it was not flushed"
		case st.Unfinished != "" && (!power || want.clean && was.clean):
			return fmt.Sprintf("file %s is unfinished: %s", st.Name, st.Unfinished)
		case st.Unfinished != "": // it is what was flushed
			want.data, was.data = want.flushed, was.flushed
		}
		x, err := w.m.OpenFile(s.id, st.Name)
		if err != nil {
			return err.Error()
		}
		got := make([]byte, st.Size)
		if _, err := x.ReadAt(got, 0); err != nil && len(got) > 0 {
			return err.Error()
		}
		x.Close()
		if len(got) != len(want.data) && len(got) != len(was.data) {
			return fmt.Sprintf("file %s has %d bytes, want %d or %d", st.Name, len(got), len(want.data), len(was.data))
		}
		for i, b := range got {
			if b != at(want.data, i) && b != at(was.data, i) {
				return fmt.Sprintf("file %s differs at byte %d", st.Name, i)
			}
		}
	}
	return ""
}

func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// checkPoint wants all that was committed.
func (r *crashRun) checkPoint(w *world, st Status, s *crashState, fail func(string, ...any)) {
	p, err := w.cat.Point(st.Point)
	if err != nil || st.State != Committed || len(p.Files) != len(s.names) || len(p.Images) != 1 {
		fail("session %+v, point %+v, %v", st, p, err)
	}
	for _, f := range p.Files {
		im, err := w.m.OpenImage(p.ID, catalog.FileKey(f.Name))
		if err != nil {
			fail("%v", err)
		}
		got := make([]byte, f.Size)
		if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, s.files[s.names[f.Name]].data) {
			fail("file %s of the point is not what was written (%v)", f.Name, err)
		}
		im.Close()
	}
	im, err := w.m.OpenImage(p.ID, "vda")
	if err != nil {
		fail("%v", err)
	}
	defer im.Close()
	if err := r.image.equal(im); err != nil {
		fail("the disk: %v", err)
	}
}

// grow lets a file that came back grow: there is nothing behind its end.
func grow(w *world, id string, st FileStatus, fail func(string, ...any)) {
	x, err := w.m.OpenFile(id, st.Name)
	if err != nil {
		fail("%v", err)
	}
	defer x.Close()
	tail := make([]byte, 10*dedup.BlockSize)
	size := x.Status().Size // it may have grown under another name
	if err := x.Truncate(size + int64(len(tail))); err != nil {
		fail("%v", err)
	}
	if _, err := x.ReadAt(tail, size); err != nil || !bytes.Equal(tail, make([]byte, len(tail))) {
		fail("behind the end of file %s there was something (%v)", st.Name, err)
	}
}

// goOn works with what came back.
func (r *crashRun) goOn(w *world, list []FileStatus, fail func(string, ...any)) {
	id := r.states[len(r.states)-1].id
	unfinished := slices.ContainsFunc(list, func(st FileStatus) bool { return st.Unfinished != "" })
	if unfinished {
		if _, err := w.m.Commit(id); !errors.Is(err, ErrUnfinished) {
			fail("commit with an unfinished file: %v", err)
		}
	}
	for i, st := range list {
		if st.Unfinished != "" && i%2 == 0 && st.Links == 1 {
			if err := w.m.RemoveFile(id, st.Name); err != nil {
				fail("remove an unfinished file: %v", err)
			}
			continue
		}
		grow(w, id, st, fail)
		if st.Unfinished != "" {
			heal(w, id, st.Name, fail)
		}
	}
	x, err := w.m.CreateFile(id, "new", 0o600)
	if err != nil {
		fail("%v", err)
	}
	if _, err := x.WriteAt(bytes.Repeat([]byte("x"), 200_000), 77); err != nil {
		fail("%v", err)
	}
	if slices.ContainsFunc(list, func(st FileStatus) bool { return st.ID == x.ID() }) {
		fail("file id %d was given out again", x.ID())
	}
	if _, err := w.m.Commit(id); err != nil {
		fail("commit: %v", err)
	}
}

// heal says that an unfinished file is whole.
func heal(w *world, id, name string, fail func(string, ...any)) {
	x, err := w.m.OpenFile(id, name)
	if err == nil {
		err = errors.Join(x.SetState(Whole), x.Close())
	}
	if err != nil {
		fail("%v", err)
	}
}

// errStopped ends a script at the step that failed.
type errStopped struct{ err error }

// TestFilesFail lets single operations on journals, session.json and packs fail,
// in every way: what was acknowledged before is there after a restart, and the
// step that failed was done or was not.
func TestFilesFail(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	plan := newCrashRun(t, seed)
	first := plan.w.fs.Ops()
	plan.script()
	ops := int(plan.w.fs.Ops() - first)
	rng := rand.New(rand.NewPCG(seed, 77))
	failed := 0
	for k := 0; k < ops; k += 3 + rng.IntN(4) {
		way := []crashfs.Fault{{Err: syscall.EIO}, {Err: syscall.ENOSPC}, {Err: syscall.ENOSPC, Effect: crashfs.Short},
			{Err: syscall.EIO, Effect: crashfs.DropDirty}, {Err: syscall.EIO, Effect: crashfs.After}}[rng.IntN(5)]
		r := newCrashRun(t, seed)
		fault := way
		fault.Skip, fault.Sticky, fault.Match = k, rng.IntN(3) == 0, func(op crashfs.Op) bool {
			return strings.HasPrefix(op.Path, "/data/sessions") || strings.HasPrefix(op.Path, "/data/tier0") && !strings.HasPrefix(op.Path, "/data/tier0/meta")
		}
		r.w.fs.Inject(&fault)
		stopped := r.scriptUntil()
		r.w.fs.Heal()
		if stopped == nil {
			continue // nobody needed that operation
		}
		failed++
		if !errors.Is(stopped.err, way.Err) && !errors.Is(stopped.err, ErrDead) {
			t.Fatalf("operation %d, during %q: %v does not say %v", k, r.now.step, stopped.err, way.Err)
		}
		r.afterFailure(plan, fmt.Sprintf("operation %d (%v, effect %d), %v", k, way.Err, way.Effect, stopped.err))
	}
	t.Logf("%d of %d faults failed a step", failed, ops)
}

func newCrashRun(t *testing.T, seed uint64) *crashRun {
	r := &crashRun{t: t, rng: rand.New(rand.NewPCG(seed, 0)), w: newWorld(t), open: map[int]*File{}}
	r.now = crashState{names: map[string]int{}, files: map[int]crashContent{}}
	r.states = append(r.states, r.now.clone())
	return r
}

// scriptUntil runs the script until a step fails.
func (r *crashRun) scriptUntil() (stopped *errStopped) {
	defer func() {
		if e := recover(); e != nil {
			s, ok := e.(errStopped)
			if !ok {
				panic(e)
			}
			stopped = &s
		}
	}()
	r.stops = true
	r.script()
	return nil
}

// afterFailure restarts after a step that failed. plan ran through.
func (r *crashRun) afterFailure(plan *crashRun, what string) {
	t := r.t
	t.Helper()
	n := len(r.states) - 1
	before, after := r.states[n].clone(), plan.states[n+1].clone()
	if before.id == "" {
		return // there is no session
	}
	after.id = before.id
	r.w.kill()
	r.w.start()
	st, err := r.w.m.Status(before.id)
	if err != nil {
		t.Fatalf("%s, during %q: %v", what, after.step, err)
	}
	switch st.State {
	case Committed:
		if after.point == "" {
			t.Fatalf("%s, during %q: the session is committed", what, after.step)
		}
		return
	case Dead:
		if strings.Contains(st.Reason, "sync") {
			return
		}
		fallthrough
	default:
		if st.State != Open || len(st.Disks) > 0 {
			t.Fatalf("%s, during %q: the session is %+v", what, after.step, st)
		}
	}
	if why := r.matches(r.w, &before, &before, false); why != "" {
		if again := r.matches(r.w, &before, &after, false); again != "" {
			t.Fatalf("%s, during %q: it is not as before (%s) nor as after (%s)", what, after.step, why, again)
		}
	}
	list, err := r.w.m.FileNames(before.id)
	if err != nil {
		t.Fatal(err)
	}
	r.goOn(r.w, list, func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s, during %q: %s", what, after.step, fmt.Sprintf(format, args...))
	})
}
