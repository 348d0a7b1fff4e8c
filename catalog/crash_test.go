package catalog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// moment is what may be found after a crash: the model, or the one that the
// operation under way makes of it. Removed points are forgotten by then.
type moment struct {
	m *model
	o *op // under way, if any
}

// check tells whether a reopened catalog is one of these.
func (x *moment) check(c *Catalog) error {
	err := x.m.forgotten().check(c)
	if err == nil || x.o == nil {
		return err
	}
	if nerr := x.o.next(x.m, c).forgotten().check(c); nerr != nil {
		return fmt.Errorf("neither as before %+v (%w) nor as after it (%w)", x.o, err, nerr)
	}
	return nil
}

// orderRule: nothing reaches the database before the log it comes from is durable.
var orderRule = crashfs.Rule{
	Name:  "metadata log before catalog",
	When:  func(op crashfs.Op) bool { return op.Kind == crashfs.Write && isWAL(op.Path) },
	Clean: func(p string) bool { return strings.HasPrefix(p, "/data/tier0/meta/") },
}

func isWAL(p string) bool {
	return strings.HasPrefix(p, "/data/catalog/") && strings.HasSuffix(p, ".log")
}

type crashState struct {
	op   crashfs.Op
	kind string
	fs   *crashfs.FS
	at   *moment
}

// crashHistory runs random commits, removals and restarts on a crashfs and
// takes a crash of every kind in turn after every k-th operation.
func crashHistory(t *testing.T, seed uint64, k uint64) (states []crashState) {
	fs := crashfs.New()
	dice := rand.New(rand.NewPCG(seed, 7))
	var now atomic.Pointer[moment]
	m := newModel()
	now.Store(&moment{m: m})
	fs.Enforce(orderRule, func(err error) { t.Errorf("seed %d: %v", seed, err) })
	profiles := crashfs.Profiles()
	fs.Observe(func(at *crashfs.Instant) {
		if (at.Op.Seq+seed)%k != 0 {
			return
		}
		s := crashState{op: at.Op, at: now.Load()}
		if i := dice.IntN(len(profiles) + 2); i < len(profiles) {
			s.kind, s.fs = profiles[i].Name, at.Crash(dice, profiles[i])
		} else {
			s.kind, s.fs = "kill", at.Kill()
		}
		states = append(states, s)
	})
	g := &generator{rng: rand.New(rand.NewPCG(seed, 8))}
	o := testOptions(fs)
	o.LogFileBytes = 5000
	for range 3 {
		c := mustOpen(t, o)
		m = m.forgotten()
		c.commit.app.limit, c.commit.app.step = 300, 3 // chunk records go ahead of their point
		for range 16 {
			m = crashStep(t, g, m, c, &now)
			now.Store(&moment{m: m})
		}
		mustClose(t, c)
	}
	fs.Observe(func(*crashfs.Instant) { t.Error("written to after Close") })
	return states
}

func crashStep(t *testing.T, g *generator, m *model, c *Catalog, now *atomic.Pointer[moment]) *model {
	t.Helper()
	at := c.o.Clock()
	o := g.op(m, c, at)
	want := o.verdict(m, at)
	if want == nil {
		now.Store(&moment{m, o})
	}
	if err := o.do(c); !isVerdict(err, want) {
		t.Fatalf("%+v: %v; want %v", o, err, want)
	}
	if want != nil {
		return m
	}
	return o.next(m, c)
}

// TestCrash opens what crashes leave: committed points are whole and equal,
// what was not committed is absent or whole, what was removed stays removed;
// opening again, and rebuilding the database from the log, change nothing; and
// the catalog goes on.
func TestCrash(t *testing.T) {
	n := 0
	for _, seed := range seeds(t, 3) {
		for _, s := range crashHistory(t, seed, 5) {
			checkCrash(t, fmt.Sprintf("seed %d, %s after %v", seed, s.kind, s.op), s)
			n++
		}
	}
	t.Logf("%d crashes", n)
}

func checkCrash(t *testing.T, what string, s crashState) {
	t.Helper()
	o := testOptions(s.fs)
	reopen := func(why string) string {
		c, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %s: %v", what, why, err)
		}
		defer mustClose(t, c)
		if err := s.at.check(c); err != nil {
			t.Fatalf("%s: %s: %v", what, why, err)
		}
		return dump(t, c)
	}
	first := reopen("open")
	if again := reopen("second open"); again != first {
		t.Fatalf("%s: the second open shows\n%s\nthe first\n%s", what, again, first)
	}
	o.FS = s.fs.Crash(rand.New(rand.NewPCG(1, 1)), crashfs.LoseAll)
	if again := reopen("after a power cut behind Open"); again != first {
		t.Fatalf("%s: a power cut behind Open shows\n%s\nbefore\n%s", what, again, first)
	}
	if err := o.FS.RemoveAll(o.Dir); err != nil {
		t.Fatal(err)
	}
	if again := reopen("rebuilt"); again != first {
		t.Fatalf("%s: the rebuilt catalog is\n%s\nit was\n%s", what, again, first)
	}
	goOn(t, what, o)
}

