package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// on is another world on a file system that something has happened to.
func (w *world) on(fs *crashfs.FS, boot string) *world {
	x := &world{t: w.t, fs: fs, boot: boot, clock: w.now(), packSize: w.packSize, small: w.small}
	x.start()
	return x
}

// smallWorld has a point of VM vm and a clone of it, and limits so small that
// everything happens soon.
func smallWorld(t *testing.T, size int64) (*world, Status, *Disk) {
	w := newWorld(t)
	w.stop()
	w.packSize, w.small = dedup.MinPackSize, true
	w.start()
	w.point(size, 1)
	st, d := w.clone(CloneRequest{Ref: "vm/vda"})
	return w, st, d
}

// TestOverwrittenBlocksStay: a collection leaves alone what was overwritten since
// the last flush, wherever the maps were that had it.
func TestOverwrittenBlocksStay(t *testing.T) {
	const chunks = 6
	w, st, d := smallWorld(t, chunks*dedup.ChunkSize)
	w.m.maxRetired, w.m.rewriteFloor = 1<<20, 1<<40 // or it would flush
	for i := range int64(chunks) {
		w.write(d, i*dedup.ChunkSize, 1<<20, 100+uint64(i))
	}
	w.must(d.Flush())
	want := w.marked()
	for _, how := range []func() error{
		func() error { return d.Zero(0, dedup.ChunkSize) },                 // a map in the journal
		func() error { return d.Zero(5*dedup.ChunkSize, 900<<10) },         // one in memory, almost all of it
		func() error { return d.Zero(4*dedup.ChunkSize, dedup.ChunkSize) }, // all of one in memory
		func() error { w.write(d, 2*dedup.ChunkSize, 1<<20, 7); return nil },
		func() error { // block by block, each in two parts
			for i := range int64(16) {
				w.write(d, 3*dedup.ChunkSize+i*dedup.BlockSize, dedup.BlockSize/2, 500+uint64(i))
				w.write(d, 3*dedup.ChunkSize+i*dedup.BlockSize+dedup.BlockSize/2, dedup.BlockSize/2, 500+uint64(i))
			}
			return nil
		},
	} {
		w.must(how())
		for _, what := range []string{"at once", "after a restart"} {
			got := w.marked()
			for a := range want {
				if !got[a] {
					t.Fatalf("%s, block %v of before the last flush is not a root", what, a)
				}
			}
			w.kill()
			w.start()
			w.m.maxRetired, w.m.rewriteFloor = 1<<20, 1<<40
			d = w.export(st.Disks[0].Token)
		}
		w.collect()
	}
	w.powerCut(crashfs.LoseAll, 1)
	again, err := w.m.ResumeClone(st.Session)
	w.must(err)
	if got := w.marked(); !maps.Equal(want, got) {
		t.Errorf("%d blocks after the power cut, %d when it was flushed", len(got), len(want))
	}
	d = w.export(again.Disks[0].Token)
	buf, old := make([]byte, 1<<20), make([]byte, 1<<20)
	for i := range int64(chunks) {
		fill(old, 100+uint64(i))
		if _, err := d.ReadAt(buf, i*dedup.ChunkSize); err != nil || !slices.Equal(buf, old) {
			t.Errorf("chunk %d is not as it was when it was flushed (%v)", i, err)
		}
	}
}

// TestRetiredIsBounded: a disk flushes itself before it keeps too much.
func TestRetiredIsBounded(t *testing.T) {
	w, st, d := smallWorld(t, 16<<20)
	syncs := w.m.Stats().JournalSyncs
	for i := range 100 {
		for j := range int64(16) { // every other block: runs of one
			w.write(d, j*2*dedup.BlockSize, dedup.BlockSize, uint64(i*100)+uint64(j))
		}
		if n := len(d.d.clone.retired); n > w.m.maxRetired+1 {
			t.Fatalf("%d runs are kept, of %d", n, w.m.maxRetired)
		}
	}
	if n := w.m.Stats().JournalSyncs - syncs; n < 5 || n > 100 {
		t.Errorf("%d syncs", n)
	}
	w.powerCut(crashfs.LoseAll, 1)
	if st, err := w.m.Status(st.Session); err != nil || st.State != Stale {
		t.Errorf("%+v %v", st, err)
	}
}

