package powercut

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// ways are how an operation fails, each once and from then on.
var ways = []struct {
	name   string
	err    error
	effect crashfs.Effect
}{
	{"EIO", syscall.EIO, crashfs.Before},
	{"ENOSPC", syscall.ENOSPC, crashfs.Before},
	{"short write, ENOSPC", syscall.ENOSPC, crashfs.Short},
	{"EIO and dirty data dropped", syscall.EIO, crashfs.DropDirty},
	{"EIO after effect", syscall.EIO, crashfs.After},
}

// TestActsFail lets every operation that changes the store fail at its steps,
// in every way, once and for ever: nothing is acknowledged that is not there
// after a restart and after a power cut, the error says what happened, no sync
// is tried again on a file, and a restart brings everything back.
func TestActsFail(t *testing.T) {
	seed := seedOf(t)
	only := os.Getenv("STRONGROOM_ACT")
	if only == "" && soak(t) > 1 {
		for i := range acts {
			failApart(t, seed, acts[i].name)
		}
		return
	}
	b, err := newBase(seed)
	if err != nil {
		t.Fatal(err)
	}
	var total failures
	for i := range acts {
		a := &acts[i]
		if only != "" && only != a.name {
			continue
		}
		n, err := b.failAct(a, seed+uint64(i), perAct(t, 4), &total)
		if err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		t.Logf("%-20s %d faults", a.name, n)
	}
	for _, err := range total.broken[:min(len(total.broken), 10)] {
		t.Errorf("seed %d: %v", seed, err)
	}
	t.Logf("%d faults: %d calls failed, %d times the process had to end, %d times nobody heard of it, %d broken",
		total.runs, total.errs, total.ends, total.silent, len(total.broken))
}

// failApart tests one act in a process of its own: an engine that "had to end"
// stays in memory, its goroutines waiting for ever, until the process ends.
func failApart(t *testing.T, seed uint64, act string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestActsFail$", "-test.v")
	cmd.Env = append(os.Environ(), "STRONGROOM_ACT="+act, fmt.Sprintf("STRONGROOM_SEED=%d", seed))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", act, err)
	}
	t.Logf("%s", out)
}

// failures is what became of faults.
type failures struct {
	mu                       sync.Mutex
	runs, errs, ends, silent int
	broken                   []error
}

// failAct counts an act's operations and lets up to n of them fail.
func (b *base) failAct(a *act, seed, n uint64, total *failures) (runs int, err error) {
	s, err := b.stage(a, seed, mustLive)
	if err == nil {
		err = s.perform(mustLive)
	}
	if err != nil {
		return 0, err
	}
	ops := s.fs.Ops() - s.from
	if err := s.d.e.stop(); err != nil {
		return 0, err
	}
	rng := rand.New(rand.NewPCG(seed, 6))
	type one struct {
		k      uint64
		way    int
		sticky bool
	}
	todo := make(chan one)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for o := range todo {
				f := &failing{base: b, act: a, seed: seed, k: o.k, way: o.way, sticky: o.sticky}
				f.run()
				total.add(f)
			}
		})
	}
	perStep := 1
	if n >= everyStep { // and in every way
		perStep = 2 * len(ways)
	}
	chosen := slices.Sorted(maps.Keys(pick(ops, n, rng)))
	for _, k := range chosen {
		for range perStep {
			todo <- one{k, runs % len(ways), runs/len(ways)%2 == 1}
			runs++
		}
	}
	close(todo)
	wg.Wait()
	return runs, nil
}

func (t *failures) add(f *failing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs++
	switch {
	case f.ended:
		t.ends++
	case f.told != nil:
		t.errs++
	default:
		t.silent++
	}
	if f.broken != nil {
		t.broken = append(t.broken, fmt.Errorf("%s, operation %d of it fails (%s, for ever: %v; %v; the call said: %v): %w",
			f.act.name, f.k, ways[f.way].name, f.sticky, f.hit, f.told, f.broken))
	}
}

// failing is an act of which one operation fails.
type failing struct {
	base   *base
	act    *act
	seed   uint64
	k      uint64
	way    int
	sticky bool

	hit    crashfs.Op // what failed first
	told   error      // what the call said
	ended  bool       // the process had to end
	broken error
}

func (f *failing) run() {
	last := make(chan struct{})
	var once sync.Once
	words := lastWords{fatal: func(string) { once.Do(func() { close(last) }) }}
	s, err := f.base.stage(f.act, f.seed, words)
	if err != nil {
		f.broken = err
		return
	}
	trace := crashfs.Record(s.fs)
	w := ways[f.way]
	// Pebble 2.1.7 may panic on a goroutine of its own when it fails to open: the
	// process ends, with the test in it. (TestActsCut ends it there, too.)
	s.fs.Inject(&crashfs.Fault{Err: w.err, Effect: w.effect, Sticky: f.sticky, Match: func(op crashfs.Op) bool {
		return (op.Seq == s.from+f.k || f.sticky && op.Seq > s.from+f.k) && survivable(op) && (!f.act.closed || ours(op.Path))
	}})
	done := make(chan error, 1)
	go func() { done <- f.work(s, words) }()
	select {
	case f.broken = <-done:
	case <-last:
		f.ended = true
	case <-time.After(time.Minute):
		f.broken = errors.New("it hangs")
	}
	f.after(s, trace)
}

// work does the act and closes the engine, whatever happens.
func (f *failing) work(s *stage, words lastWords) error {
	f.told = s.perform(words)
	var b *broken
	if errors.As(f.told, &b) {
		return b
	}
	if f.told != nil && !isClear(f.told) {
		return fmt.Errorf("the error does not say what failed: %w", f.told)
	}
	if f.act.closed { // what could not be made durable may be a session's
		s.m.doomAll()
	}
	if s.d.e.store == nil { // it did not open
		return nil
	}
	if f.told != nil {
		if err := s.d.giveWay(f.sticky); err != nil {
			return err
		}
	}
	if err := s.d.e.stop(); err != nil {
		s.m.doomAll()
	}
	return nil
}

// isClear reports whether an error names what it is about and the cause.
func isClear(err error) bool {
	text := err.Error()
	return strings.Contains(text, " /") || strings.Contains(text, "pack ") || strings.Contains(text, "session ") || strings.Contains(text, "space")
}

// after looks at what a restart and a power cut would find.
func (f *failing) after(s *stage, trace *crashfs.Trace) {
	kill := &cut{boot: 1, seed: f.seed + f.k, what: "restart after it", twice: true}
	power := &cut{boot: 1, seed: f.seed + f.k + 1, power: true, mayDie: true, what: "power cut after it"}
	s.fs.At(func(at *crashfs.Instant) {
		kill.fs, kill.m = at.Kill(), s.m.snapshot()
		power.fs, power.m = at.Crash(nil, crashfs.LoseAll), s.m.snapshot()
	})
	s.fs.Heal()  // what was left running finds an end
	if f.ended { // or waits for ever, but not with all that
		defer s.fs.Discard()
	}
	var ops []crashfs.Op
	for _, op := range trace.Ops() {
		if op.Err != nil && f.hit.Seq == 0 {
			f.hit = op
		}
		if op.Kind != crashfs.SyncDir { // there is no other directory to use instead
			ops = append(ops, op)
		}
	}
	_, err := kill.survive(0)
	_, err2 := power.survive(0)
	f.broken = errors.Join(f.broken, err, err2, crashfs.CheckFailedSyncs(slices.Clip(ops), nil))
}