// goOn commits one more point and cuts the power.
func goOn(t *testing.T, what string, o Options) {
	t.Helper()
	c := mustOpen(t, o)
	n := onePoint(99999, "later", ChunkRef{New: testChunk(4711)})
	if _, err := c.Commit(n); err != nil {
		t.Fatalf("%s: going on: %v", what, err)
	}
	want := dump(t, c)
	o.FS = o.FS.(*crashfs.FS).Crash(rand.New(rand.NewPCG(1, 1)), crashfs.LoseAll)
	mustClose(t, c)
	c = mustOpen(t, o)
	defer mustClose(t, c)
	if got := dump(t, c); got != want {
		t.Fatalf("%s: one commit and a power cut later\n%s\nwant\n%s", what, got, want)
	}
}

// TestLogFaults lets each operation on the metadata log fail in turn, during
// commits and removals: the error is returned, a failed sync is final until
// the next open, and what was acknowledged is there after a kill or a cut.
func TestLogFaults(t *testing.T) {
	inLog := func(op crashfs.Op) bool { return op.Seq > 0 && strings.HasPrefix(op.Path, "/data/tier0/meta") }
	runs := 0
	for _, effect := range []crashfs.Effect{crashfs.Before, crashfs.After, crashfs.Short, crashfs.DropDirty} {
		for k := 0; ; k++ {
			what := fmt.Sprintf("log operation %d, effect %d", k, effect)
			if !faultyHistory(t, what, &crashfs.Fault{Match: inLog, Skip: k, Effect: effect, Err: syscall.ENOSPC}) {
				break
			}
			runs++
		}
	}
	t.Logf("%d runs", runs)
}

func faultyHistory(t *testing.T, what string, fault *crashfs.Fault) (fired bool) {
	fs := crashfs.New()
	o := testOptions(fs)
	o.LogFileBytes = 3000
	c := mustOpen(t, o)
	g := &generator{rng: rand.New(rand.NewPCG(3, 3))}
	m := newModel()
	m = step(t, g, m, c)
	fs.Inject(fault)
	at := &moment{m: m}
	for range 8 {
		var err error
		if at, err = faultyStep(g, at, c); err != nil && at == nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err != nil && fs.Fired(fault) == 0 {
			t.Fatalf("%s: %v without a fault", what, err)
		}
		if err != nil {
			break
		}
	}
	if fs.Fired(fault) == 0 {
		mustClose(t, c)
		return false
	}
	checkCrash(t, what+", cut", crashState{fs: fs.Crash(g.rng, crashfs.Random), at: at})
	checkCrash(t, what+", kill", crashState{fs: fs.Kill(), at: at})
	if c.Err() == nil { // the same transaction again, in the same session
		at = retry(t, what, at, c)
		checkCrash(t, what+", tried again", crashState{fs: fs.Crash(g.rng, crashfs.LoseAll), at: at})
	}
	c.Close()
	return true
}

// faultyStep returns what may be found after it, with the error it met.
func faultyStep(g *generator, at *moment, c *Catalog) (*moment, error) {
	now := c.o.Clock()
	o := g.op(at.m, c, now)
	for o.verdict(at.m, now) != nil {
		o = g.op(at.m, c, now)
	}
	if err := o.do(c); err != nil {
		return &moment{at.m, o}, err
	}
	return &moment{m: o.next(at.m, c)}, nil
}

func retry(t *testing.T, what string, at *moment, c *Catalog) *moment {
	t.Helper()
	if at.o == nil {
		return at
	}
	if err := at.o.do(c); err != nil {
		t.Fatalf("%s: again: %v", what, err)
	}
	return &moment{m: at.o.next(at.m, c)}
}

// fatal is a Logger for a database whose disk fails: it stops the caller for
// good and tells the test.
type fatal struct {
	quiet
	called chan string
}

func (f fatal) Fatalf(format string, args ...any) {
	f.called <- fmt.Sprintf(format, args...)
	select {}
}

// TestDatabaseFault: the log is synced, then the database cannot be written.
// The process ends, and the next one finds the point.
func TestDatabaseFault(t *testing.T) {
	for _, kind := range []crashfs.Kind{crashfs.Write, crashfs.Sync} {
		fs := crashfs.New()
		o := testOptions(fs)
		log := fatal{called: make(chan string, 10)}
		o.Logger = log
		c := mustOpen(t, o)
		g := &generator{rng: rand.New(rand.NewPCG(3, 3))}
		m := step(t, g, newModel(), c)
		fs.Inject(&crashfs.Fault{Match: func(op crashfs.Op) bool { return op.Kind == kind && isWAL(op.Path) }, Sticky: true})
		n := g.point(m, c)
		was := m.forgotten()
		done := make(chan error, 1)
		go func() {
			_, err := c.Commit(n)
			done <- err
		}()
		select {
		case <-log.called:
		case err := <-done:
			if err == nil || c.Err() == nil {
				t.Fatalf("%s fault: commit returned %v, Err %v", kind, err, c.Err())
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s fault: neither an error nor Fatalf", kind)
		}
		c2 := mustOpen(t, testOptions(fs.Kill()))
		p, err := c2.Point(n.ID)
		if err != nil {
			t.Fatalf("%s fault: the committed point after the restart: %v", kind, err)
		}
		if err := was.with(&n, p, hashOf(c2)).check(c2); err != nil {
			t.Errorf("%s fault: %v", kind, err)
		}
		mustClose(t, c2)
	}
}