// script is a clone's life in steps of which each takes effect as one.
type script struct {
	w       *world
	id      string
	d       *Disk
	mu      sync.Mutex // the file system's observers look on
	states  []*memDisk // after each step
	tried   *memDisk   // after the step under way
	flushed int        // the state that was flushed last
	stops   bool       // at the first error
}

// must ends the script at an error, or the test.
func (s *script) must(err error) {
	s.w.t.Helper()
	if err != nil && s.stops {
		panic(errStopped{err})
	}
	s.w.must(err)
}

func (s *script) done() (n, flushed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.states) - 1, s.flushed
}

func (s *script) step(f func() error, change func(*memDisk)) {
	last := s.states[len(s.states)-1]
	next := last.fork(last.size)
	change(next)
	s.tried = next
	s.must(f())
	s.tried = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = append(s.states, next)
}

func (s *script) put(off int64, n int, seed uint64) {
	p := make([]byte, n)
	fill(p, seed)
	s.step(func() error { _, err := s.d.WriteAt(p, off); return err }, func(m *memDisk) { m.write(p, off) })
}

func (s *script) flush() {
	s.step(s.d.Flush, func(*memDisk) {})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed = len(s.states) - 1
}

// run writes whole blocks and parts of them, zeroes, flushes, has the journal
// written anew, fails a sync and resumes; and seals the clone.
func (s *script) run(seed uint64) {
	w, rng := s.w, rand.New(rand.NewPCG(seed, 1))
	size := s.d.Size()
	some := func(n int) {
		for range n {
			switch off := rng.Int64N(size/512-8) * 512; rng.IntN(8) {
			case 0:
				s.put(off/dedup.BlockSize*dedup.BlockSize, dedup.BlockSize, rng.Uint64())
			case 1:
				off = off / dedup.ChunkSize * dedup.ChunkSize
				s.step(func() error { return s.d.Zero(off, min(dedup.ChunkSize, size-off)) }, func(m *memDisk) { (&history{}).zero(m, off, min(dedup.ChunkSize, size-off)) })
			case 2:
				s.flush()
			default:
				off = off / 4096 * 4096
				s.put(off%(2*dedup.ChunkSize)%size, []int{512, 4096}[rng.IntN(2)], rng.Uint64())
			}
		}
	}
	rewrite := func() {
		d := s.d.d
		s.tried = s.states[len(s.states)-1]
		old, err := d.rewriteSteps()
		s.must(err)
		s.tried = nil
		w.must(old.file.Close())
		s.mu.Lock()
		s.flushed = len(s.states) - 1
		s.mu.Unlock()
	}
	some(25)
	rewrite()
	some(15)
	w.collect()
	some(10)
	rewrite()
	some(10)
	s.flush()
	some(5)
	s.tried = s.states[len(s.states)-1]
	_, err := w.m.SealClone(s.id)
	s.must(err)
	s.tried = nil
}

// until is run up to the first error.
func (s *script) until(seed uint64) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(errStopped); !ok {
				panic(e)
			}
		}
	}()
	s.stops = true
	s.run(seed)
}

func newScript(t *testing.T) *script {
	w := newWorld(t)
	w.stop()
	w.packSize, w.small = dedup.MinPackSize, true
	w.start()
	w.m.rewriteFloor = 1 << 40 // it is written anew when the script says so
	id := w.point(3*dedup.ChunkSize+512, 1)
	base := newMemDisk(3*dedup.ChunkSize + 512)
	im, err := w.m.OpenImage(id, "vda")
	w.must(err)
	p := w.content(im)
	base.write(p, 0)
	w.must(im.Close())
	st, d := w.clone(CloneRequest{Ref: "vm/vda"})
	return &script{w: w, id: st.Session, d: d, states: []*memDisk{base}}
}

// instant is a state of the disks and what was known then.
type instant struct {
	fs            *crashfs.FS
	what          string
	kill          bool // of the server, not the host
	done, flushed int
}

// TestCloneCutAnywhere cuts the power, or kills the server, at instants of a
// clone's life: in the middle of writes, of flushes, of a journal written anew, of
// its sealing.
func TestCloneCutAnywhere(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	plan := newScript(t)
	first := plan.w.fs.Ops()
	plan.run(seed)
	ops := plan.w.fs.Ops() - first

	s := newScript(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	var at []instant
	over, next, from := false, uint64(1), s.w.fs.Ops()
	s.w.fs.Observe(func(i *crashfs.Instant) {
		if i.Op.Seq < from+next || over {
			return
		}
		next = i.Op.Seq - from + 1 + rng.Uint64N(max(ops/60, 1)*2)
		n, flushed := s.done()
		x := instant{done: n, flushed: flushed, kill: rng.IntN(4) == 0}
		if x.kill {
			x.fs, x.what = i.Kill(), "kill"
		} else {
			p := crashfs.Profiles()[rng.IntN(len(crashfs.Profiles()))]
			x.fs, x.what = i.Crash(rand.New(rand.NewPCG(rng.Uint64(), 0)), p), p.Name
		}
		x.what = fmt.Sprintf("%s after %v, in step %d, flushed %d", x.what, i.Op, n+1, flushed)
		at = append(at, x)
	})
	s.run(seed)
	s.w.fs.At(func(*crashfs.Instant) { over = true })
	kinds := map[State]int{}
	for _, x := range at {
		kinds[s.check(x)]++
	}
	t.Logf("%d instants of %d: %v", len(at), ops, kinds)
	if kinds[Open] == 0 || kinds[Stale] == 0 {
		t.Error("not all happened that should")
	}
}

// check looks at what a restart makes of an instant.
func (s *script) check(x instant) State {
	t := s.w.t
	t.Helper()
	boot := s.w.boot
	if !x.kill {
		boot += "'"
	}
	w := s.w.on(x.fs, boot)
	defer w.stop()
	st, err := w.m.Status(s.id)
	if err != nil {
		t.Fatalf("%s: %v", x.what, err)
	}
	from, to := x.done, min(x.done+1, len(s.states)-1)
	var r reader
	switch st.State {
	case Open:
		r = w.export(st.Disks[0].Token)
	case Committed:
		im, err := w.m.OpenImage(st.Point, "vda")
		w.must(err)
		defer im.Close()
		r, from = im, len(s.states)-1
	case Stale:
		if x.kill && s.tried == nil {
			t.Fatalf("%s: it is stale", x.what)
		}
		w.collect()
		st, err = w.m.ResumeClone(s.id)
		if err != nil {
			t.Fatalf("%s: %v", x.what, err)
		}
		st.State = Stale
		r, from = w.export(st.Disks[0].Token), x.flushed
	default:
		t.Fatalf("%s: it is %s: %s", x.what, st.State, st.Reason)
	}
	states := s.states[from : to+1]
	if s.tried != nil {
		states = append(slices.Clone(states), s.tried)
	}
	for _, want := range states {
		if err = want.equal(r); err == nil {
			return st.State
		}
	}
	t.Fatalf("%s: it is %s, and as after none of the steps %d to %d: %v", x.what, st.State, from, to, err)
	return ""
}

// TestRewriteCut cuts the power at each operation of a journal being written anew,
// and kills the server there.
func TestRewriteCut(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	for _, flushed := range []bool{true, false} {
		s := newScript(t)
		for i := range int64(12) {
			s.put(i*300_000/4096*4096, 4096, rng.Uint64())
			s.put(dedup.ChunkSize+i*dedup.BlockSize, dedup.BlockSize, rng.Uint64())
			if i == 8 {
				s.flush()
				s.w.collect()
			}
		}
		if flushed {
			s.flush()
		}
		var at []instant
		over := false
		s.w.fs.Observe(func(i *crashfs.Instant) {
			if over {
				return
			}
			n, flushed := s.done()
			at = append(at, instant{fs: i.Kill(), what: fmt.Sprintf("kill after %v", i.Op), kill: true, done: n, flushed: flushed})
			for _, p := range crashfs.Profiles() {
				if x := i.Crash(rng, p); rng.IntN(4) == 0 {
					at = append(at, instant{fs: x, what: fmt.Sprintf("%s after %v", p.Name, i.Op), done: n, flushed: flushed})
				}
			}
		})
		old, err := s.d.d.rewriteSteps()
		s.w.must(err)
		s.w.must(old.file.Close())
		s.w.fs.At(func(*crashfs.Instant) { over = true })
		states := map[State]int{}
		for _, x := range at {
			states[s.check(x)]++
		}
		t.Logf("all was flushed is %v: %v", flushed, states)
		if flushed != (states[Stale] == 0) {
			t.Error("a clone is stale exactly if something was not flushed")
		}
	}
}

// TestCloneFaults: whatever operation on its files fails, nothing that was flushed
// is lost, and what was acknowledged neither unless the clone is stale.
func TestCloneFaults(t *testing.T) {
	const faults = 12
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	states := map[State]int{}
	for i := range faults {
		s := newScript(t)
		f := &crashfs.Fault{
			Skip:   rng.IntN(1 + i*8),
			Effect: []crashfs.Effect{crashfs.Before, crashfs.After, crashfs.Short, crashfs.DropDirty}[rng.IntN(4)],
			Err:    []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)],
			Match: func(op crashfs.Op) bool {
				seldom := op.Kind != crashfs.Write && op.Kind != crashfs.Open && op.Kind != crashfs.Read
				return (seldom || i%3 == 0 && op.Kind == crashfs.Write) && strings.Contains(op.Path, "sessions/"+s.id)
			},
		}
		what := ""
		s.w.fs.Observe(func(i *crashfs.Instant) {
			if i.Op.Err != nil && what == "" {
				what = i.Op.String()
			}
		})
		s.w.fs.Inject(f)
		s.until(seed + uint64(i))
		s.w.fs.Heal()
		n, flushed := s.done()
		s.w.fs.At(func(*crashfs.Instant) {
			what = fmt.Sprintf("%v of %s in step %d, effect %d", f.Err, what, n+1, f.Effect)
		})
		states[must1(s.w.m.Status(s.id))(t).State]++
		x := instant{fs: s.w.fs.Kill(), what: what + ", killed", kill: true, done: n, flushed: flushed}
		if rng.IntN(2) == 0 {
			x = instant{fs: s.w.fs.Crash(rng, crashfs.Random), what: what + ", cut", done: n, flushed: flushed}
		}
		s.check(x)
	}
	t.Logf("afterwards: %v", states)
}

// page is how much the writers of TestCloneCutWhileBusy write at a time.
const page = 4096

// TestCloneCutWhileBusy cuts the power while several write, one flushes, one
// collects garbage and the journal is written anew: every page is as it was when
// the last flush began, or newer.
func TestCloneCutWhileBusy(t *testing.T) {
	const (
		writers = 3
		pages   = 600 // of each
	)
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	w, st, d := smallWorld(t, writers*pages*page)
	type versions [writers * pages]uint32
	var (
		mu                  sync.Mutex
		begun, done, sealed versions // writes of each page begun and done; done when the last flush began
		stop                = make(chan struct{})
		all                 sync.WaitGroup
	)
	loop := func(f func()) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	for i := range writers {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		loop(func() {
			n := i*pages + rng.IntN(pages)
			mu.Lock()
			begun[n]++
			v := begun[n]
			mu.Unlock()
			_, err := d.WriteAt(stamp(n, v), int64(n)*page)
			fail(err)
			mu.Lock()
			done[n] = v
			mu.Unlock()
		})
	}
	loop(func() {
		mu.Lock()
		was := done
		mu.Unlock()
		fail(d.Flush())
		mu.Lock()
		sealed = was
		mu.Unlock()
	})
	loop(func() { w.collect() })

	rng := rand.New(rand.NewPCG(seed, 99))
	states := map[State]int{}
	for i := range 6 {
		for ops := w.fs.Ops(); w.fs.Ops() < ops+uint64(300+rng.IntN(600)); {
			if t.Failed() {
				break
			}
			w.must(d.Flush())
		}
		var cut *crashfs.FS
		var least, most versions
		p := crashfs.Profiles()[i%len(crashfs.Profiles())]
		w.fs.At(func(at *crashfs.Instant) {
			mu.Lock()
			defer mu.Unlock()
			cut, least, most = at.Crash(rng, p), sealed, begun
		})
		x := w.on(cut, "another boot")
		now := must1(x.m.Status(st.Session))(t)
		states[now.State]++
		if now.State == Stale {
			x.collect()
			now = must1(x.m.ResumeClone(st.Session))(t)
		}
		e := x.export(now.Disks[0].Token)
		buf := make([]byte, page)
		for n := range least {
			if _, err := e.ReadAt(buf, int64(n)*page); err != nil {
				t.Fatalf("%s: page %d: %v", p.Name, n, err)
			}
			v := binary.LittleEndian.Uint32(buf[4:])
			if least[n] == 0 && binary.LittleEndian.Uint32(buf) != uint32(n)+1 {
				continue // the point's
			}
			if v < least[n] || v > most[n] || !slices.Equal(buf, stamp(n, v)) {
				t.Fatalf("%s: page %d is of version %d, when the last flush began it was %d, and now %d", p.Name, n, v, least[n], most[n])
			}
		}
		x.stop()
	}
	close(stop)
	all.Wait()
	t.Logf("%v, %d journals written anew", states, w.m.Stats().Rewrites)
}

// stamp is what a page has in a version.
func stamp(n int, v uint32) []byte {
	p := make([]byte, page)
	fill(p, uint64(n)<<16|uint64(v&0xffff))
	binary.LittleEndian.PutUint32(p, uint32(n)+1)
	binary.LittleEndian.PutUint32(p[4:], v)
	return p
}

// TestRottenCloneJournals: a byte that rots in a journal makes its clone dead, or
// stale as it was at some flush. It is never something else.
func TestRottenCloneJournals(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	s := newScript(t)
	flushes := []*memDisk{s.states[0]}
	for i := range int64(40) {
		s.put(i*200_000/4096*4096, 512, rng.Uint64())
		if i%3 == 0 {
			s.put(i*dedup.BlockSize, dedup.BlockSize, rng.Uint64())
		}
		if i%10 == 5 {
			s.flush()
			flushes = append(flushes, s.states[len(s.states)-1])
		}
		if i == 20 {
			old, err := s.d.d.rewriteSteps()
			s.w.must(err)
			s.w.must(old.file.Close())
			flushes = append(flushes, s.states[len(s.states)-1])
		}
	}
	last := s.states[len(s.states)-1]
	path := s.w.m.journalPath(s.id, "vda")
	size := must1(s.w.fs.Stat(path))(t).Size()
	states := map[string]int{}
	for i := range 80 {
		boot, cut := s.w.boot, s.w.fs.Kill()
		if i%2 == 0 {
			boot, cut = "another", s.w.fs.Crash(rng, crashfs.KeepAll)
		}
		x := &world{t: t, fs: cut}
		at, bit := rng.Int64N(size), byte(1)<<rng.IntN(8)
		x.spoil(path, func(b []byte) []byte { b[at] ^= bit; return b })
		x = s.w.on(cut, boot)
		st := must1(x.m.Status(s.id))(t)
		states[fmt.Sprint(boot, " ", st.State)]++
		switch st.State {
		case Dead:
		case Open:
			if err := last.equal(x.export(st.Disks[0].Token)); err != nil || boot != s.w.boot {
				t.Fatalf("bit %d of byte %d, boot %s: it is open: %v", bit, at, boot, err)
			}
		case Stale:
			st = must1(x.m.ResumeClone(s.id))(t)
			d := x.export(st.Disks[0].Token)
			if !slices.ContainsFunc(flushes, func(m *memDisk) bool { return m.equal(d) == nil }) {
				t.Fatalf("bit %d of byte %d, boot %s: it is resumed as what it never was when it was flushed", bit, at, boot)
			}
		}
		x.stop()
	}
	t.Logf("%v", states)
}

// TestCloneVerbsCut cuts the power at each operation of a clone being made, of one
// being resumed and of one being discarded.
func TestCloneVerbsCut(t *testing.T) {
	seed := seedOf(t)
	t.Logf("replay with STRONGROOM_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	w := newWorld(t)
	point := w.point(1<<20, 1)
	base := w.imageContent(point, "vda")

	// each runs a verb, and looks at what it leaves at every instant.
	each := func(verb func(), look func(x *world, what string)) {
		t.Helper()
		var at []instant
		watching := true
		w.fs.Observe(func(i *crashfs.Instant) {
			if !watching {
				return
			}
			at = append(at, instant{fs: i.Kill(), kill: true, what: fmt.Sprintf("kill after %v", i.Op)})
			p := crashfs.Profiles()[rng.IntN(len(crashfs.Profiles()))]
			at = append(at, instant{fs: i.Crash(rng, p), what: fmt.Sprintf("%s after %v", p.Name, i.Op)})
		})
		verb()
		w.fs.At(func(*crashfs.Instant) { watching = false })
		for _, i := range at {
			boot := w.boot
			if !i.kill {
				boot += "'"
			}
			x := w.on(i.fs, boot)
			look(x, i.what)
			x.stop()
		}
	}
	same := func(x *world, what string, st Status, want []byte) {
		t.Helper()
		if !slices.Equal(x.content(x.export(st.Disks[0].Token)), want) {
			t.Fatalf("%s: it has other content", what)
		}
	}

	var st Status
	each(func() { st, _ = w.clone(CloneRequest{Ref: "vm"}) }, func(x *world, what string) {
		switch list := x.m.Clones(); {
		case len(list) == 1 && list[0].State == Open:
			same(x, what, list[0], base)
			if err := x.m.Remove(point); !isInUse(err) {
				t.Fatalf("%s: its point can be removed: %v", what, err)
			}
		case len(list) > 0:
			t.Fatalf("%s: %+v", what, list)
		case len(must1(x.fs.List(x.m.dir))(t)) != 1:
			t.Fatalf("%s: something is left", what)
		}
	})

	d := w.export(st.Disks[0].Token)
	w.write(d, 1000, 100_000, 2)
	w.must(d.Flush())
	want := w.content(d)
	w.write(d, 50_000, 300_000, 3)
	w.powerCut(crashfs.KeepAll, 1)
	old := st
	each(func() { st = must1(w.m.ResumeClone(st.Session))(t) }, func(x *world, what string) {
		now := must1(x.m.Status(old.Session))(t)
		if now.State == Stale {
			x.collect()
			now = must1(x.m.ResumeClone(old.Session))(t)
		}
		for _, ds := range old.Disks {
			if _, err := x.m.OpenExport(ds.Token); !errors.Is(err, ErrStale) {
				t.Fatalf("%s: the token of before: %v", what, err)
			}
		}
		same(x, what, now, want)
	})

	w.write(w.export(st.Disks[0].Token), 0, 5000, 4)
	each(func() { w.must(w.m.DiscardClone(st.Session)) }, func(x *world, what string) {
		now := must1(x.m.Status(old.Session))(t)
		if now.State != Open && now.State != Stale && now.State != Aborted {
			t.Fatalf("%s: it is %s: %s", what, now.State, now.Reason)
		}
		x.must(x.m.DiscardClone(old.Session))
		x.must(x.m.Remove(point))
	})
}
